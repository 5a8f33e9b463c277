-- Level 108, in a transaction: limits that hold for each partition of a queue.

ALTER TABLE {schema}.queues ADD COLUMN IF NOT EXISTS partition_concurrency int4;
ALTER TABLE {schema}.queues ADD COLUMN IF NOT EXISTS partition_worker_concurrency int4;
ALTER TABLE {schema}.queues ADD COLUMN IF NOT EXISTS partition_rate_limit_max int4;
ALTER TABLE {schema}.queues ADD COLUMN IF NOT EXISTS partition_rate_limit_period_sec float8;
