-- What fleets reported between two steps, where it changed advice: what makes a restart exact. after_step is the step
-- that the revision of as_of follows (NULL: none had been made), fleet a report as in closed_windows (JSON).

CREATE TABLE readings (
    as_of BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    after_step BIGINT,
    model VARCHAR NOT NULL,
    pool VARCHAR NOT NULL,
    current_replicas BIGINT,
    ready_replicas BIGINT,
    fleet VARCHAR
);
