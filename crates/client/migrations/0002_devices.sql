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
