-- Breakdowns of closed windows by dimension: one row per part; seq as in closed_windows.

CREATE TABLE closed_parts (
    as_of BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    part INTEGER NOT NULL,
    dimension VARCHAR NOT NULL,
    distinct_values BIGINT NOT NULL,
    value VARCHAR NOT NULL,
    requests HUGEINT NOT NULL,
    input_tokens HUGEINT NOT NULL,
    cached_input_tokens HUGEINT NOT NULL,
    output_tokens HUGEINT NOT NULL
);
