-- Bounds of a channel: how long it keeps entries, how much it may hold, how often it takes a Commit;
-- and when the next thing in it can go. An entry that has gone leaves its row in `log`, below
-- `first_seq`, so that a retry of it still gets its answer.

-- Shorter than the server's; none: the server's.
ALTER TABLE channels ADD COLUMN retention_ms INTEGER;
-- In the roster after the last Commit.
ALTER TABLE channels ADD COLUMN devices INTEGER NOT NULL DEFAULT 0;
-- Bytes of the entries that are there, by kind; those of the server count as statements.
ALTER TABLE channels ADD COLUMN app_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN commit_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN statement_bytes INTEGER NOT NULL DEFAULT 0;
-- Turns of Commits, and whose the next one is.
ALTER TABLE channels ADD COLUMN turns_taken INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN turns_since_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN reserved_for BLOB;
ALTER TABLE channels ADD COLUMN reserved_until_ms INTEGER NOT NULL DEFAULT 0;
-- Before then nothing can go, as long as the server's retention is `due_under_ms`.
ALTER TABLE channels ADD COLUMN due_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN due_under_ms INTEGER NOT NULL DEFAULT 0;
DROP INDEX channels_by_age;
ALTER TABLE channels DROP COLUMN oldest_at_ms;
CREATE INDEX channels_due ON channels (due_under_ms, due_at_ms);

-- Of the device's own entries that are there.
ALTER TABLE members ADD COLUMN app_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN commit_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN statement_bytes INTEGER NOT NULL DEFAULT 0;
-- Its last entry that named a base, and how many messages have named the base that it named last.
ALTER TABLE members ADD COLUMN last_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN base_entries INTEGER NOT NULL DEFAULT 0;
-- Its last Commit, its turns, how long each lasts, and when one was reserved for it last.
ALTER TABLE members ADD COLUMN commit_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN turns_taken INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN turns_since_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN turn_wait_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN reserved_at_ms INTEGER NOT NULL DEFAULT 0;

UPDATE channels SET devices =
    (SELECT count(*) FROM members m WHERE m.no = channels.no AND m.removal_seq IS NULL);

CREATE TEMP TABLE sizes AS
    SELECT l.no, l.sender, l.kind, sum(length(p.payload)
        + coalesce(length(c.roster_change) + length(c.statements), 0)) AS bytes
    FROM log l JOIN payloads p ON p.id = l.id
        LEFT JOIN commits c ON l.kind = 2 AND c.id = (l.no << 32 | l.seq)
    GROUP BY l.no, l.sender, l.kind;
CREATE INDEX temp.sizes_by_sender ON sizes (no, sender);
UPDATE channels SET
    app_bytes = coalesce(
        (SELECT sum(bytes) FROM sizes s WHERE s.no = channels.no AND s.kind = 1), 0),
    commit_bytes = coalesce(
        (SELECT sum(bytes) FROM sizes s WHERE s.no = channels.no AND s.kind = 2), 0),
    statement_bytes = coalesce(
        (SELECT sum(bytes) FROM sizes s WHERE s.no = channels.no AND s.kind NOT IN (1, 2)), 0);
UPDATE members SET
    app_bytes = coalesce((SELECT sum(bytes) FROM sizes s
        WHERE s.no = members.no AND s.sender = members.device_id AND s.kind = 1), 0),
    commit_bytes = coalesce((SELECT sum(bytes) FROM sizes s
        WHERE s.no = members.no AND s.sender = members.device_id AND s.kind = 2), 0),
    statement_bytes = coalesce((SELECT sum(bytes) FROM sizes s
        WHERE s.no = members.no AND s.sender = members.device_id AND s.kind NOT IN (1, 2)), 0);
DROP TABLE sizes;
