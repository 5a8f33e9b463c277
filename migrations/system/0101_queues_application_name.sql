-- Level 101, in a transaction: queues get an owning application.

ALTER TABLE {schema}.queues ADD COLUMN IF NOT EXISTS application_name text;
