-- All tokens of a device lie together, so that a login writes one page of them and not six. The
-- sessions of before end here; devices log in again by themselves.
DROP TABLE access_tokens;
DROP TABLE refresh_tokens;
DROP TABLE sessions;

CREATE TABLE tokens (
    device_id BLOB NOT NULL REFERENCES devices,
    -- 1 access, 2 refresh.
    kind INTEGER NOT NULL,
    hash BLOB NOT NULL,
    -- One login and all refreshes that follow from it, the family that a reused token revokes: when
    -- it began, Unix milliseconds, or the number after the device's last, whichever is more.
    session INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    -- Refresh tokens are kept after their one use, so that a reuse is noticed.
    used_at_ms INTEGER,
    PRIMARY KEY (device_id, kind, hash)
) STRICT, WITHOUT ROWID;
-- Access tokens go with their session or at its next refresh, so they need no order of their own;
-- a session that can be refreshed has one at least.
CREATE INDEX refresh_tokens_by_expiry ON tokens (expires_at_ms) WHERE kind = 2;
