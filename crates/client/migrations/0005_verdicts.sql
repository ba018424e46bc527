-- What this device made of the Commits of the last day (by accept time), for members may have made
-- something else of them. `own`: 0 unjudged for its path, 1 applied, 2 void. `leaves`: the devices
-- that were in before and after it, with their keys. `said`: the own verdict was posted. `told`: the
-- user knows that members disagree. `withholds`: it declares removals that this branch has not made.
CREATE TABLE verdict (
    channel BLOB NOT NULL,
    seq INTEGER NOT NULL,
    payload_hash BLOB NOT NULL,
    base_commit INTEGER NOT NULL,
    own INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    committer BLOB NOT NULL,
    said INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0,
    withholds INTEGER NOT NULL DEFAULT 0,
    leaves BLOB NOT NULL,
    PRIMARY KEY (channel, seq)
);
CREATE INDEX verdict_until ON verdict (channel, until_ms);
CREATE INDEX verdict_withholds ON verdict (channel) WHERE withholds = 1;

-- The first verdict of each voter, an account or a device.
CREATE TABLE verdict_vote (
    channel BLOB NOT NULL,
    seq INTEGER NOT NULL,
    voter BLOB NOT NULL,
    applied INTEGER NOT NULL,
    PRIMARY KEY (channel, seq, voter)
) WITHOUT ROWID;

-- This device's branch was given up from this Commit on: what it sent behind it is sent again.
CREATE TABLE lost_branch (
    channel BLOB PRIMARY KEY,
    seq INTEGER NOT NULL
) WITHOUT ROWID;
