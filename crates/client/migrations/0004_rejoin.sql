-- How this device comes back to a channel. `joined_seq`: the Commit by which it is in. `latest_seq`: the
-- last that added it, as the server says. `asked_seq`: the join for which it has asked to be taken in
-- again, `asked_ms`: when that was taken. `wanted`: why it wants to, while it does. `gap_at`: the cursor
-- behind expired entries, until it is known whether a Commit was among them.
CREATE TABLE rejoin (
    channel BLOB PRIMARY KEY,
    joined_seq INTEGER NOT NULL DEFAULT 0,
    latest_seq INTEGER NOT NULL DEFAULT 0,
    asked_seq INTEGER NOT NULL DEFAULT 0,
    asked_ms INTEGER NOT NULL DEFAULT 0,
    wanted INTEGER,
    gap_at INTEGER
) WITHOUT ROWID;

-- Rejoin statements of others' devices that no Commit has followed yet.
CREATE TABLE standing_rejoin (
    channel BLOB NOT NULL,
    account BLOB NOT NULL,
    device BLOB NOT NULL,
    seq INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (channel, account, device)
) WITHOUT ROWID;
