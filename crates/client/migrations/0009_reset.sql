-- Channels that ended, or end, and what takes their place. `statement`: the reset that was signed
-- here, which the successor's creation carries. `restored`: it ended with an earlier life of the server,
-- whose backup reaches `head_seq`; from `at_ms` on this device makes a successor by itself.
CREATE TABLE ended (
    channel BLOB PRIMARY KEY,
    successor BLOB,
    statement BLOB,
    restored INTEGER NOT NULL DEFAULT 0,
    head_seq INTEGER,
    at_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX ended_successor ON ended (successor);
