//! What an SDK's schema is at level 100: the tables and columns, and what was made differently or not yet below it.
//!
//! Below level 100 each language's SDK numbered its own changes, so that a number says little. But all of them came to the
//! same at level 100, and made the same objects under the same names on the way. What is not there, or not yet of the
//! later kind, is a step to be done.

use super::Need;

/// Milliseconds of the server's clock, as the default of a column.
pub(super) const NOW: &str = "(EXTRACT(epoch FROM now()) * 1000.0)::bigint";

/// A table at level 100.
pub(super) struct Table {
    pub name: &'static str,
    /// Columns in the order in which the SDKs added them: name, type, and what follows it. `{now}` is [`NOW`].
    pub columns: &'static [(&'static str, &'static str, &'static str)],
    /// Columns without which the table is no SDK's; a table that has such must be there.
    pub founding: &'static [&'static str],
    /// Constraints of a table that is made now.
    pub constraints: &'static str,
}

pub(super) const TABLES: &[Table] = &[
    Table {
        name: "dbos_migrations",
        columns: &[("version", "bigint", "NOT NULL")],
        founding: &["version"],
        constraints: "",
    },
    Table {
        name: "workflow_status",
        columns: &[
            ("workflow_uuid", "text", "NOT NULL"),
            ("status", "text", ""),
            ("name", "text", ""),
            ("authenticated_user", "text", ""),
            ("assumed_role", "text", ""),
            ("authenticated_roles", "text", ""),
            ("request", "text", ""),
            ("output", "text", ""),
            ("error", "text", ""),
            ("executor_id", "text", ""),
            ("created_at", "bigint", "NOT NULL DEFAULT {now}"),
            ("updated_at", "bigint", "NOT NULL DEFAULT {now}"),
            ("application_version", "text", ""),
            ("application_id", "text", ""),
            ("class_name", "character varying(255)", "DEFAULT NULL"),
            ("config_name", "character varying(255)", "DEFAULT NULL"),
            ("recovery_attempts", "bigint", "DEFAULT 0"),
            ("queue_name", "text", ""),
            ("workflow_timeout_ms", "bigint", ""),
            ("workflow_deadline_epoch_ms", "bigint", ""),
            ("inputs", "text", ""),
            ("started_at_epoch_ms", "bigint", ""),
            ("deduplication_id", "text", ""),
            ("priority", "integer", "NOT NULL DEFAULT 0"),
            ("queue_partition_key", "text", ""),
            ("forked_from", "text", ""),
            ("owner_xid", "text", ""),
            ("parent_workflow_id", "text", ""),
            ("serialization", "text", ""),
            ("delay_until_epoch_ms", "bigint", ""),
            ("was_forked_from", "boolean", "NOT NULL DEFAULT false"),
            ("rate_limited", "boolean", "NOT NULL DEFAULT false"),
            ("completed_at", "bigint", ""),
            ("attributes", "jsonb", ""),
            ("schedule_name", "text", ""),
            ("debounce_deadline_epoch_ms", "bigint", ""),
            ("is_debounced", "boolean", "NOT NULL DEFAULT false"),
            ("application_name", "text", ""),
        ],
        founding: &[
            "workflow_uuid",
            "status",
            "name",
            "authenticated_user",
            "assumed_role",
            "authenticated_roles",
            "request",
            "output",
            "error",
            "executor_id",
            "created_at",
            "updated_at",
        ],
        constraints: "",
    },
    Table {
        name: "operation_outputs",
        columns: &[
            ("workflow_uuid", "text", "NOT NULL"),
            ("function_id", "integer", "NOT NULL"),
            ("function_name", "text", "NOT NULL DEFAULT ''"),
            ("output", "text", ""),
            ("error", "text", ""),
            ("child_workflow_id", "text", ""),
            ("started_at_epoch_ms", "bigint", ""),
            ("completed_at_epoch_ms", "bigint", ""),
            ("serialization", "text", ""),
        ],
        founding: &["workflow_uuid", "function_id", "output", "error"],
        constraints: "",
    },
    Table {
        name: "notifications",
        columns: &[
            ("message_uuid", "text", "NOT NULL DEFAULT gen_random_uuid()"),
            ("destination_uuid", "text", "NOT NULL"),
            ("topic", "text", ""),
            ("message", "text", "NOT NULL"),
            ("created_at_epoch_ms", "bigint", "NOT NULL DEFAULT {now}"),
            ("serialization", "text", ""),
            ("consumed", "boolean", "NOT NULL DEFAULT false"),
        ],
        founding: &["message_uuid", "destination_uuid", "topic", "message", "created_at_epoch_ms"],
        constraints: "",
    },
    Table {
        name: "workflow_events",
        columns: &[
            ("workflow_uuid", "text", "NOT NULL"),
            ("key", "text", "NOT NULL"),
            ("value", "text", "NOT NULL"),
            ("serialization", "text", ""),
        ],
        founding: &["workflow_uuid", "key", "value"],
        constraints: "",
    },
    Table {
        name: "workflow_events_history",
        columns: &[
            ("workflow_uuid", "text", "NOT NULL"),
            ("function_id", "integer", "NOT NULL"),
            ("key", "text", "NOT NULL"),
            ("value", "text", "NOT NULL"),
            ("serialization", "text", ""),
        ],
        founding: &[],
        constraints: "PRIMARY KEY (workflow_uuid, function_id, key), FOREIGN KEY (workflow_uuid) REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE",
    },
    Table {
        name: "streams",
        columns: &[
            ("workflow_uuid", "text", "NOT NULL"),
            ("key", "text", "NOT NULL"),
            ("value", "text", "NOT NULL"),
            ("offset", "integer", "NOT NULL"),
            ("function_id", "integer", "NOT NULL DEFAULT 0"),
            ("serialization", "text", ""),
        ],
        founding: &[],
        constraints: "PRIMARY KEY (workflow_uuid, key, \"offset\"), FOREIGN KEY (workflow_uuid) REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE",
    },
    Table {
        name: "queues",
        columns: &[
            ("queue_id", "text", "NOT NULL DEFAULT (gen_random_uuid())::text"),
            ("name", "text", "NOT NULL"),
            ("concurrency", "integer", ""),
            ("worker_concurrency", "integer", ""),
            ("rate_limit_max", "integer", ""),
            ("rate_limit_period_sec", "double precision", ""),
            ("priority_enabled", "boolean", "NOT NULL DEFAULT false"),
            ("partition_queue", "boolean", "NOT NULL DEFAULT false"),
            ("polling_interval_sec", "double precision", "NOT NULL DEFAULT 1.0"),
            ("created_at", "bigint", "NOT NULL DEFAULT {now}"),
            ("updated_at", "bigint", "NOT NULL DEFAULT {now}"),
        ],
        founding: &[],
        constraints: "PRIMARY KEY (queue_id), UNIQUE (name)",
    },
    Table {
        name: "application_versions",
        columns: &[
            ("version_id", "text", "NOT NULL"),
            ("version_name", "text", "NOT NULL"),
            ("version_timestamp", "bigint", "NOT NULL DEFAULT {now}"),
            ("created_at", "bigint", "NOT NULL DEFAULT {now}"),
        ],
        founding: &[],
        constraints: "PRIMARY KEY (version_id), UNIQUE (version_name)",
    },
    Table {
        name: "workflow_schedules",
        columns: &[
            ("schedule_id", "text", "NOT NULL"),
            ("schedule_name", "text", "NOT NULL"),
            ("workflow_name", "text", "NOT NULL"),
            ("workflow_class_name", "text", ""),
            ("schedule", "text", "NOT NULL"),
            ("status", "text", "NOT NULL DEFAULT 'ACTIVE'"),
            ("context", "text", "NOT NULL"),
            ("last_fired_at", "text", ""),
            ("automatic_backfill", "boolean", "NOT NULL DEFAULT false"),
            ("cron_timezone", "text", ""),
            ("queue_name", "text", ""),
        ],
        founding: &[],
        constraints: "PRIMARY KEY (schedule_id), UNIQUE (schedule_name)",
    },
    Table {
        name: "event_dispatch_kv",
        columns: &[
            ("service_name", "text", "NOT NULL"),
            ("workflow_fn_name", "text", "NOT NULL"),
            ("key", "text", "NOT NULL"),
            ("value", "text", ""),
            ("update_seq", "numeric(38,0)", ""),
            ("update_time", "numeric(38,15)", ""),
        ],
        founding: &[],
        constraints: "PRIMARY KEY (service_name, workflow_fn_name, key)",
    },
];

