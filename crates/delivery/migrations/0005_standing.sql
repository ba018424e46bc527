-- Devices that come back, verdicts, statements that are shown again, channels that have ended.

-- The life of the database that the channel's hash chain is of; none: the present one. Only inboxes
-- outlive the life that they were made in.
ALTER TABLE channels ADD COLUMN incarnation BLOB;
-- The channel that took this one's place, 16 bytes; none: it goes on.
ALTER TABLE channels ADD COLUMN successor BLOB;

-- Where the server showed it again last; 0: nowhere.
ALTER TABLE leaves ADD COLUMN shown_seq INTEGER NOT NULL DEFAULT 0;

-- A package that a statement brought: its row is a tombstone, good in this one channel.
ALTER TABLE key_packages ADD COLUMN only_in INTEGER;

-- A device's newest rejoin in a channel.
CREATE TABLE rejoins (
    no INTEGER NOT NULL REFERENCES channels,
    device_id BLOB NOT NULL,
    account_id BLOB NOT NULL,
    -- The join that it names.
    join_seq INTEGER NOT NULL,
    -- Of its KeyPackage.
    reference BLOB NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    -- Where it stands in the log, or was shown again last.
    seq INTEGER NOT NULL,
    PRIMARY KEY (no, device_id)
) STRICT, WITHOUT ROWID;

-- Which Commits a device has given its verdict on; goes with the Commit's entry.
CREATE TABLE verdicts (
    no INTEGER NOT NULL REFERENCES channels,
    device_id BLOB NOT NULL,
    commit_seq INTEGER NOT NULL,
    PRIMARY KEY (no, commit_seq, device_id)
) STRICT, WITHOUT ROWID;
