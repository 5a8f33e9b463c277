-- Level 102, in a transaction: schedules get an owning application.

ALTER TABLE {schema}.workflow_schedules ADD COLUMN IF NOT EXISTS application_name text;
