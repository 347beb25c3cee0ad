-- Where whoever made a token may let devices in, JSON array of selectors: no device elsewhere is taken over with it. NULL is the
-- whole fleet.
ALTER TABLE enrol_tokens ADD COLUMN reach TEXT COLLATE "C";
