-- How long the server keeps entries of a channel, in milliseconds, as it said; before a channel is made, what
-- was asked for; 0: nothing was.
ALTER TABLE channel ADD COLUMN retention_ms INTEGER NOT NULL DEFAULT 0;
