-- Queues from which nothing is claimed, until somebody resumes them. Where the queue is registered in DBOS's table, its
-- concurrency is 0 meanwhile, for workers of other SDKs, and what it was before is kept here.

CREATE TABLE IF NOT EXISTS "{prefix}queue_pauses" (
    queue_name  text PRIMARY KEY,
    paused_at   timestamptz NOT NULL DEFAULT now(),
    paused_by   text,
    reason      text,
    registered  boolean NOT NULL DEFAULT false,
    concurrency integer
);
