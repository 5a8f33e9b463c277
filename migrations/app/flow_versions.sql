-- Contents of flows that executions began with. A document is stored once, whoever runs it: its hash is over the flow's id,
-- its version and the document. `used_at` is refreshed now and then while executions begin with it.

CREATE TABLE IF NOT EXISTS "{prefix}flow_versions" (
    hash    text PRIMARY KEY,
    flow_id text NOT NULL,
    version integer NOT NULL,
    data    jsonb NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS "{prefix}flow_versions_flow_idx" ON "{prefix}flow_versions" (flow_id, version);

CREATE INDEX IF NOT EXISTS "{prefix}flow_versions_used_idx" ON "{prefix}flow_versions" (used_at);
