-- Histograms of TTFT and TPOT are of requests with status ok. What older versions wrote is of all statuses: every base
-- window that begins before all_before, epoch seconds, may hold some of it.

CREATE TABLE latency_statuses (
    all_before BIGINT NOT NULL
);

INSERT INTO latency_statuses
SELECT coalesce(max(window_start) + 10, 0) FROM windows;
