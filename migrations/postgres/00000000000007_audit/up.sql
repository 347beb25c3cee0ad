-- Changes that somebody makes are events that are links of a chain of hashes; what devices do, and what happens by itself, is
-- none. Changes from before this table are not in the chain.
ALTER TABLE events ADD COLUMN link BIGINT;
ALTER TABLE events ADD COLUMN hash BYTEA;
ALTER TABLE events ADD COLUMN who TEXT COLLATE "C";
ALTER TABLE events ADD COLUMN person TEXT COLLATE "C";
ALTER TABLE events ADD COLUMN source TEXT COLLATE "C"; -- the address that asked
ALTER TABLE events ADD COLUMN before TEXT COLLATE "C"; -- JSON
ALTER TABLE events ADD COLUMN after TEXT COLLATE "C"; -- JSON
CREATE UNIQUE INDEX events_link ON events (link) WHERE link IS NOT NULL;

-- The last link that was dropped because of its age; one row.
CREATE TABLE audit_start (
    link BIGINT NOT NULL PRIMARY KEY,
    hash BYTEA NOT NULL
);
INSERT INTO audit_start (link, hash) VALUES (0, '\x0000000000000000000000000000000000000000000000000000000000000000');
