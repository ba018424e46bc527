-- When the bytes were sealed, Unix milliseconds of this machine; a server knows a message id for so
-- long only.
ALTER TABLE outbox ADD COLUMN sealed_at_ms INTEGER NOT NULL DEFAULT 0;
