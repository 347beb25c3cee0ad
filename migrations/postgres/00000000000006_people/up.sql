-- People who log in.
CREATE TABLE users (
    id BYTEA NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    password TEXT COLLATE "C" NOT NULL, -- argon2id with its parameters and salt
    grants TEXT COLLATE "C" NOT NULL, -- as in api_tokens
    totp BYTEA, -- the secret for codes, if a login takes one
    totp_used BIGINT, -- the last step whose code was used
    created_at BIGINT NOT NULL,
    disabled_at BIGINT
);

CREATE TABLE sessions (
    id BYTEA NOT NULL PRIMARY KEY,
    secret_sha256 BYTEA NOT NULL,
    user_id BYTEA NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    source TEXT COLLATE "C" -- the address that logged in
);
CREATE INDEX sessions_user ON sessions (user_id);

-- The person who made a token, or whose token made it: who answers for what is done with it.
ALTER TABLE api_tokens ADD COLUMN person TEXT COLLATE "C";
