-- Times are milliseconds since the epoch, ids are text, digests and envelopes are blobs.

-- Who takes part. --------------------------------------------------------------------------------------------------

CREATE TABLE party (
    party_id   TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('live', 'suspended')),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE party_mpid (
    mpid     TEXT NOT NULL,
    role     TEXT NOT NULL CHECK (role IN ('X', 'M')),
    party_id TEXT NOT NULL REFERENCES party (party_id),
    from_at  INTEGER NOT NULL,
    until_at INTEGER,
    PRIMARY KEY (mpid, role, from_at)
) STRICT, WITHOUT ROWID;

-- A sealing key is a signed statement.
CREATE TABLE sealing_key (
    party_id   TEXT NOT NULL REFERENCES party (party_id),
    key_id     BLOB NOT NULL,
    kem        INTEGER NOT NULL,
    public_key BLOB NOT NULL,
    sequence   INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    active_at  INTEGER NOT NULL,
    retired_at INTEGER,
    statement  TEXT NOT NULL,
    entry      INTEGER NOT NULL,
    PRIMARY KEY (party_id, key_id),
    UNIQUE (party_id, sequence)
) STRICT, WITHOUT ROWID;

-- Who is registered. Rows are versions of knowledge and are never changed. -------------------------------------------

CREATE TABLE registration (
    supply_point    TEXT NOT NULL,
    registration_id TEXT NOT NULL,
    version         INTEGER NOT NULL,
    recorded_at     INTEGER NOT NULL,
    body            TEXT NOT NULL,
    PRIMARY KEY (supply_point, registration_id, version)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX registration_by_id ON registration (registration_id, version);
-- Lists the registrations of a supply point without their versions.
CREATE INDEX registration_first ON registration (supply_point, registration_id) WHERE version = 1;

CREATE TABLE registration_event (
    source   TEXT NOT NULL,
    event_id TEXT NOT NULL,
    content  BLOB NOT NULL,              -- digest of what it said
    PRIMARY KEY (source, event_id)
) STRICT, WITHOUT ROWID;

-- What is known of the meters at a supply point, newest last. --------------------------------------------------------

CREATE TABLE meter (
    supply_point   TEXT NOT NULL,
    version        INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    recorded_by    TEXT NOT NULL REFERENCES party (party_id),
    effective_from TEXT NOT NULL,           -- YYYY-MM-DD
    body           TEXT NOT NULL,
    PRIMARY KEY (supply_point, version)
) STRICT, WITHOUT ROWID;

CREATE INDEX meter_in_force ON meter (supply_point, effective_from, version);

-- Changes of supplier. -----------------------------------------------------------------------------------------------

CREATE TABLE handover (
    handover_id     TEXT PRIMARY KEY,
    supply_point    TEXT NOT NULL,
    registration_id TEXT NOT NULL,
    losing_party    TEXT,
    gaining_party   TEXT,
    state           TEXT NOT NULL,
    effective_at    INTEGER NOT NULL,
    erased_after    INTEGER,
    version         INTEGER NOT NULL,
    body            TEXT NOT NULL,
    UNIQUE (supply_point, registration_id)
) STRICT, WITHOUT ROWID;

-- Work lists, whole and of one state, in the order of their pages.
CREATE INDEX handover_losing ON handover (losing_party, handover_id);
CREATE INDEX handover_gaining ON handover (gaining_party, handover_id);
CREATE INDEX handover_losing_state ON handover (losing_party, state, handover_id);
CREATE INDEX handover_gaining_state ON handover (gaining_party, state, handover_id);
CREATE INDEX handover_grace ON handover (erased_after) WHERE erased_after IS NOT NULL AND state <> 'closed';
CREATE INDEX handover_expected ON handover (effective_at) WHERE state = 'expected';

CREATE TABLE envelope (
    envelope_id  TEXT PRIMARY KEY,
    supply_point TEXT NOT NULL,
    component    TEXT NOT NULL CHECK (component IN ('credentials', 'read')),
    generation   INTEGER NOT NULL,
    handover_id  TEXT,
    status       TEXT NOT NULL,
    depositor    TEXT NOT NULL REFERENCES party (party_id),
    deposited_at INTEGER NOT NULL,
    epoch        INTEGER,
    facts        TEXT NOT NULL
) STRICT;

CREATE INDEX envelope_by_supply_point ON envelope (supply_point, component, generation);
CREATE INDEX envelope_kept ON envelope (supply_point, component, generation) WHERE status <> 'erased';
-- Those whose data key is held.
CREATE INDEX envelope_by_epoch ON envelope (epoch) WHERE epoch IS NOT NULL;

-- What is erased one day. `secure_delete` overwrites what is deleted, but not what a page leaves behind when its rows
-- move to make room. So these rows never move: they come at the end, as rowids have it, and never grow or go away;
-- what is erased in them becomes NULL.
CREATE TABLE sealed (
    envelope_id TEXT PRIMARY KEY REFERENCES envelope (envelope_id),
    wrapped_dek BLOB,
    body        BLOB
) STRICT;

-- A stanza that the depositor made for the gainer, or that the service made for a grant; encrypted under the record.
-- Its rows never move either.
CREATE TABLE stanza (
    envelope_id TEXT NOT NULL REFERENCES envelope (envelope_id),
    party_id    TEXT NOT NULL,
    key_id      BLOB NOT NULL,
    made_by     TEXT NOT NULL CHECK (made_by IN ('depositor', 'escrow')),
    sealed      BLOB,
    PRIMARY KEY (envelope_id, party_id, key_id, made_by)
) STRICT;

CREATE TABLE release_grant (
    grant_id       TEXT PRIMARY KEY,
    handover_id    TEXT NOT NULL,
    supply_point   TEXT NOT NULL,
    party_id       TEXT NOT NULL,
    key_id         BLOB NOT NULL,
    envelopes      BLOB NOT NULL,
    release_digest BLOB NOT NULL,
    granted_at     INTEGER NOT NULL,
    entry          INTEGER NOT NULL,
    body           TEXT NOT NULL,
    UNIQUE (handover_id, party_id, key_id, envelopes)
) STRICT, WITHOUT ROWID;

CREATE INDEX release_grant_by_supply_point ON release_grant (supply_point);

-- `identity` is the whole name: a party and an operator may have the same id.
CREATE TABLE idempotency (
    identity       TEXT NOT NULL,
    key            TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    created_at     INTEGER NOT NULL,
    entry          INTEGER NOT NULL,
    answer         TEXT NOT NULL,
    PRIMARY KEY (identity, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- The log. -----------------------------------------------------------------------------------------------------------

CREATE TABLE log_head (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    size            INTEGER NOT NULL,
    root            BLOB NOT NULL,
    frontier        BLOB NOT NULL,
    last_at         INTEGER NOT NULL,
    directory_epoch INTEGER NOT NULL,
    feed_at         INTEGER NOT NULL,
    numbered_above  INTEGER NOT NULL
) STRICT;

CREATE TABLE log_entry (
    idx       INTEGER PRIMARY KEY,
    hash      BLOB NOT NULL,
    leaf      BLOB NOT NULL
) STRICT;

-- Only complete subtrees of 256, 256² … leaves; smaller ones are hashed again from the level below.
CREATE TABLE log_node (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- What witnesses have cosigned: of the newest head and of the newest with a quorum. Others can ask them again.
CREATE TABLE cosignature (
    size INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (size, line)
) STRICT, WITHOUT ROWID;

-- What an entry hides, encrypted under the key of its scope: erasing the key erases it, in backups too.
CREATE TABLE disclosure (
    idx    INTEGER PRIMARY KEY REFERENCES log_entry (idx),
    scope  TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE disclosure_key (
    scope   TEXT PRIMARY KEY,
    wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- For searching only: can be dropped and rebuilt from entries and disclosures.
CREATE TABLE entry_index (
    idx     INTEGER PRIMARY KEY REFERENCES log_entry (idx),
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    party   TEXT,
    subject BLOB,
    code    TEXT
) STRICT;

CREATE INDEX entry_index_party ON entry_index (party, idx);
CREATE INDEX entry_index_subject ON entry_index (subject, idx) WHERE subject IS NOT NULL;
CREATE INDEX entry_index_kind ON entry_index (kind, idx);
CREATE INDEX entry_index_code ON entry_index (code, idx) WHERE code IS NOT NULL;

-- Each actor's entries are numbered, so that it can show that none of its own is missing.
CREATE TABLE actor (
    actor    TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    entry    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER log_entry_is_never_changed BEFORE UPDATE ON log_entry
BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER log_entry_is_never_deleted BEFORE DELETE ON log_entry
BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;
CREATE TRIGGER log_node_is_never_changed BEFORE UPDATE ON log_node
BEGIN SELECT RAISE(ABORT, 'nodes are never changed'); END;
CREATE TRIGGER log_node_is_never_deleted BEFORE DELETE ON log_node
BEGIN SELECT RAISE(ABORT, 'nodes are never deleted'); END;
CREATE TRIGGER registration_is_never_changed BEFORE UPDATE ON registration
BEGIN SELECT RAISE(ABORT, 'registrations are never changed'); END;
CREATE TRIGGER registration_is_never_deleted BEFORE DELETE ON registration
BEGIN SELECT RAISE(ABORT, 'registrations are never deleted'); END;
