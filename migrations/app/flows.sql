-- Stored flows, as Fireflow's server makes them. Times are UTC without a zone.
-- {prefix} stands for the tables' prefix, which needs no quotes inside of quotes.

CREATE TABLE IF NOT EXISTS "{prefix}flows" (
    id         text PRIMARY KEY,
    data       jsonb NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now(),
    owner_id   text,
    parent_id  text,
    version    integer NOT NULL DEFAULT 1
);

CREATE INDEX IF NOT EXISTS "{prefix}flows_owner_created_idx" ON "{prefix}flows" (owner_id, created_at);

CREATE INDEX IF NOT EXISTS "{prefix}flows_owner_updated_idx" ON "{prefix}flows" (owner_id, updated_at);

CREATE INDEX IF NOT EXISTS "{prefix}flows_parent_idx" ON "{prefix}flows" (parent_id);
