-- What is told to others: the few kinds of events that somebody outside waits for, in the order in which they happened.
CREATE TABLE notices (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    device_id BLOB,
    rollout_id BLOB,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX notices_at ON notices (at);

CREATE TABLE webhooks (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    secret TEXT NOT NULL, -- signs what is sent, so it is needed as it is
    kinds TEXT NOT NULL, -- JSON array
    created_at INTEGER NOT NULL
) STRICT;

-- What is to be sent to whom, and what became of it.
CREATE TABLE deliveries (
    id BLOB NOT NULL PRIMARY KEY,
    webhook_id BLOB NOT NULL REFERENCES webhooks (id),
    kind TEXT NOT NULL,
    body TEXT NOT NULL, -- the bytes that are sent
    state INTEGER NOT NULL, -- 0 waiting, 1 delivered, 2 dead
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL, -- of the next attempt; when it ended, afterwards
    error TEXT, -- of the last attempt
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 0;
CREATE INDEX deliveries_webhook ON deliveries (webhook_id, id);
