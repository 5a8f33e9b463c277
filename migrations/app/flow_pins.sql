-- Which content an unfinished execution began with. The row goes with the execution's end.

CREATE TABLE IF NOT EXISTS "{prefix}flow_pins" (
    workflow_id text PRIMARY KEY,
    hash        text NOT NULL,
    pinned_at   timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS "{prefix}flow_pins_hash_idx" ON "{prefix}flow_pins" (hash);
