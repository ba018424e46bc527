-- How often KeyPackages were waited for. Apart from `attempts` at a Commit: waiting may take days,
-- and is no reason to give an operation up.
ALTER TABLE intent ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;
