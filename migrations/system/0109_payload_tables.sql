-- Level 109, in a transaction: inputs and results get tables of their own; rows that are there stay as they are.

CREATE TABLE IF NOT EXISTS {schema}.workflow_input (
    workflow_uuid       text PRIMARY KEY,
    inputs              text,
    retention_timestamp bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint
);

CREATE INDEX IF NOT EXISTS idx_workflow_input_retention
    ON {schema}.workflow_input (retention_timestamp);

CREATE TABLE IF NOT EXISTS {schema}.workflow_output (
    workflow_uuid       text PRIMARY KEY,
    output              text,
    error               text,
    retention_timestamp bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint
);

CREATE INDEX IF NOT EXISTS idx_workflow_output_retention
    ON {schema}.workflow_output (retention_timestamp);
