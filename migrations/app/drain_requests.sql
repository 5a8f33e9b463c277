-- Workers that were asked to drain and end. A request is for one life of a worker: its incarnation in the workers table. Whoever
-- comes after it isn't meant.

CREATE TABLE IF NOT EXISTS "{prefix}drain_requests" (
    worker_id    text PRIMARY KEY,
    incarnation  uuid NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    requested_by text,
    at_once      boolean NOT NULL DEFAULT false
);
