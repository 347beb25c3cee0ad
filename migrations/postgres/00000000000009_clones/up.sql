-- What is doubted, and what is allowed, about who a device is: that it may have a copy, and until when it may enrol again
-- although it has a key. A JSON object; nothing if there is neither.
ALTER TABLE devices ADD COLUMN identity TEXT COLLATE "C";
