-- Facts about this life of the database.
CREATE TABLE server_meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Answers to changes that carry a request id, so that a retry has one effect and the same answer.
CREATE TABLE answers (
    id         INTEGER PRIMARY KEY,
    scope      BLOB    NOT NULL,
    request_id BLOB    NOT NULL,
    digest     BLOB    NOT NULL,
    body       BLOB    NOT NULL,
    at_ms      INTEGER NOT NULL,
    UNIQUE (scope, request_id)
) STRICT;

CREATE INDEX answers_by_age ON answers (at_ms);
