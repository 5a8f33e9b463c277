-- Leases of workers, on the database's clock. A worker whose lease has expired is dead, and its rows go back to the
-- queue. The process is known by boot and process namespace, number and start, so that a restart on the same machine
-- can tell its earlier life from a living twin.

CREATE TABLE IF NOT EXISTS "{prefix}workers" (
    id                  text PRIMARY KEY,
    incarnation         uuid NOT NULL,
    host                text,
    process_identity    text,
    pid                 integer,
    process_started     bigint,
    application_name    text,
    application_version text,
    queue_name          text,
    worker_version      text,
    started_at          timestamptz NOT NULL DEFAULT now(),
    renewed_at          timestamptz NOT NULL DEFAULT now(),
    expires_at          timestamptz NOT NULL,
    state               text NOT NULL CHECK (state IN ('running', 'draining', 'stopped'))
);

CREATE INDEX IF NOT EXISTS "{prefix}workers_expires_idx" ON "{prefix}workers" (expires_at);
