-- The generation of rollouts, releases and sites; the next dense device number.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('generation', 1), ('device_number', 0);

CREATE TABLE sites (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    tz TEXT NOT NULL,
    labels TEXT NOT NULL, -- JSON object
    trading TEXT NOT NULL, -- JSON array of weekly spans
    bandwidth TEXT NOT NULL, -- JSON array of limits
    state INTEGER NOT NULL, -- 0 active, 1 suspended, 2 closed
    state_reason TEXT NOT NULL,
    suspended_at INTEGER, -- its last suspension, which may be over
    resumed_at INTEGER,
    hold_reason TEXT,
    hold_until INTEGER
) STRICT;

CREATE TABLE freezes (
    name TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    first_day TEXT NOT NULL, -- as in 2026-11-26, by each device's own clock
    last_day TEXT NOT NULL,
    selector TEXT, -- every device without one
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    id BLOB NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE, -- dense; the member of phase sets
    revision INTEGER NOT NULL, -- rises with every change but last_seen; grants are conditional on it
    name TEXT NOT NULL UNIQUE,
    site_id TEXT REFERENCES sites (id),
    description TEXT NOT NULL,
    serial TEXT UNIQUE,
    labels TEXT NOT NULL, -- JSON object, the device's own
    spki BLOB UNIQUE, -- SHA-256 of the public key; the identity in TLS
    certificate TEXT,
    enrol_token BLOB,
    enrolled_at INTEGER,
    last_seen INTEGER,
    away_since INTEGER, -- its last absence: last seen before it, and back
    back_at INTEGER,
    boot_id TEXT,
    busy_at INTEGER, -- its last check-in at which its agent was at work, and on which assignment
    busy_on BLOB,
    rhythm BLOB, -- a bit for each hour of the week in which it is usually there; none before its first check-in
    hw TEXT NOT NULL,
    arch TEXT NOT NULL,
    agent TEXT NOT NULL,
    agent_key TEXT, -- sort key of the agent's version, if it is one
    tz TEXT, -- as reported, if it is a known zone
    channels TEXT NOT NULL, -- JSON array
    attributes TEXT NOT NULL, -- JSON object
    installed TEXT NOT NULL, -- JSON object: product -> version, sort key, release, epoch, counter, floor
    hold_reason TEXT,
    hold_until INTEGER,
    decommissioned_at INTEGER,
    image_id TEXT, -- the installation of its system, if it told one
    imaged_at INTEGER -- since when, if it is not the first one
) STRICT;
CREATE INDEX devices_last_seen ON devices (last_seen);
CREATE INDEX devices_site ON devices (site_id);

-- A device's next key, from when its certificate was issued until it is used; the one in devices is good until then.
CREATE TABLE renewals (
    device_id BLOB NOT NULL PRIMARY KEY REFERENCES devices (id),
    spki BLOB NOT NULL UNIQUE,
    certificate TEXT NOT NULL,
    issued_at INTEGER NOT NULL
) STRICT;

