-- How the stock that pools share is split, and what that was made of (pipeline.publish.fleet_split_state): one row. The
-- split before is what changes are counted against, so that a restart must not forget it.

CREATE TABLE fleet_split (
    body VARCHAR NOT NULL
);
