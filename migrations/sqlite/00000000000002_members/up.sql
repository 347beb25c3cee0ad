-- What membership has come to since rollouts started: devices that joined late, that were excluded, or came back. For all
-- others the sets of phases and exclusions hold, which a start writes once.
CREATE TABLE members (
    rollout_id BLOB NOT NULL REFERENCES rollouts (id),
    number INTEGER NOT NULL REFERENCES devices (number),
    phase INTEGER NOT NULL,
    excluded TEXT, -- why it does not count, as in exclusions
    PRIMARY KEY (rollout_id, number)
) STRICT;
CREATE INDEX members_number ON members (number);

-- How many members of a phase do not count, by why. Of rollouts from before this table only their sum is known.
CREATE TABLE excluded (
    rollout_id BLOB NOT NULL,
    idx INTEGER NOT NULL,
    why TEXT NOT NULL,
    devices INTEGER NOT NULL,
    PRIMARY KEY (rollout_id, idx, why),
    FOREIGN KEY (rollout_id, idx) REFERENCES phases (rollout_id, idx)
) STRICT;

-- The sets in exclusions say the same.
ALTER TABLE rollouts DROP COLUMN excluded;

-- How often devices left for good: a start that has looked at the fleet meanwhile looks again.
INSERT INTO counters (name, value) VALUES ('departures', 0);
