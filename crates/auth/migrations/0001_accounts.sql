-- Who is who. Signed objects are kept as the bytes that were verified; secrets only as SHA-256.

CREATE TABLE accounts (
    account_id BLOB PRIMARY KEY,
    root BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account_keys (
    account_id BLOB NOT NULL REFERENCES accounts,
    generation INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (account_id, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_lists (
    account_id BLOB NOT NULL REFERENCES accounts,
    generation INTEGER NOT NULL,
    version INTEGER NOT NULL,
    list BLOB NOT NULL,
    PRIMARY KEY (account_id, generation, version)
) STRICT, WITHOUT ROWID;

-- A row outlives its device: neither a device id nor a device key is ever taken twice.
CREATE TABLE devices (
    device_id BLOB PRIMARY KEY,
    account_id BLOB NOT NULL REFERENCES accounts,
    key BLOB NOT NULL UNIQUE,
    -- 1 in the newest device list, 2 revoked.
    status INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_account ON devices (account_id, device_id);

-- One login and all refreshes that follow from it: the family that a reused token revokes.
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    device_id BLOB NOT NULL REFERENCES devices,
    -- When the last of its refresh tokens expires.
    expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_device ON sessions (device_id, session);
CREATE INDEX sessions_by_expiry ON sessions (expires_at_ms);

CREATE TABLE access_tokens (
    hash BLOB PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX access_tokens_by_session ON access_tokens (session);
CREATE INDEX access_tokens_by_expiry ON access_tokens (expires_at_ms);

CREATE TABLE refresh_tokens (
    hash BLOB PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    expires_at_ms INTEGER NOT NULL,
    -- Kept after its one use, so that a reuse is noticed.
    used_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at_ms);

CREATE TABLE invites (
    hash BLOB PRIMARY KEY,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invites_by_expiry ON invites (expires_at_ms);
