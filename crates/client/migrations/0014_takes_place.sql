-- Channels that say they take another's place: of which one, and the account that took this device in. `accepted`:
-- made here, or the user lets what waits go there all the same.
CREATE TABLE takes_place (
    channel BLOB PRIMARY KEY,
    replaces BLOB NOT NULL,
    maker BLOB NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
