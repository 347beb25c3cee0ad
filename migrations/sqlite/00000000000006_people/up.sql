-- People who log in.
CREATE TABLE users (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL, -- argon2id with its parameters and salt
    grants TEXT NOT NULL, -- as in api_tokens
    totp BLOB, -- the secret for codes, if a login takes one
    totp_used INTEGER, -- the last step whose code was used
    created_at INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT;

CREATE TABLE sessions (
    id BLOB NOT NULL PRIMARY KEY,
    secret_sha256 BLOB NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    source TEXT -- the address that logged in
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id);

-- The person who made a token, or whose token made it: who answers for what is done with it.
ALTER TABLE api_tokens ADD COLUMN person TEXT;
