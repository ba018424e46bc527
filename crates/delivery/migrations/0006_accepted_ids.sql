-- Message ids leave the log's index for a table of their own, which is filled many at a time: each
-- page of it that a commit writes costs as much as three messages. Those of entries behind
-- `accepted_upto` are found in the log alone, and in memory.

CREATE TABLE accepted_ids (
    no INTEGER NOT NULL,
    sender BLOB NOT NULL,
    message_id BLOB NOT NULL,
    -- The row of `log`.
    id INTEGER NOT NULL,
    PRIMARY KEY (no, sender, message_id)
) STRICT, WITHOUT ROWID;

-- One row: entries of `log` up to this one have their ids in the table, those behind it have not.
CREATE TABLE accepted_upto (id INTEGER NOT NULL) STRICT;

INSERT INTO accepted_ids (no, sender, message_id, id)
    SELECT no, sender, message_id, id FROM log WHERE sender IS NOT NULL
    ORDER BY no, sender, message_id;
INSERT INTO accepted_upto (id) SELECT coalesce(max(id), 0) FROM log;
DROP INDEX log_by_message_id;

-- An entry that is forgotten, or whose sender is, takes its id along.
CREATE TRIGGER log_forgets_sender AFTER UPDATE OF sender ON log WHEN old.sender IS NOT NULL
BEGIN
    DELETE FROM accepted_ids
        WHERE no = old.no AND sender = old.sender AND message_id = old.message_id;
END;
CREATE TRIGGER log_forgets_entry AFTER DELETE ON log WHEN old.sender IS NOT NULL
BEGIN
    DELETE FROM accepted_ids
        WHERE no = old.no AND sender = old.sender AND message_id = old.message_id;
END;
-- The last rows' numbers are given again once they have gone.
CREATE TRIGGER log_loses_its_end AFTER DELETE ON log
    WHEN NOT EXISTS (SELECT 1 FROM log WHERE id > old.id)
BEGIN
    UPDATE accepted_upto SET id = min(id, (SELECT coalesce(max(id), 0) FROM log));
END;
