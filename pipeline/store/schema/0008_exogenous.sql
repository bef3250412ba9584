-- Which rows from outside (external forecasts, values of signals) the engine was given, and when.

CREATE TABLE exogenous_rows (
    as_of BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    about DOUBLE NOT NULL,
    body VARCHAR NOT NULL
);
