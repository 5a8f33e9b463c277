//! The tables and columns that our statements use. A schema that has them is usable, whatever number it records.

/// A table and those of its columns that we need.
pub(super) type Needed = (&'static str, &'static [&'static str]);

/// In the system schema.
pub(super) const SYSTEM: [Needed; 13] = [
    ("dbos_migrations", &["version"]),
    (
        "workflow_status",
        &[
            "workflow_uuid",
            "status",
            "name",
            "authenticated_user",
            "assumed_role",
            "authenticated_roles",
            "output",
            "error",
            "executor_id",
            "created_at",
            "updated_at",
            "application_version",
            "application_id",
            "class_name",
            "config_name",
            "recovery_attempts",
            "queue_name",
            "workflow_timeout_ms",
            "workflow_deadline_epoch_ms",
            "inputs",
            "started_at_epoch_ms",
            "deduplication_id",
            "priority",
            "queue_partition_key",
            "owner_xid",
            "parent_workflow_id",
            "serialization",
            "delay_until_epoch_ms",
            "rate_limited",
            "completed_at",
            "attributes",
            "is_debounced",
            "application_name",
            "creator_xid",
        ],
    ),
    ("workflow_input", &["workflow_uuid", "inputs", "retention_timestamp"]),
    ("workflow_output", &["workflow_uuid", "output", "error", "retention_timestamp"]),
    (
        "operation_outputs",
        &[
            "workflow_uuid",
            "function_id",
            "function_name",
            "output",
            "error",
            "child_workflow_id",
            "started_at_epoch_ms",
            "completed_at_epoch_ms",
            "serialization",
            "application_name",
            "retention_timestamp",
        ],
    ),
    (
        "notifications",
        &[
            "message_uuid",
            "destination_uuid",
            "topic",
            "message",
            "created_at_epoch_ms",
            "serialization",
            "consumed",
            "consumed_by_function_id",
        ],
    ),
    ("workflow_events", &["workflow_uuid", "key", "value", "serialization"]),
    ("workflow_events_history", &["workflow_uuid", "function_id", "key", "value", "serialization"]),
    ("streams", &["workflow_uuid", "key", "value", "offset", "function_id", "serialization"]),
    (
        "queues",
        &[
            "queue_id",
            "name",
            "concurrency",
            "worker_concurrency",
            "rate_limit_max",
            "rate_limit_period_sec",
            "priority_enabled",
            "partition_queue",
            "polling_interval_sec",
            "created_at",
            "updated_at",
            "application_name",
            "partition_concurrency",
            "partition_worker_concurrency",
            "partition_rate_limit_max",
            "partition_rate_limit_period_sec",
        ],
    ),
    ("application_versions", &["version_id", "version_name", "version_timestamp", "created_at", "application_name"]),
    // Of these no column is used; but where they are, DBOS has been.
    ("workflow_schedules", &[]),
    ("event_dispatch_kv", &[]),
];

/// Fireflow's flows.
pub(super) const FLOWS: Needed = ("flows", &["id", "data", "created_at", "updated_at", "owner_id", "version"]);

/// Fireflow's executions.
pub(super) const EXECUTIONS: Needed = (
    "executions",
    &[
        "id",
        "flow_id",
        "owner_id",
        "root_execution_id",
        "parent_execution_id",
        "status",
        "created_at",
        "updated_at",
        "started_at",
        "completed_at",
        "error_message",
        "error_node_id",
        "execution_depth",
        "options",
        "integration",
        "external_events",
        "failure_count",
    ],
);

/// Contents that executions began with.
pub(super) const FLOW_VERSIONS: Needed = ("flow_versions", &["hash", "flow_id", "version", "data", "used_at"]);

/// Which execution began with which.
pub(super) const FLOW_PINS: Needed = ("flow_pins", &["workflow_id", "hash", "pinned_at"]);

/// Our account of crashes.
pub(super) const CRASHES: Needed = (
    "crashes",
    &["workflow_id", "crashes", "steps", "attempts", "worker_id", "incarnation", "host", "reason", "crashed_at"],
);

/// Queues that somebody paused.
pub(super) const QUEUE_PAUSES: Needed =
    ("queue_pauses", &["queue_name", "paused_at", "paused_by", "reason", "registered", "concurrency"]);

/// Workers that somebody asked to drain.
pub(super) const DRAIN_REQUESTS: Needed =
    ("drain_requests", &["worker_id", "incarnation", "requested_at", "requested_by", "at_once"]);

/// Our leases.
pub(super) const WORKERS: Needed = (
    "workers",
    &[
        "id",
        "incarnation",
        "host",
        "process_identity",
        "pid",
        "process_started",
        "application_name",
        "application_version",
        "queue_name",
        "worker_version",
        "started_at",
        "renewed_at",
        "expires_at",
        "state",
    ],
);
