-- Changes that somebody makes are events that are links of a chain of hashes; what devices do, and what happens by itself, is
-- none. Changes from before this table are not in the chain.
ALTER TABLE events ADD COLUMN link INTEGER;
ALTER TABLE events ADD COLUMN hash BLOB;
ALTER TABLE events ADD COLUMN who TEXT;
ALTER TABLE events ADD COLUMN person TEXT;
ALTER TABLE events ADD COLUMN source TEXT; -- the address that asked
ALTER TABLE events ADD COLUMN before TEXT; -- JSON
ALTER TABLE events ADD COLUMN after TEXT; -- JSON
CREATE UNIQUE INDEX events_link ON events (link) WHERE link IS NOT NULL;

-- The last link that was dropped because of its age; one row.
CREATE TABLE audit_start (
    link INTEGER NOT NULL PRIMARY KEY,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_start (link, hash) VALUES (0, x'0000000000000000000000000000000000000000000000000000000000000000');
