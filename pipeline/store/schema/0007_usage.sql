-- Requests whose token counts are unknown: what they add to the sums is missing, not 0. And what a record can hold
-- besides one event: nothing to count (ignored), parts that are no requests, unusable values.

ALTER TABLE windows ADD COLUMN IF NOT EXISTS input_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE windows ADD COLUMN IF NOT EXISTS output_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS input_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS output_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE closed_windows_300 ADD COLUMN IF NOT EXISTS input_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE closed_windows_300 ADD COLUMN IF NOT EXISTS output_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE closed_windows_3600 ADD COLUMN IF NOT EXISTS input_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE closed_windows_3600 ADD COLUMN IF NOT EXISTS output_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE late_windows ADD COLUMN IF NOT EXISTS input_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE late_windows ADD COLUMN IF NOT EXISTS output_tokens_unknown HUGEINT DEFAULT 0;

ALTER TABLE ledger ADD COLUMN IF NOT EXISTS ignored BIGINT DEFAULT 0;

ALTER TABLE ledger ADD COLUMN IF NOT EXISTS event_records BIGINT DEFAULT 0;

UPDATE ledger SET event_records = events + duplicates;

CREATE TABLE IF NOT EXISTS event_notes (
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    n BIGINT NOT NULL
);
