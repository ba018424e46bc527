-- The state of OpenMLS. Every BLOB but `value` in these tables is a key, encoded by the same codec.

-- One row for each single value of a group; `kind` is a number of provider/group.rs.
CREATE TABLE mls_group (
    group_id BLOB NOT NULL,
    kind INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (group_id, kind)
) STRICT, WITHOUT ROWID;

-- Lists are rows, never one value that is read, changed and written back. `position` orders them.
CREATE TABLE mls_own_leaf_node (
    position INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE INDEX mls_own_leaf_node_by_group ON mls_own_leaf_node (group_id);

CREATE TABLE mls_proposal (
    position INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL,
    reference BLOB NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (group_id, reference)
) STRICT;

CREATE TABLE mls_epoch_key_pairs (
    group_id BLOB NOT NULL,
    epoch BLOB NOT NULL,
    leaf_index INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (group_id, epoch, leaf_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE mls_signature_key_pair (
    public_key BLOB PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mls_encryption_key_pair (
    public_key BLOB PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mls_key_package (
    reference BLOB PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mls_psk (
    psk_id BLOB PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
