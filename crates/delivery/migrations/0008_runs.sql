-- Payloads of messages that are posted one behind the other in a channel lie in one row: its pages
-- are full, and it is written once.

-- The payload's place in a row of several, each behind four bytes with its length, big-endian; the
-- row's id is that of the entry in the first place. None: it is alone in the row of its own id.
ALTER TABLE log ADD COLUMN place INTEGER;
-- Its length there; none: that of the row.
ALTER TABLE log ADD COLUMN bytes INTEGER;
