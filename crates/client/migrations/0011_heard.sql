-- When the last entry of a member's device that was put in force or opened here was accepted; for messages to
-- a day. The row of nobody (zeros): since when this device listens, which holds for every device without one.
CREATE TABLE heard (
    channel BLOB NOT NULL,
    account BLOB NOT NULL,
    device BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (channel, account, device)
) WITHOUT ROWID;
