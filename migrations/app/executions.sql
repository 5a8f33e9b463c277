-- Executions of flows, as Fireflow's server makes them. Times are UTC without a zone.

CREATE TABLE IF NOT EXISTS "{prefix}executions" (
    id                    text PRIMARY KEY,
    flow_id               text NOT NULL,
    owner_id              text NOT NULL,
    root_execution_id     text,
    parent_execution_id   text,
    status                text NOT NULL DEFAULT 'created',
    created_at            timestamp NOT NULL DEFAULT now(),
    updated_at            timestamp NOT NULL DEFAULT now(),
    started_at            timestamp,
    completed_at          timestamp,
    error_message         text,
    error_node_id         text,
    execution_depth       integer NOT NULL DEFAULT 0,
    options               jsonb,
    integration           jsonb,
    external_events       jsonb,
    failure_count         integer NOT NULL DEFAULT 0,
    last_failure_reason   text,
    last_failure_at       timestamp,
    processing_started_at timestamp,
    processing_worker_id  text
);

CREATE INDEX IF NOT EXISTS "{prefix}executions_flow_depth_idx"
    ON "{prefix}executions" (flow_id, execution_depth, created_at);

CREATE INDEX IF NOT EXISTS "{prefix}executions_root_idx" ON "{prefix}executions" (root_execution_id);

CREATE INDEX IF NOT EXISTS "{prefix}executions_parent_idx" ON "{prefix}executions" (parent_execution_id);

CREATE INDEX IF NOT EXISTS "{prefix}executions_flow_idx" ON "{prefix}executions" (flow_id);

CREATE INDEX IF NOT EXISTS "{prefix}executions_status_idx" ON "{prefix}executions" (status);

CREATE INDEX IF NOT EXISTS "{prefix}executions_started_idx" ON "{prefix}executions" (started_at);

CREATE INDEX IF NOT EXISTS "{prefix}executions_failures_idx" ON "{prefix}executions" (failure_count);

CREATE INDEX IF NOT EXISTS "{prefix}executions_worker_idx" ON "{prefix}executions" (processing_worker_id);

CREATE INDEX IF NOT EXISTS "{prefix}executions_status_failures_idx"
    ON "{prefix}executions" (status, failure_count);

CREATE INDEX IF NOT EXISTS "{prefix}executions_last_failure_idx" ON "{prefix}executions" (last_failure_at);
