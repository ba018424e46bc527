-- The value of a group that every message writes whole, alone in a table with row ids: a row that
-- changes is written over in its place. Among the other values each message moved cells about and
-- gave pages of overflow back only to take them again: five pages written instead of one.
-- `stamp` stands for all that is stored of the group.
CREATE TABLE mls_message_secrets (
    position INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL UNIQUE,
    stamp BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
INSERT INTO mls_message_secrets (group_id, stamp, value)
    SELECT group_id, randomblob(16), value FROM mls_group WHERE kind = 9;
DELETE FROM mls_group WHERE kind IN (9, 11);
