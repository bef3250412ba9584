-- Sums are HUGEINT: sums of squares over a busy window can pass 64 bits.
-- histograms is append-only and is read merged, by sum(n). The retired_* tables keep what retention took out of the totals.

CREATE TABLE keys (
    key_id INTEGER NOT NULL,
    model VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    dims VARCHAR NOT NULL
);

CREATE TABLE windows (
    window_start BIGINT NOT NULL,
    key_id INTEGER NOT NULL,
    requests HUGEINT NOT NULL,
    ok HUGEINT NOT NULL,
    error HUGEINT NOT NULL,
    cancelled HUGEINT NOT NULL,
    rejected HUGEINT NOT NULL,
    timeout HUGEINT NOT NULL,
    input_tokens HUGEINT NOT NULL,
    cached_input_tokens HUGEINT NOT NULL,
    cached_known HUGEINT NOT NULL,
    output_tokens HUGEINT NOT NULL,
    reasoning_output_tokens HUGEINT NOT NULL,
    input_tokens_squared HUGEINT NOT NULL,
    output_tokens_squared HUGEINT NOT NULL,
    input_output_product HUGEINT NOT NULL,
    kv_token_milliseconds HUGEINT NOT NULL,
    inflight_milliseconds HUGEINT NOT NULL,
    preemptions HUGEINT NOT NULL,
    max_completed_ms BIGINT NOT NULL
);

CREATE TABLE histograms (
    window_start BIGINT NOT NULL,
    key_id INTEGER NOT NULL,
    metric SMALLINT NOT NULL,
    bucket SMALLINT NOT NULL,
    n BIGINT NOT NULL
);

CREATE TABLE delta_positions (
    delta_partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    applied BIGINT NOT NULL,
    dropped BIGINT NOT NULL,
    undecodable BIGINT NOT NULL
);

CREATE TABLE source_positions (
    topic VARCHAR NOT NULL,
    source_partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    max_event_at DOUBLE,
    idle BOOLEAN NOT NULL
);

CREATE TABLE ledger (
    topic VARCHAR NOT NULL,
    source_partition INTEGER NOT NULL,
    records BIGINT NOT NULL,
    events BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    dead_letters BIGINT NOT NULL,
    late BIGINT NOT NULL,
    lost BIGINT NOT NULL
);

CREATE TABLE dead_letters (
    topic VARCHAR NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    reason VARCHAR NOT NULL,
    detail VARCHAR NOT NULL
);

CREATE TABLE retired_dead_letters (
    reason VARCHAR NOT NULL,
    n BIGINT NOT NULL
);

CREATE TABLE retired_totals (
    requests HUGEINT NOT NULL,
    input_tokens HUGEINT NOT NULL,
    output_tokens HUGEINT NOT NULL
);

CREATE TABLE steps (
    as_of BIGINT NOT NULL
);

CREATE TABLE closed_windows (
    as_of BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    window_start BIGINT NOT NULL,
    grain_seconds INTEGER NOT NULL,
    model VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    requests HUGEINT NOT NULL,
    ok HUGEINT NOT NULL,
    rejected HUGEINT NOT NULL,
    input_tokens HUGEINT NOT NULL,
    cached_input_tokens HUGEINT NOT NULL,
    output_tokens HUGEINT NOT NULL,
    input_tokens_squared HUGEINT NOT NULL,
    output_tokens_squared HUGEINT NOT NULL,
    input_output_product HUGEINT NOT NULL,
    kv_token_milliseconds HUGEINT NOT NULL,
    inflight_milliseconds HUGEINT NOT NULL,
    preemptions HUGEINT NOT NULL,
    completeness DOUBLE NOT NULL,
    gap BOOLEAN NOT NULL,
    current_replicas BIGINT,
    ready_replicas BIGINT
);

CREATE TABLE forecasts (
    model VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    signal VARCHAR NOT NULL,
    issued_at DOUBLE NOT NULL,
    horizon_seconds INTEGER NOT NULL,
    q05 DOUBLE,
    q10 DOUBLE,
    q25 DOUBLE,
    q50 DOUBLE,
    q75 DOUBLE,
    q90 DOUBLE,
    q95 DOUBLE,
    q99 DOUBLE
);

CREATE TABLE recommendations (
    model VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    issued_at DOUBLE NOT NULL,
    generation BIGINT NOT NULL,
    body VARCHAR NOT NULL
);

CREATE TABLE alerts (
    alert_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    raised_at DOUBLE NOT NULL,
    changed_at DOUBLE NOT NULL,
    body VARCHAR NOT NULL
);

CREATE TABLE snapshots (
    as_of BIGINT NOT NULL,
    body BLOB NOT NULL
);
