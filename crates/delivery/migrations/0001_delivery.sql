-- Channel logs, what the server knows of their members, and the KeyPackage directory.

CREATE TABLE channels (
    no INTEGER PRIMARY KEY,
    channel_id BLOB NOT NULL,
    -- 1 for an inbox. Inbox ids follow from device ids, so that anybody can name a group like one:
    -- the two kinds never meet in a lookup.
    inbox INTEGER NOT NULL,
    -- 1 direct, 2 group, 3 inbox.
    kind INTEGER NOT NULL,
    -- First sequence number still in the log.
    first_seq INTEGER NOT NULL,
    head_seq INTEGER NOT NULL,
    head BLOB NOT NULL,
    head_at_ms INTEGER NOT NULL,
    last_commit INTEGER NOT NULL,
    -- No entry is older, or none that may go yet.
    oldest_at_ms INTEGER NOT NULL,
    UNIQUE (channel_id, inbox)
) STRICT;
CREATE INDEX channels_by_age ON channels (oldest_at_ms);

-- One b-tree, written at its channel's end: id = no * 2^32 + sequence number.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    after_commit INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    head BLOB NOT NULL,
    -- In an inbox: the row of `welcomes` that the pointer names.
    welcome INTEGER,
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX entries_by_welcome ON entries (welcome) WHERE welcome IS NOT NULL;

-- What a Commit carries beside its payload. Outlives its entry: bases are checked against it.
CREATE TABLE commits (
    id INTEGER PRIMARY KEY,
    committer BLOB NOT NULL,
    base_commit INTEGER NOT NULL,
    -- The row of `rosters` that holds after this Commit.
    roster INTEGER NOT NULL REFERENCES rosters,
    roster_change BLOB NOT NULL,
    statements BLOB NOT NULL,
    welcome_hash BLOB NOT NULL
) STRICT;

CREATE TABLE rosters (
    id INTEGER PRIMARY KEY,
    roster BLOB NOT NULL
) STRICT;

-- One row for all devices that a Commit adds.
CREATE TABLE welcomes (
    id INTEGER PRIMARY KEY,
    welcome BLOB NOT NULL
) STRICT;

-- Accepted message ids, so that a retry gets the first answer. `digest` is 16 bytes over the rest.
CREATE TABLE message_ids (
    no INTEGER NOT NULL,
    device_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (no, device_id, message_id)
) STRICT, WITHOUT ROWID;

-- Every device that is or was in a channel; never deleted, so that a removed one is told so.
CREATE TABLE members (
    no INTEGER NOT NULL REFERENCES channels,
    device_id BLOB NOT NULL,
    account_id BLOB NOT NULL,
    -- The Commit that added it.
    join_seq INTEGER NOT NULL,
    -- The first sequence number it may read: reaches back over an earlier membership not read out.
    read_from INTEGER NOT NULL,
    acked_seq INTEGER NOT NULL,
    -- The highest base that an entry of it has named.
    last_base INTEGER NOT NULL,
    last_message_id BLOB,
    removal_seq INTEGER,
    removed_at_ms INTEGER,
    removal_confirmed INTEGER NOT NULL,
    PRIMARY KEY (no, device_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_device ON members (device_id, no);
CREATE INDEX members_leaving ON members (no, removal_seq)
    WHERE removal_seq IS NOT NULL AND removal_confirmed = 0;

-- The newest Leave statement of an account in a channel.
CREATE TABLE leaves (
    no INTEGER NOT NULL REFERENCES channels,
    account_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (no, account_id)
) STRICT, WITHOUT ROWID;

-- The live direct channel of a pair of accounts, the lower id first.
CREATE TABLE direct_pairs (
    lo BLOB NOT NULL,
    hi BLOB NOT NULL,
    no INTEGER NOT NULL REFERENCES channels,
    PRIMARY KEY (lo, hi)
) STRICT, WITHOUT ROWID;

-- A row without `key_package` is a tombstone: claimed, expired or replaced. It still says whose
-- package a reference in a Welcome was, and that it can't come back.
CREATE TABLE key_packages (
    no INTEGER PRIMARY KEY,
    reference BLOB NOT NULL UNIQUE,
    device_id BLOB NOT NULL,
    account_id BLOB NOT NULL,
    last_resort INTEGER NOT NULL,
    uploaded_at_ms INTEGER NOT NULL,
    -- A last resort that was handed out.
    used INTEGER NOT NULL,
    key_package BLOB
) STRICT;
CREATE INDEX key_packages_left ON key_packages (device_id, last_resort, no)
    WHERE key_package IS NOT NULL;
