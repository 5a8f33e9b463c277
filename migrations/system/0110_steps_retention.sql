-- Level 110, in a transaction: when a step was written; for steps that are there, the time of this migration.

-- The default is the same for all rows, so the table is not rewritten.
ALTER TABLE {schema}.operation_outputs ADD COLUMN IF NOT EXISTS
    retention_timestamp bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint;
