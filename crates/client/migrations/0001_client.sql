-- One row: who this client is. The seeds are Ed25519 secrets (RFC 8032), 32 bytes each.
CREATE TABLE profile (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    server TEXT NOT NULL,
    account BLOB NOT NULL,
    device BLOB NOT NULL,
    root_seed BLOB NOT NULL,
    account_seed BLOB NOT NULL,
    device_seed BLOB NOT NULL,
    account_key BLOB NOT NULL,
    device_list BLOB NOT NULL,
    certificate BLOB NOT NULL,
    register_request BLOB NOT NULL,
    registered INTEGER NOT NULL DEFAULT 0,
    incarnation BLOB
);

CREATE TABLE contact (
    account BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    root BLOB NOT NULL,
    verified INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0,
    device_list BLOB
) WITHOUT ROWID;

-- A log as this device reads it. `head` is the hash chain's head at `cursor`.
CREATE TABLE channel (
    channel BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    title TEXT NOT NULL,
    peer BLOB,
    group_id BLOB NOT NULL,
    status INTEGER NOT NULL,
    reason TEXT,
    cursor INTEGER NOT NULL,
    head BLOB NOT NULL,
    known_head INTEGER NOT NULL,
    base_commit INTEGER NOT NULL,
    last_commit INTEGER NOT NULL,
    inviter BLOB,
    quiet_until_ms INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Recent heads, to compare with the digests that members authenticate.
CREATE TABLE head (
    channel BLOB NOT NULL,
    seq INTEGER NOT NULL,
    head BLOB NOT NULL,
    PRIMARY KEY (channel, seq)
) WITHOUT ROWID;

CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel BLOB NOT NULL,
    seq INTEGER,
    account BLOB NOT NULL,
    device BLOB NOT NULL,
    content_id BLOB NOT NULL,
    text TEXT NOT NULL,
    state INTEGER NOT NULL,
    reason TEXT,
    sent_at_ms INTEGER NOT NULL,
    accepted_at_ms INTEGER,
    seen INTEGER NOT NULL,
    UNIQUE (channel, device, content_id)
);
CREATE INDEX message_unseen ON message (id) WHERE seen = 0;
CREATE INDEX message_channel ON message (channel, id);

-- Own messages until the log has shown them; `id` is the message's. Sealed bytes are resent as they
-- are until an answer gives them a place, and kept until the log shows them there.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    channel BLOB NOT NULL,
    message_id BLOB,
    after_commit INTEGER,
    payload BLOB,
    accepted_seq INTEGER
);
CREATE INDEX outbox_channel ON outbox (channel, id);

-- Every message id that was ever sealed here: a home that does not know the last one that the server
-- accepted from this device is an older copy.
CREATE TABLE sealed_id (
    channel BLOB NOT NULL,
    message_id BLOB NOT NULL,
    PRIMARY KEY (channel, message_id)
) WITHOUT ROWID;

-- Group operations that the user or the protocol wants done.
CREATE TABLE intent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel BLOB NOT NULL,
    kind INTEGER NOT NULL,
    state INTEGER NOT NULL,
    request_id BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    statement BLOB
);
CREATE INDEX intent_open ON intent (channel, id) WHERE state < 3;

CREATE TABLE intent_account (
    intent INTEGER NOT NULL,
    account BLOB NOT NULL,
    request_id BLOB NOT NULL,
    claimed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (intent, account)
) WITHOUT ROWID;

-- Claimed KeyPackages stay with their intent across rebases.
CREATE TABLE intent_key_package (
    intent INTEGER NOT NULL,
    device BLOB NOT NULL,
    key_package BLOB NOT NULL,
    PRIMARY KEY (intent, device)
) WITHOUT ROWID;

-- The sealed Commit of an intent, as it is sent and resent.
CREATE TABLE sealed_commit (
    intent INTEGER PRIMARY KEY,
    channel BLOB NOT NULL,
    message_id BLOB NOT NULL,
    after_commit INTEGER NOT NULL,
    payload BLOB NOT NULL,
    roster_change BLOB NOT NULL,
    welcome BLOB,
    statements BLOB NOT NULL
);

-- Entries kept unopened or unreadable, with the reason.
CREATE TABLE kept_entry (
    channel BLOB NOT NULL,
    seq INTEGER NOT NULL,
    reason TEXT NOT NULL,
    message_id BLOB NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (channel, seq)
) WITHOUT ROWID;

-- Signed statements that stand in a channel until a Commit does what they ask.
CREATE TABLE standing_statement (
    channel BLOB NOT NULL,
    account BLOB NOT NULL,
    seq INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (channel, account)
) WITHOUT ROWID;

-- KeyPackages made but not known to be at the server; a retry repeats id and bytes.
CREATE TABLE upload (
    request_id BLOB PRIMARY KEY,
    key_packages BLOB NOT NULL,
    last_resort BLOB
) WITHOUT ROWID;
