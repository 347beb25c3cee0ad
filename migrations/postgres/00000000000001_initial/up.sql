-- The generation of rollouts, releases and sites; the next dense device number.
CREATE TABLE counters (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('generation', 1), ('device_number', 0);

CREATE TABLE sites (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    tz TEXT COLLATE "C" NOT NULL,
    labels TEXT COLLATE "C" NOT NULL, -- JSON object
    trading TEXT COLLATE "C" NOT NULL, -- JSON array of weekly spans
    bandwidth TEXT COLLATE "C" NOT NULL, -- JSON array of limits
    state SMALLINT NOT NULL, -- 0 active, 1 suspended, 2 closed
    state_reason TEXT COLLATE "C" NOT NULL,
    suspended_at BIGINT, -- its last suspension, which may be over
    resumed_at BIGINT,
    hold_reason TEXT COLLATE "C",
    hold_until BIGINT
);

CREATE TABLE freezes (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    reason TEXT COLLATE "C" NOT NULL,
    first_day TEXT COLLATE "C" NOT NULL, -- as in 2026-11-26, by each device's own clock
    last_day TEXT COLLATE "C" NOT NULL,
    selector TEXT COLLATE "C", -- every device without one
    created_by TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE devices (
    id BYTEA NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE, -- dense; the member of phase sets
    revision BIGINT NOT NULL, -- rises with every change but last_seen; grants are conditional on it
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    site_id TEXT COLLATE "C" REFERENCES sites (id),
    description TEXT COLLATE "C" NOT NULL,
    serial TEXT COLLATE "C" UNIQUE,
    labels TEXT COLLATE "C" NOT NULL, -- JSON object, the device's own
    spki BYTEA UNIQUE, -- SHA-256 of the public key; the identity in TLS
    certificate TEXT COLLATE "C",
    enrol_token BYTEA,
    enrolled_at BIGINT,
    last_seen BIGINT,
    away_since BIGINT, -- its last absence: last seen before it, and back
    back_at BIGINT,
    boot_id TEXT COLLATE "C",
    busy_at BIGINT, -- its last check-in at which its agent was at work, and on which assignment
    busy_on BYTEA,
    rhythm BYTEA, -- a bit for each hour of the week in which it is usually there; none before its first check-in
    hw TEXT COLLATE "C" NOT NULL,
    arch TEXT COLLATE "C" NOT NULL,
    agent TEXT COLLATE "C" NOT NULL,
    agent_key TEXT COLLATE "C", -- sort key of the agent's version, if it is one
    tz TEXT COLLATE "C", -- as reported, if it is a known zone
    channels TEXT COLLATE "C" NOT NULL, -- JSON array
    attributes TEXT COLLATE "C" NOT NULL, -- JSON object
    installed TEXT COLLATE "C" NOT NULL, -- JSON object: product -> version, sort key, release, epoch, counter, floor
    hold_reason TEXT COLLATE "C",
    hold_until BIGINT,
    decommissioned_at BIGINT,
    image_id TEXT COLLATE "C", -- the installation of its system, if it told one
    imaged_at BIGINT -- since when, if it is not the first one
);
CREATE INDEX devices_last_seen ON devices (last_seen);
CREATE INDEX devices_site ON devices (site_id);

-- A device's next key, from when its certificate was issued until it is used; the one in devices is good until then.
CREATE TABLE renewals (
    device_id BYTEA NOT NULL PRIMARY KEY REFERENCES devices (id),
    spki BYTEA NOT NULL UNIQUE,
    certificate TEXT COLLATE "C" NOT NULL,
    issued_at BIGINT NOT NULL
);

-- Changes of single devices, tailed by the other servers on the same database.
CREATE TABLE changes (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id BYTEA NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE api_tokens (
    id BYTEA NOT NULL PRIMARY KEY,
    secret_sha256 BYTEA NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE enrol_tokens (
    id BYTEA NOT NULL PRIMARY KEY,
    secret_sha256 BYTEA NOT NULL,
    device_id BYTEA REFERENCES devices (id),
    site_id TEXT COLLATE "C" REFERENCES sites (id),
    labels TEXT COLLATE "C" NOT NULL, -- JSON object
    uses BIGINT NOT NULL,
    max_uses BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    serial_pattern TEXT COLLATE "C", -- only serial numbers that match this glob
    waits SMALLINT NOT NULL -- 1: who uses it waits for an operator
);

-- Keys that asked to become a device and wait for an operator, or were decided on and did not ask again yet.
CREATE TABLE enrolments (
    id BYTEA NOT NULL PRIMARY KEY,
    spki BYTEA NOT NULL UNIQUE,
    token_id BYTEA NOT NULL REFERENCES enrol_tokens (id),
    state SMALLINT NOT NULL, -- 0 waiting, 1 accepted, 2 rejected
    why TEXT COLLATE "C" NOT NULL,
    device_id BYTEA REFERENCES devices (id), -- claims to be this one, or will be
    name TEXT COLLATE "C",
    serial TEXT COLLATE "C",
    hw TEXT COLLATE "C" NOT NULL,
    arch TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C",
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    decided_by TEXT COLLATE "C"
);
CREATE INDEX enrolments_token ON enrolments (token_id);

CREATE TABLE roots (
    version BIGINT NOT NULL PRIMARY KEY,
    envelope BYTEA NOT NULL, -- the bytes received
    published_at BIGINT NOT NULL
);

CREATE TABLE heads (
    epoch BIGINT NOT NULL,
    serial BIGINT NOT NULL,
    envelope BYTEA NOT NULL, -- the bytes received
    published_at BIGINT NOT NULL,
    PRIMARY KEY (epoch, serial)
);

CREATE TABLE payloads (
    sha256 BYTEA NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL,
    chunks_sha256 BYTEA NOT NULL,
    stored_at BIGINT NOT NULL
);

CREATE TABLE releases (
    sha256 BYTEA NOT NULL PRIMARY KEY, -- of the signed bytes
    product TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    counter BIGINT NOT NULL,
    envelope BYTEA NOT NULL, -- the bytes received
    published_at BIGINT NOT NULL,
    UNIQUE (product, epoch, counter),
    UNIQUE (product, version)
);

CREATE TABLE rollouts (
    id BYTEA NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    release BYTEA NOT NULL REFERENCES releases (sha256),
    spec TEXT COLLATE "C" NOT NULL, -- JSON, as it was asked for
    state SMALLINT NOT NULL, -- 0 draft, 1 running, 2 paused, 3 completed, 4 cancelled
    state_reason TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    open_phase BIGINT NOT NULL,
    excluded BYTEA NOT NULL, -- roaring set of device numbers that need nothing or can have nothing
    streak TEXT COLLATE "C" NOT NULL, -- JSON array: ids of the assignments that failed since the last success
    offer_minute BIGINT NOT NULL, -- of the last offer, counted from 1970, if it has a pace
    offers BIGINT NOT NULL, -- in that minute
    undoes TEXT COLLATE "C" UNIQUE REFERENCES rollouts (name), -- whose release it takes back
    created_by TEXT COLLATE "C" NOT NULL, -- name of the API token, as in the next two
    edited_by TEXT COLLATE "C",
    countersigned_by TEXT COLLATE "C", -- the second person who approved it as it is
    countersigned_at BIGINT
);
CREATE INDEX rollouts_state ON rollouts (state);

CREATE TABLE phases (
    rollout_id BYTEA NOT NULL REFERENCES rollouts (id),
    idx BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    members BYTEA NOT NULL, -- roaring set of device numbers
    opened_at BIGINT,
    met_at BIGINT, -- since when the gate is met without a break
    soak_skipped_at BIGINT,
    approved_at BIGINT,
    approved_by TEXT COLLATE "C",
    PRIMARY KEY (rollout_id, idx)
);

-- Who is excluded from a rollout, by why: the sets together are the rollout's own.
CREATE TABLE exclusions (
    rollout_id BYTEA NOT NULL REFERENCES rollouts (id),
    why TEXT COLLATE "C" NOT NULL, -- already_installed, out_of_service, or the code of what does not fit
    members BYTEA NOT NULL, -- roaring set of device numbers
    PRIMARY KEY (rollout_id, why)
);

-- How the devices of a phase stand: what a recount of the assignments gives.
CREATE TABLE counts (
    rollout_id BYTEA NOT NULL,
    idx BIGINT NOT NULL,
    size BIGINT NOT NULL, -- members
    excluded BIGINT NOT NULL, -- of these, those that need nothing or can have nothing
    queued BIGINT NOT NULL,
    downloading BIGINT NOT NULL,
    staged BIGINT NOT NULL,
    deferred_window BIGINT NOT NULL, -- of the three above, those that could go on, by why they do not
    deferred_trading_hours BIGINT NOT NULL,
    deferred_freeze BIGINT NOT NULL,
    deferred_inhibitor BIGINT NOT NULL,
    deferred_user BIGINT NOT NULL,
    activating BIGINT NOT NULL,
    verifying BIGINT NOT NULL,
    silent BIGINT NOT NULL, -- of the two above
    succeeded BIGINT NOT NULL,
    rolled_back BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    timed_out BIGINT NOT NULL,
    cancelled BIGINT NOT NULL, -- expired ones too
    acknowledged BIGINT NOT NULL, -- of the rolled back and failed ones, those that an operator took note of
    bytes_served BIGINT NOT NULL, -- to devices that were downloading
    first_at BIGINT, -- when one of the counters above changed first, and last
    last_at BIGINT,
    PRIMARY KEY (rollout_id, idx),
    FOREIGN KEY (rollout_id, idx) REFERENCES phases (rollout_id, idx)
);

CREATE TABLE assignments (
    id BYTEA NOT NULL PRIMARY KEY,
    rollout_id BYTEA NOT NULL REFERENCES rollouts (id),
    device_id BYTEA NOT NULL REFERENCES devices (id),
    release BYTEA NOT NULL,
    phase BIGINT NOT NULL,
    state SMALLINT NOT NULL, -- order of proto's AssignmentState
    attempt BIGINT NOT NULL,
    failures BIGINT NOT NULL, -- that were followed by another attempt
    seq BIGINT NOT NULL, -- of the last report of this attempt
    not_before BIGINT, -- of the next attempt
    failure TEXT COLLATE "C", -- JSON
    granted_at BIGINT NOT NULL, -- when it was granted what it holds, or held last
    granted_site TEXT COLLATE "C", -- where the device stood then
    heard_at BIGINT NOT NULL, -- the last sign of life that was written down
    begun SMALLINT NOT NULL, -- 1 when the device has said that it switches
    lapsed SMALLINT NOT NULL, -- 1 when its last grant lapsed
    silent SMALLINT NOT NULL, -- 1 when it has begun and was not heard of for long
    departed SMALLINT NOT NULL, -- 1 when it was cancelled because the device left
    deferred SMALLINT, -- why it waits; order of policy's Deferral
    attention_since BIGINT, -- of a failure that nobody has dealt with
    timer_at BIGINT, -- when silence leads to something; none if no timer runs
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (rollout_id, device_id)
);
CREATE INDEX assignments_device ON assignments (device_id);
CREATE INDEX assignments_state ON assignments (rollout_id, state, granted_at);
CREATE INDEX assignments_site ON assignments (rollout_id, granted_site, state);
CREATE INDEX assignments_timer ON assignments (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX assignments_attention ON assignments (id) WHERE attention_since IS NOT NULL;

-- How many devices were done with a rollout in an hour: what forecasts are made of.
CREATE TABLE hours (
    rollout_id BYTEA NOT NULL REFERENCES rollouts (id),
    start BIGINT NOT NULL, -- of the hour
    done BIGINT NOT NULL, -- fewer than none if more began anew than were done
    PRIMARY KEY (rollout_id, start)
);

-- Releases that rolled back on a device: no rollout offers them to it, until an operator asks for another try.
CREATE TABLE penalties (
    device_id BYTEA NOT NULL REFERENCES devices (id),
    release BYTEA NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (device_id, release)
);

CREATE TABLE events (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    device_id BYTEA,
    rollout_id BYTEA,
    text TEXT COLLATE "C" NOT NULL
);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_device ON events (device_id, seq);
CREATE INDEX events_rollout ON events (rollout_id, seq);
