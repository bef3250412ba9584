-- Which announced events the engine learned of, and when: what makes a restart exact.

CREATE TABLE calendar_changes (
    as_of BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    removed BOOLEAN NOT NULL,
    ends_at DOUBLE NOT NULL,
    body VARCHAR NOT NULL
);