-- Changes of single devices, tailed by the other servers on the same database.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE TABLE api_tokens (
    id BLOB NOT NULL PRIMARY KEY,
    secret_sha256 BLOB NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE enrol_tokens (
    id BLOB NOT NULL PRIMARY KEY,
    secret_sha256 BLOB NOT NULL,
    device_id BLOB REFERENCES devices (id),
    site_id TEXT REFERENCES sites (id),
    labels TEXT NOT NULL, -- JSON object
    uses INTEGER NOT NULL,
    max_uses INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    serial_pattern TEXT, -- only serial numbers that match this glob
    waits INTEGER NOT NULL -- 1: who uses it waits for an operator
) STRICT;

-- Keys that asked to become a device and wait for an operator, or were decided on and did not ask again yet.
CREATE TABLE enrolments (
    id BLOB NOT NULL PRIMARY KEY,
    spki BLOB NOT NULL UNIQUE,
    token_id BLOB NOT NULL REFERENCES enrol_tokens (id),
    state INTEGER NOT NULL, -- 0 waiting, 1 accepted, 2 rejected
    why TEXT NOT NULL,
    device_id BLOB REFERENCES devices (id), -- claims to be this one, or will be
    name TEXT,
    serial TEXT,
    hw TEXT NOT NULL,
    arch TEXT NOT NULL,
    source TEXT,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    decided_by TEXT
) STRICT;
CREATE INDEX enrolments_token ON enrolments (token_id);

CREATE TABLE roots (
    version INTEGER NOT NULL PRIMARY KEY,
    envelope BLOB NOT NULL, -- the bytes received
    published_at INTEGER NOT NULL
) STRICT;

CREATE TABLE heads (
    epoch INTEGER NOT NULL,
    serial INTEGER NOT NULL,
    envelope BLOB NOT NULL, -- the bytes received
    published_at INTEGER NOT NULL,
    PRIMARY KEY (epoch, serial)
) STRICT;

CREATE TABLE payloads (
    sha256 BLOB NOT NULL PRIMARY KEY,
    size INTEGER NOT NULL,
    chunks_sha256 BLOB NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT;

CREATE TABLE releases (
    sha256 BLOB NOT NULL PRIMARY KEY, -- of the signed bytes
    product TEXT NOT NULL,
    version TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    envelope BLOB NOT NULL, -- the bytes received
    published_at INTEGER NOT NULL,
    UNIQUE (product, epoch, counter),
    UNIQUE (product, version)
) STRICT;

CREATE TABLE rollouts (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    release BLOB NOT NULL REFERENCES releases (sha256),
    spec TEXT NOT NULL, -- JSON, as it was asked for
    state INTEGER NOT NULL, -- 0 draft, 1 running, 2 paused, 3 completed, 4 cancelled
    state_reason TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    open_phase INTEGER NOT NULL,
    excluded BLOB NOT NULL, -- roaring set of device numbers that need nothing or can have nothing
    streak TEXT NOT NULL, -- JSON array: ids of the assignments that failed since the last success
    offer_minute INTEGER NOT NULL, -- of the last offer, counted from 1970, if it has a pace
    offers INTEGER NOT NULL, -- in that minute
    undoes TEXT UNIQUE REFERENCES rollouts (name), -- whose release it takes back
    created_by TEXT NOT NULL, -- name of the API token, as in the next two
    edited_by TEXT,
    countersigned_by TEXT, -- the second person who approved it as it is
    countersigned_at INTEGER
) STRICT;
CREATE INDEX rollouts_state ON rollouts (state);

CREATE TABLE phases (
    rollout_id BLOB NOT NULL REFERENCES rollouts (id),
    idx INTEGER NOT NULL,
    name TEXT NOT NULL,
    members BLOB NOT NULL, -- roaring set of device numbers
    opened_at INTEGER,
    met_at INTEGER, -- since when the gate is met without a break
    soak_skipped_at INTEGER,
    approved_at INTEGER,
    approved_by TEXT,
    PRIMARY KEY (rollout_id, idx)
) STRICT;

-- Who is excluded from a rollout, by why: the sets together are the rollout's own.
CREATE TABLE exclusions (
    rollout_id BLOB NOT NULL REFERENCES rollouts (id),
    why TEXT NOT NULL, -- already_installed, out_of_service, or the code of what does not fit
    members BLOB NOT NULL, -- roaring set of device numbers
    PRIMARY KEY (rollout_id, why)
) STRICT;

-- How the devices of a phase stand: what a recount of the assignments gives.
CREATE TABLE counts (
    rollout_id BLOB NOT NULL,
    idx INTEGER NOT NULL,
    size INTEGER NOT NULL, -- members
    excluded INTEGER NOT NULL, -- of these, those that need nothing or can have nothing
    queued INTEGER NOT NULL,
    downloading INTEGER NOT NULL,
    staged INTEGER NOT NULL,
    deferred_window INTEGER NOT NULL, -- of the three above, those that could go on, by why they do not
    deferred_trading_hours INTEGER NOT NULL,
    deferred_freeze INTEGER NOT NULL,
    deferred_inhibitor INTEGER NOT NULL,
    deferred_user INTEGER NOT NULL,
    activating INTEGER NOT NULL,
    verifying INTEGER NOT NULL,
    silent INTEGER NOT NULL, -- of the two above
    succeeded INTEGER NOT NULL,
    rolled_back INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    timed_out INTEGER NOT NULL,
    cancelled INTEGER NOT NULL, -- expired ones too
    acknowledged INTEGER NOT NULL, -- of the rolled back and failed ones, those that an operator took note of
    bytes_served INTEGER NOT NULL, -- to devices that were downloading
    first_at INTEGER, -- when one of the counters above changed first, and last
    last_at INTEGER,
    PRIMARY KEY (rollout_id, idx),
    FOREIGN KEY (rollout_id, idx) REFERENCES phases (rollout_id, idx)
) STRICT;

CREATE TABLE assignments (
    id BLOB NOT NULL PRIMARY KEY,
    rollout_id BLOB NOT NULL REFERENCES rollouts (id),
    device_id BLOB NOT NULL REFERENCES devices (id),
    release BLOB NOT NULL,
    phase INTEGER NOT NULL,
    state INTEGER NOT NULL, -- order of proto's AssignmentState
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL, -- that were followed by another attempt
    seq INTEGER NOT NULL, -- of the last report of this attempt
    not_before INTEGER, -- of the next attempt
    failure TEXT, -- JSON
    granted_at INTEGER NOT NULL, -- when it was granted what it holds, or held last
    granted_site TEXT, -- where the device stood then
    heard_at INTEGER NOT NULL, -- the last sign of life that was written down
    begun INTEGER NOT NULL, -- 1 when the device has said that it switches
    lapsed INTEGER NOT NULL, -- 1 when its last grant lapsed
    silent INTEGER NOT NULL, -- 1 when it has begun and was not heard of for long
    departed INTEGER NOT NULL, -- 1 when it was cancelled because the device left
    deferred INTEGER, -- why it waits; order of policy's Deferral
    attention_since INTEGER, -- of a failure that nobody has dealt with
    timer_at INTEGER, -- when silence leads to something; none if no timer runs
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (rollout_id, device_id)
) STRICT;
CREATE INDEX assignments_device ON assignments (device_id);
CREATE INDEX assignments_state ON assignments (rollout_id, state, granted_at);
CREATE INDEX assignments_site ON assignments (rollout_id, granted_site, state);
CREATE INDEX assignments_timer ON assignments (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX assignments_attention ON assignments (id) WHERE attention_since IS NOT NULL;

-- How many devices were done with a rollout in an hour: what forecasts are made of.
CREATE TABLE hours (
    rollout_id BLOB NOT NULL REFERENCES rollouts (id),
    start INTEGER NOT NULL, -- of the hour
    done INTEGER NOT NULL, -- fewer than none if more began anew than were done
    PRIMARY KEY (rollout_id, start)
) STRICT;

-- Releases that rolled back on a device: no rollout offers them to it, until an operator asks for another try.
CREATE TABLE penalties (
    device_id BLOB NOT NULL REFERENCES devices (id),
    release BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (device_id, release)
) STRICT;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    device_id BLOB,
    rollout_id BLOB,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_device ON events (device_id, seq);
CREATE INDEX events_rollout ON events (rollout_id, seq);
