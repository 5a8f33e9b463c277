-- Level 104, in a transaction: steps get the application of their workflow.

ALTER TABLE {schema}.operation_outputs ADD COLUMN IF NOT EXISTS application_name text;
