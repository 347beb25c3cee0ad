-- Requests that came with a key of the client's own, and how they were answered: asked again, they are answered so again.
CREATE TABLE answers (
    asker TEXT COLLATE "C" NOT NULL, -- token or person
    key_sha256 BYTEA NOT NULL,
    request_sha256 BYTEA NOT NULL,
    asked_at BIGINT NOT NULL,
    status BIGINT NOT NULL, -- 0 as long as it is not answered
    sealed BYTEA NOT NULL, -- under the key, which is not here
    PRIMARY KEY (asker, key_sha256)
);
CREATE INDEX answers_asked_at ON answers (asked_at);
