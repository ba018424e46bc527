-- Devices that were taken off their account, the lists that say so, and ways to an account's rows.

-- Never deleted: a device that is in a roster until the members remove it must stay known as
-- revoked, and its id must never come back. The account goes when it is erased.
CREATE TABLE revoked (
    device_id BLOB PRIMARY KEY,
    account_id BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_by_account ON revoked (account_id) WHERE account_id IS NOT NULL;

-- The device list of an account that the server put into a channel last.
CREATE TABLE posted_lists (
    no INTEGER NOT NULL REFERENCES channels,
    account_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    PRIMARY KEY (no, account_id)
) STRICT, WITHOUT ROWID;

-- For export and erasure.
CREATE INDEX members_by_account ON members (account_id, no);
CREATE INDEX key_packages_by_account ON key_packages (account_id, device_id);
CREATE INDEX direct_pairs_by_hi ON direct_pairs (hi);
-- SQLite looks for what refers to a row before it deletes the row.
CREATE INDEX direct_pairs_by_channel ON direct_pairs (no);
CREATE INDEX commits_by_roster ON commits (roster);
