-- What advice needs beside the counts, so that it can be made again: the reports of the fleet (JSON), how old a
-- window was when it closed, how many servers it names, and how its requests were served (JSON).

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS fleet VARCHAR;

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS closed_after_seconds DOUBLE;

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS servers BIGINT;

ALTER TABLE closed_windows ADD COLUMN IF NOT EXISTS service VARCHAR;
