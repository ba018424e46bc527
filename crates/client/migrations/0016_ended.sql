-- When this device noticed that an operation had ended, Unix milliseconds of this machine: some time
-- later nobody asks for it any more.
ALTER TABLE intent ADD COLUMN ended_at_ms INTEGER;
CREATE INDEX intent_ended ON intent (ended_at_ms) WHERE state >= 3;
-- When the id's entry was sealed, likewise: an id may go once the server has named one that was
-- sealed long after it. Of ids from before nobody knows; they stay.
ALTER TABLE sealed_id ADD COLUMN sealed_at_ms INTEGER;
-- When it was last made to wait until `not_before_ms`, likewise: a clock that was ahead shows by it.
ALTER TABLE intent ADD COLUMN waits_since_ms INTEGER NOT NULL DEFAULT 0;
