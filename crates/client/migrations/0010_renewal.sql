-- The last list with later ends that was signed here. `open` until the server has answered.
CREATE TABLE renewal (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    request_id BLOB NOT NULL,
    device_list BLOB NOT NULL,
    certificates BLOB NOT NULL,
    open INTEGER NOT NULL,
    signed_at_ms INTEGER NOT NULL
);

-- Since when (server time) this device has its renewed certificate: what was made before names
-- another.
CREATE TABLE renewed (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at_ms INTEGER NOT NULL
);
