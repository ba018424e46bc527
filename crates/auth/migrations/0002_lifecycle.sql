-- Devices come and go, accounts are suspended and end, and a one-time code links a device.

-- 1 active, 2 suspended, 3 ended: its empty device list is published, its rows wait for erasure.
ALTER TABLE accounts ADD COLUMN status INTEGER NOT NULL DEFAULT 1;
-- What the name looks like (UTS 39, then lower case): these are all rules for a-z 0-9 . _ -.
-- Not UNIQUE, because two older names may look alike; registration is what refuses.
ALTER TABLE accounts ADD COLUMN skeleton TEXT NOT NULL DEFAULT '';
UPDATE accounts SET skeleton = replace(replace(replace(name, '0', 'o'), '1', 'l'), 'm', 'rn');
CREATE INDEX accounts_by_skeleton ON accounts (skeleton);
-- How many were created lately decides what a registration must prove.
CREATE INDEX accounts_by_creation ON accounts (created_at_ms);
CREATE INDEX accounts_ended ON accounts (account_id) WHERE status = 3;

-- An empty device list that its owner signed, until it is published.
CREATE TABLE deletions (
    account_id BLOB PRIMARY KEY REFERENCES accounts,
    generation INTEGER NOT NULL,
    version INTEGER NOT NULL,
    list BLOB NOT NULL,
    -- NULL once taken back: the row stays, because the list's version is spent.
    delete_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX deletions_by_time ON deletions (delete_at_ms) WHERE delete_at_ms IS NOT NULL;

-- Where two devices meet that know the same one-time code. Names no account.
CREATE TABLE links (
    rendezvous BLOB PRIMARY KEY,
    offer BLOB NOT NULL,
    -- Set by the one use of the code.
    answer BLOB,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX links_by_expiry ON links (expires_at_ms);

-- SHA-256 of each root, device id and device key of erased accounts, with nothing that ties them to
-- each other or to a name: none of them may ever count as somebody else's.
CREATE TABLE spent (
    hash BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
