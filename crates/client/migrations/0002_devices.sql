-- A device may hold neither the root, once its phrase was shown, nor the account key, when another
-- device is the primary one.
CREATE TABLE profile_new (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    server TEXT NOT NULL,
    account BLOB NOT NULL,
    device BLOB NOT NULL,
    root_seed BLOB,
    account_seed BLOB,
    device_seed BLOB NOT NULL,
    account_key BLOB NOT NULL,
    device_list BLOB NOT NULL,
    certificate BLOB NOT NULL,
    register_request BLOB NOT NULL,
    registered INTEGER NOT NULL DEFAULT 0,
    incarnation BLOB
);
INSERT INTO profile_new SELECT * FROM profile;
DROP TABLE profile;
ALTER TABLE profile_new RENAME TO profile;

-- What is known of a contact's devices. `held`: the name was another account's before, and the user
-- has not accepted this one. `former`: the name is another account's since. `changed`: what the
-- user is to be told before the next message.
ALTER TABLE contact ADD COLUMN account_key BLOB;
ALTER TABLE contact ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contact ADD COLUMN former INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contact ADD COLUMN changed TEXT;

-- Every device of a contact that was ever seen, by list or by leaf.
CREATE TABLE contact_device (
    account BLOB NOT NULL,
    device BLOB NOT NULL,
    PRIMARY KEY (account, device)
) WITHOUT ROWID;

-- Nothing is sealed before the user accepts this account.
ALTER TABLE channel ADD COLUMN held_by BLOB;

-- The devices of an operation whose KeyPackages are claimed; none stands for all of an account.
CREATE TABLE intent_device (
    intent INTEGER NOT NULL,
    device BLOB NOT NULL,
    PRIMARY KEY (intent, device)
) WITHOUT ROWID;

-- What the server told of this account. The server's word alone.
CREATE TABLE notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    device BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0
);

-- The highest version of a device list that was ever signed here: numbers are used once, also those
-- of lists that nobody took.
ALTER TABLE profile ADD COLUMN list_signed INTEGER NOT NULL DEFAULT 0;

-- One row while this device waits to be linked. `code` and `device_seed` are secrets.
CREATE TABLE link_offer (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    server TEXT NOT NULL,
    code BLOB NOT NULL,
    device BLOB NOT NULL,
    device_seed BLOB NOT NULL,
    sealed BLOB NOT NULL,
    made_at_ms INTEGER NOT NULL
);
