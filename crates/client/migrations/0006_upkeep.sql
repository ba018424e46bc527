-- What upkeep knows of this device's leaf in a channel. `sealed` counts its messages since the Commit
-- `base_commit`; `update_at_ms` (server time) is when its keys are to be renewed.
CREATE TABLE upkeep (
    channel BLOB PRIMARY KEY,
    base_commit INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    update_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- KeyPackages made here whose private part is kept. `made_at_ms` is server time.
CREATE TABLE key_package (
    reference BLOB PRIMARY KEY,
    last_resort INTEGER NOT NULL,
    made_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- What an operation on a group's context sets; NULL leaves it as it is.
CREATE TABLE intent_context (
    intent INTEGER PRIMARY KEY,
    title TEXT,
    description TEXT,
    account BLOB,
    admin INTEGER
);
