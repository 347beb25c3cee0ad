-- Requests that came with a key of the client's own, and how they were answered: asked again, they are answered so again.
CREATE TABLE answers (
    asker TEXT NOT NULL, -- token or person
    key_sha256 BLOB NOT NULL,
    request_sha256 BLOB NOT NULL,
    asked_at INTEGER NOT NULL,
    status INTEGER NOT NULL, -- 0 as long as it is not answered
    sealed BLOB NOT NULL, -- under the key, which is not here
    PRIMARY KEY (asker, key_sha256)
) STRICT;
CREATE INDEX answers_asked_at ON answers (asked_at);
