-- A stranger took this device back into a channel: accounts that were in as this device knew it. What is
-- written there waits until one of them builds on it.
CREATE TABLE voucher (
    channel BLOB NOT NULL,
    account BLOB NOT NULL,
    PRIMARY KEY (channel, account)
) WITHOUT ROWID;
