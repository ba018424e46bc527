-- Accounts that stay while their devices go and come.

-- 24 bytes for each account that has been here longer than the devices it has: account, since u64.
ALTER TABLE rosters ADD COLUMN since BLOB NOT NULL DEFAULT x'';
