-- Closed windows added up to coarser grains, and late events by closed window; both filled from what is stored.

CREATE TABLE closed_windows_3600 (
    window_start BIGINT NOT NULL,
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
    closed BIGINT NOT NULL,
    completeness DOUBLE NOT NULL,
    gap BOOLEAN NOT NULL,
    current_replicas BIGINT,
    ready_replicas BIGINT
);

CREATE TABLE closed_windows_300 (
    window_start BIGINT NOT NULL,
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
    closed BIGINT NOT NULL,
    completeness DOUBLE NOT NULL,
    gap BOOLEAN NOT NULL,
    current_replicas BIGINT,
    ready_replicas BIGINT
);

CREATE TABLE late_windows (
    window_start BIGINT NOT NULL,
    key_id INTEGER NOT NULL,
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
    preemptions HUGEINT NOT NULL
);

INSERT INTO closed_windows_3600
SELECT
    window_start // 3600 * 3600 AS start,
    model,
    pool,
    sum(requests) AS requests,
    sum(ok) AS ok,
    sum(rejected) AS rejected,
    sum(input_tokens) AS input_tokens,
    sum(cached_input_tokens) AS cached_input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(input_tokens_squared) AS input_tokens_squared,
    sum(output_tokens_squared) AS output_tokens_squared,
    sum(input_output_product) AS input_output_product,
    sum(kv_token_milliseconds) AS kv_token_milliseconds,
    sum(inflight_milliseconds) AS inflight_milliseconds,
    sum(preemptions) AS preemptions,
    count(*),
    min(completeness),
    bool_or(gap),
    arg_max(current_replicas, window_start),
    arg_max(ready_replicas, window_start)
FROM closed_windows
WHERE window_start < (SELECT max(as_of) FROM steps) // 3600 * 3600
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

INSERT INTO closed_windows_300
SELECT
    window_start // 300 * 300 AS start,
    model,
    pool,
    sum(requests) AS requests,
    sum(ok) AS ok,
    sum(rejected) AS rejected,
    sum(input_tokens) AS input_tokens,
    sum(cached_input_tokens) AS cached_input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(input_tokens_squared) AS input_tokens_squared,
    sum(output_tokens_squared) AS output_tokens_squared,
    sum(input_output_product) AS input_output_product,
    sum(kv_token_milliseconds) AS kv_token_milliseconds,
    sum(inflight_milliseconds) AS inflight_milliseconds,
    sum(preemptions) AS preemptions,
    count(*),
    min(completeness),
    bool_or(gap),
    arg_max(current_replicas, window_start),
    arg_max(ready_replicas, window_start)
FROM closed_windows
WHERE window_start < (SELECT max(as_of) FROM steps) // 300 * 300
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

INSERT INTO late_windows
WITH g AS (SELECT max(grain_seconds) AS grain FROM closed_windows), b AS (
    SELECT
        window_start // grain * grain AS start,
        model,
        pool,
        min(key_id) AS key_id,
        sum(requests) AS requests,
        sum(ok) AS ok,
        sum(rejected) AS rejected,
        sum(input_tokens) AS input_tokens,
        sum(cached_input_tokens) AS cached_input_tokens,
        sum(output_tokens) AS output_tokens,
        sum(input_tokens_squared) AS input_tokens_squared,
        sum(output_tokens_squared) AS output_tokens_squared,
        sum(input_output_product) AS input_output_product,
        sum(kv_token_milliseconds) AS kv_token_milliseconds,
        sum(inflight_milliseconds) AS inflight_milliseconds,
        sum(preemptions) AS preemptions
    FROM windows JOIN keys USING (key_id), g
    WHERE window_start < (SELECT max(as_of) FROM steps)
    GROUP BY 1, 2, 3
)
SELECT
    b.start,
    b.key_id,
    b.requests - coalesce(c.requests, 0),
    b.ok - coalesce(c.ok, 0),
    b.rejected - coalesce(c.rejected, 0),
    b.input_tokens - coalesce(c.input_tokens, 0),
    b.cached_input_tokens - coalesce(c.cached_input_tokens, 0),
    b.output_tokens - coalesce(c.output_tokens, 0),
    b.input_tokens_squared - coalesce(c.input_tokens_squared, 0),
    b.output_tokens_squared - coalesce(c.output_tokens_squared, 0),
    b.input_output_product - coalesce(c.input_output_product, 0),
    b.kv_token_milliseconds - coalesce(c.kv_token_milliseconds, 0),
    b.inflight_milliseconds - coalesce(c.inflight_milliseconds, 0),
    b.preemptions - coalesce(c.preemptions, 0)
FROM b
LEFT JOIN closed_windows c ON c.window_start = b.start AND c.model = b.model AND c.pool = b.pool
WHERE b.requests > coalesce(c.requests, 0);
