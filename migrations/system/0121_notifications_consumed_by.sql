-- Level 121, in a transaction: which step consumed a message.

ALTER TABLE {schema}.notifications ADD COLUMN IF NOT EXISTS consumed_by_function_id int4;
