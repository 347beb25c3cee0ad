-- What is known of the presence of a device and of no use to queries: its last absence, and the connection that is owed an
-- offer, as one JSON object. An absence that was known before is forgotten.
ALTER TABLE devices DROP COLUMN away_since;
ALTER TABLE devices DROP COLUMN back_at;
ALTER TABLE devices ADD COLUMN presence TEXT COLLATE "C";

-- Where whole sites move, JSON object: site -> phase.
ALTER TABLE rollouts ADD COLUMN sites TEXT COLLATE "C";
