-- Level 123, in a transaction: the token of who made the row.

ALTER TABLE {schema}.workflow_status ADD COLUMN IF NOT EXISTS creator_xid text;