/// Tables with a foreign key from early on. The first SDKs of all, of the beginning of 2024, made them without.
pub(super) const DEPENDENT: [&str; 2] = ["notifications", "workflow_events"];

/// Drops a table, unless it holds something by the time that nobody else can write to it.
macro_rules! drop_if_empty {
    ($table:literal) => {
        concat!(
            "DO $$ BEGIN
                 LOCK TABLE {schema}.",
            $table,
            ";
                 IF NOT EXISTS (SELECT FROM {schema}.",
            $table,
            ") THEN
                     DROP TABLE {schema}.",
            $table,
            ";
                 END IF;
             END $$"
        )
    };
}

/// Statements that are run once what they need is missing, in their order. Each may be run again.
pub(super) const STEPS: &[(Need, &str)] = &[
    (
        Need::Index { name: "workflow_status_created_at_index", filtered: false },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_status_created_at_index ON {schema}.workflow_status (created_at)",
    ),
    (
        Need::Index { name: "idx_workflow_status_forked_from", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_forked_from ON {schema}.workflow_status (forked_from) WHERE forked_from IS NOT NULL",
    ),
    (
        Need::Index { name: "idx_workflow_status_parent_workflow_id", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_parent_workflow_id ON {schema}.workflow_status (parent_workflow_id) WHERE parent_workflow_id IS NOT NULL",
    ),
    (
        Need::Index { name: "uq_workflow_status_dedup_id", filtered: true },
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_workflow_status_dedup_id ON {schema}.workflow_status (queue_name, deduplication_id) WHERE deduplication_id IS NOT NULL",
    ),
    (
        Need::Index { name: "idx_workflow_status_pending", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_pending ON {schema}.workflow_status (created_at) WHERE status = 'PENDING'",
    ),
    (
        Need::Index { name: "idx_workflow_status_failed", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_failed ON {schema}.workflow_status (status, created_at) WHERE status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')",
    ),
    (
        Need::Index { name: "idx_workflow_status_in_flight", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_in_flight ON {schema}.workflow_status (queue_name, status, priority, created_at) WHERE status IN ('ENQUEUED', 'PENDING')",
    ),
    (
        Need::Index { name: "idx_workflow_status_delayed", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_delayed ON {schema}.workflow_status (delay_until_epoch_ms) WHERE status = 'DELAYED'",
    ),
    (
        Need::Index { name: "idx_workflow_status_rate_limited", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_rate_limited ON {schema}.workflow_status (queue_name, started_at_epoch_ms) WHERE rate_limited = true",
    ),
    (
        Need::Index { name: "idx_workflow_status_completed_at", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_completed_at ON {schema}.workflow_status (completed_at) WHERE completed_at IS NOT NULL",
    ),
    (
        Need::Index { name: "idx_workflow_status_started_at", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_started_at ON {schema}.workflow_status (started_at_epoch_ms) WHERE started_at_epoch_ms IS NOT NULL",
    ),
    (
        Need::Index { name: "idx_workflow_status_attributes", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_attributes ON {schema}.workflow_status USING gin (attributes) WHERE attributes IS NOT NULL",
    ),
    (
        Need::Index { name: "idx_workflow_status_schedule_name", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_schedule_name ON {schema}.workflow_status (schedule_name) WHERE schedule_name IS NOT NULL",
    ),
    (
        Need::Index { name: "idx_workflow_status_partition_dequeue_v2", filtered: true },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_status_partition_dequeue_v2 ON {schema}.workflow_status (queue_name, status, queue_partition_key, priority, created_at, workflow_uuid) WHERE status IN ('ENQUEUED', 'PENDING') AND queue_partition_key IS NOT NULL",
    ),
    (
        Need::Index { name: "idx_operation_outputs_completed_at_function_name", filtered: false },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_operation_outputs_completed_at_function_name ON {schema}.operation_outputs (completed_at_epoch_ms, function_name)",
    ),
    (
        Need::Index { name: "idx_workflow_topic", filtered: false },
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_workflow_topic ON {schema}.notifications (destination_uuid, topic)",
    ),
    // The unique index that takes its place is there by now.
    (
        Need::NoConstraint { table: "workflow_status", name: "uq_workflow_status_queue_name_dedup_id" },
        "ALTER TABLE {schema}.workflow_status DROP CONSTRAINT IF EXISTS uq_workflow_status_queue_name_dedup_id",
    ),
    (
        Need::NoIndex("workflow_status_executor_id_index"),
        "DROP INDEX CONCURRENTLY IF EXISTS {schema}.workflow_status_executor_id_index",
    ),
    (
        Need::NoIndex("workflow_status_status_index"),
        "DROP INDEX CONCURRENTLY IF EXISTS {schema}.workflow_status_status_index",
    ),
    (
        Need::NoIndex("idx_workflow_status_queue_status_started"),
        "DROP INDEX CONCURRENTLY IF EXISTS {schema}.idx_workflow_status_queue_status_started",
    ),
    (
        Need::NoIndex("idx_workflow_status_partition_dequeue"),
        "DROP INDEX CONCURRENTLY IF EXISTS {schema}.idx_workflow_status_partition_dequeue",
    ),
    // Readers are told after the commit, since then, by who wrote.
    (
        Need::NoTrigger { table: "workflow_events", name: "dbos_workflow_events_trigger" },
        "DROP TRIGGER IF EXISTS dbos_workflow_events_trigger ON {schema}.workflow_events;
         DROP FUNCTION IF EXISTS {schema}.workflow_events_function()",
    ),
    (
        Need::NoTrigger { table: "streams", name: "dbos_streams_trigger" },
        "DROP TRIGGER IF EXISTS dbos_streams_trigger ON {schema}.streams;
         DROP FUNCTION IF EXISTS {schema}.streams_function()",
    ),
    (
        Need::Function { name: "enqueue_workflow", arguments: &[16, 17] },
        include_str!("../../../../migrations/system/0100_enqueue_workflow.sql"),
    ),
    (
        Need::Function { name: "send_message", arguments: &[4] },
        include_str!("../../../../migrations/system/0100_send_message.sql"),
    ),
    (
        Need::SafePath("notifications_function"),
        "ALTER FUNCTION {schema}.notifications_function() SET search_path = pg_catalog, pg_temp",
    ),
    (
        Need::SafePath("send_message"),
        "ALTER FUNCTION {schema}.send_message(text, json, text, text) SET search_path = pg_catalog, pg_temp",
    ),
    // Left from before queue and inputs had columns in workflow_status.
    (Need::NoEmptyTable("workflow_inputs"), drop_if_empty!("workflow_inputs")),
    (Need::NoEmptyTable("workflow_queue"), drop_if_empty!("workflow_queue")),
    (Need::NoEmptyTable("scheduler_state"), drop_if_empty!("scheduler_state")),
];
