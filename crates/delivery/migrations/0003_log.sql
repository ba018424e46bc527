-- The log in two trees that grow at their ends, in the order of acceptance, whatever the channel:
-- a group commit of many channels' entries writes full pages next to each other. Their places in
-- the channels and the accepted message ids are indexes, small ones.

CREATE TABLE payloads (
    id INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE log (
    -- That of its payload, too, while there is one.
    id INTEGER PRIMARY KEY,
    no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    after_commit INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    head BLOB NOT NULL,
    -- The device that posted it, so that a retry gets the first answer; none for entries of the
    -- server, and of erased accounts. `digest` is 16 bytes over what the message id stands for.
    sender BLOB,
    digest BLOB,
    -- In an inbox: the row of `welcomes` that the pointer names.
    welcome INTEGER
) STRICT;

INSERT INTO payloads (id, payload) SELECT id, payload FROM entries ORDER BY id;
INSERT INTO log (id, no, seq, kind, after_commit, accepted_at_ms, message_id, head, sender, digest,
        welcome)
    SELECT e.id, e.id >> 32, e.id & 4294967295, e.kind, e.after_commit, e.accepted_at_ms,
        e.message_id, e.head, m.device_id, m.digest, e.welcome
    FROM entries e LEFT JOIN message_ids m ON m.no = e.id >> 32 AND m.seq = e.id & 4294967295
    ORDER BY e.id;
DROP TABLE entries;
DROP TABLE message_ids;

CREATE UNIQUE INDEX log_by_seq ON log (no, seq);
CREATE UNIQUE INDEX log_by_message_id ON log (no, sender, message_id) WHERE sender IS NOT NULL;
CREATE INDEX log_by_welcome ON log (welcome) WHERE welcome IS NOT NULL;

-- The hash chain's head after the last entry that has expired: a reader goes on from there.
ALTER TABLE channels ADD COLUMN boundary_head BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
