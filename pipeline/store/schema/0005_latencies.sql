-- IF NOT EXISTS: some files made before this migration have the columns already.

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS ttft_seconds DOUBLE;

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS tpot_seconds DOUBLE;
