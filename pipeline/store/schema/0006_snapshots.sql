-- The engine's state, one row per pool, each as it was after the step of as_of; snapshots keeps what pools share.

CREATE TABLE pool_snapshots (
    model VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    as_of BIGINT NOT NULL,
    body BLOB NOT NULL
);
