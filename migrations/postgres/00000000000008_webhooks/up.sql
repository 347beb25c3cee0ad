-- What is told to others: the few kinds of events that somebody outside waits for, in the order in which they happened.
CREATE TABLE notices (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    device_id BYTEA,
    rollout_id BYTEA,
    text TEXT COLLATE "C" NOT NULL
);
CREATE INDEX notices_at ON notices (at);

CREATE TABLE webhooks (
    id BYTEA NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    url TEXT COLLATE "C" NOT NULL,
    secret TEXT COLLATE "C" NOT NULL, -- signs what is sent, so it is needed as it is
    kinds TEXT COLLATE "C" NOT NULL, -- JSON array
    created_at BIGINT NOT NULL
);

-- What is to be sent to whom, and what became of it.
CREATE TABLE deliveries (
    id BYTEA NOT NULL PRIMARY KEY,
    webhook_id BYTEA NOT NULL REFERENCES webhooks (id),
    kind TEXT COLLATE "C" NOT NULL,
    body TEXT COLLATE "C" NOT NULL, -- the bytes that are sent
    state SMALLINT NOT NULL, -- 0 waiting, 1 delivered, 2 dead
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL, -- of the next attempt; when it ended, afterwards
    error TEXT COLLATE "C", -- of the last attempt
    created_at BIGINT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 0;
CREATE INDEX deliveries_webhook ON deliveries (webhook_id, id);
