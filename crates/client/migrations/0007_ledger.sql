-- What this device never read, or could not: the loss ledger. A range begins at `seq`; `code` is
-- stable. `standing` is 0 while the range is read again.
CREATE TABLE loss (
    channel BLOB NOT NULL,
    seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    retried INTEGER NOT NULL DEFAULT 0,
    standing INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (channel, seq)
) WITHOUT ROWID;

-- The entry at which reading began and did not come to its end: the program died of it, or was
-- killed. Written only in a run that follows an unclean end.
CREATE TABLE attempt (
    channel BLOB PRIMARY KEY,
    seq INTEGER NOT NULL,
    tries INTEGER NOT NULL
) WITHOUT ROWID;

-- One row: whether a run is going on, or ended without saying so.
CREATE TABLE run (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    going INTEGER NOT NULL
);

-- The outbox lists what was refused for good, in any history.
CREATE INDEX message_refused ON message (id) WHERE state = 3;
