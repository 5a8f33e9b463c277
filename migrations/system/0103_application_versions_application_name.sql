-- Level 103, in a transaction: versions get an owning application.

ALTER TABLE {schema}.application_versions ADD COLUMN IF NOT EXISTS application_name text;
