-- What a device says that it refused.
CREATE TABLE attacks (
    device_id BLOB NOT NULL PRIMARY KEY REFERENCES devices (id),
    counters TEXT NOT NULL, -- JSON object, by kind
    risen_at INTEGER -- when one of them rose last, until an operator has taken note
) STRICT;
CREATE INDEX attacks_risen_at ON attacks (risen_at) WHERE risen_at IS NOT NULL;
