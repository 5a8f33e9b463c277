-- The system database of DBOS as its migrations leave it at level 125, made in one go.
--
-- Facts, not text, come from the SDKs: names, types, defaults and order of columns are theirs, because their clients
-- and workers share these tables with us. A test compares the outcome with a database that an SDK migrated.
-- {schema} stands for the quoted name of the schema, which exists already. All times are epoch milliseconds.

CREATE TABLE {schema}.dbos_migrations (
    version bigint PRIMARY KEY
);

-- One row a workflow execution: queue entry, lease and outcome in one. New clients keep inputs and results in the two
-- tables after this one; the columns inputs, output and error here are read and written by old ones.
CREATE TABLE {schema}.workflow_status (
    workflow_uuid              text PRIMARY KEY,
    status                     text,
    name                       text,
    authenticated_user         text,
    assumed_role               text,
    authenticated_roles        text,
    request                    text,
    output                     text,
    error                      text,
    executor_id                text,
    created_at                 bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    updated_at                 bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    application_version        text,
    application_id             text,
    class_name                 varchar(255) DEFAULT NULL,
    config_name                varchar(255) DEFAULT NULL,
    recovery_attempts          bigint DEFAULT 0,
    queue_name                 text,
    workflow_timeout_ms        bigint,
    workflow_deadline_epoch_ms bigint,
    inputs                     text,
    started_at_epoch_ms        bigint,
    deduplication_id           text,
    priority                   int4 NOT NULL DEFAULT 0,
    queue_partition_key        text,
    forked_from                text,
    owner_xid                  text,
    parent_workflow_id         text,
    serialization              text,
    delay_until_epoch_ms       bigint,
    was_forked_from            boolean NOT NULL DEFAULT false,
    rate_limited               boolean NOT NULL DEFAULT false,
    completed_at               bigint,
    attributes                 jsonb,
    schedule_name              text,
    debounce_deadline_epoch_ms bigint,
    is_debounced               boolean NOT NULL DEFAULT false,
    application_name           text,
    creator_xid                text
);

CREATE INDEX workflow_status_created_at_index
    ON {schema}.workflow_status (created_at);

-- What a worker's claim reads, and what counts what is running under a global limit.
CREATE INDEX idx_workflow_status_in_flight_v2
    ON {schema}.workflow_status (queue_name, status, priority, created_at) INCLUDE (application_name)
    WHERE status IN ('ENQUEUED', 'PENDING');

CREATE INDEX idx_workflow_status_partition_dequeue_v3
    ON {schema}.workflow_status (queue_name, status, queue_partition_key, priority, created_at, workflow_uuid)
    INCLUDE (application_name)
    WHERE status IN ('ENQUEUED', 'PENDING') AND queue_partition_key IS NOT NULL;

CREATE UNIQUE INDEX uq_workflow_status_dedup_id
    ON {schema}.workflow_status (queue_name, deduplication_id)
    WHERE deduplication_id IS NOT NULL;

-- What recovery reads.
CREATE INDEX idx_workflow_status_pending
    ON {schema}.workflow_status (created_at)
    WHERE status = 'PENDING';

CREATE INDEX idx_workflow_status_failed
    ON {schema}.workflow_status (status, created_at)
    WHERE status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED');

-- The two sweeps.
CREATE INDEX idx_workflow_status_delayed
    ON {schema}.workflow_status (delay_until_epoch_ms)
    WHERE status = 'DELAYED';

CREATE INDEX idx_workflow_status_deadline
    ON {schema}.workflow_status (workflow_deadline_epoch_ms)
    WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED') AND workflow_deadline_epoch_ms IS NOT NULL;

CREATE INDEX idx_workflow_status_rate_limited
    ON {schema}.workflow_status (queue_name, started_at_epoch_ms)
    WHERE rate_limited = true;

CREATE INDEX idx_workflow_status_completed_at
    ON {schema}.workflow_status (completed_at)
    WHERE completed_at IS NOT NULL;

CREATE INDEX idx_workflow_status_started_at
    ON {schema}.workflow_status (started_at_epoch_ms)
    WHERE started_at_epoch_ms IS NOT NULL;

CREATE INDEX idx_workflow_status_forked_from
    ON {schema}.workflow_status (forked_from)
    WHERE forked_from IS NOT NULL;

CREATE INDEX idx_workflow_status_parent_workflow_id
    ON {schema}.workflow_status (parent_workflow_id)
    WHERE parent_workflow_id IS NOT NULL;

CREATE INDEX idx_workflow_status_schedule_name
    ON {schema}.workflow_status (schedule_name)
    WHERE schedule_name IS NOT NULL;

CREATE INDEX idx_workflow_status_attributes
    ON {schema}.workflow_status USING gin (attributes)
    WHERE attributes IS NOT NULL;

-- Payloads stand apart from the status row, which changes often; no foreign keys, by the design of DBOS.
CREATE TABLE {schema}.workflow_input (
    workflow_uuid       text PRIMARY KEY,
    inputs              text,
    retention_timestamp bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint
);

CREATE INDEX idx_workflow_input_retention
    ON {schema}.workflow_input (retention_timestamp);

CREATE TABLE {schema}.workflow_output (
    workflow_uuid       text PRIMARY KEY,
    output              text,
    error               text,
    retention_timestamp bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint
);

CREATE INDEX idx_workflow_output_retention
    ON {schema}.workflow_output (retention_timestamp);

-- Steps: one row a recorded step of a workflow.
CREATE TABLE {schema}.operation_outputs (
    workflow_uuid         text,
    function_id           int4,
    function_name         text NOT NULL DEFAULT '',
    output                text,
    error                 text,
    child_workflow_id     text,
    started_at_epoch_ms   bigint,
    completed_at_epoch_ms bigint,
    serialization         text,
    application_name      text,
    retention_timestamp   bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    PRIMARY KEY (workflow_uuid, function_id)
);

CREATE INDEX idx_operation_outputs_completed_at_function_name_v2
    ON {schema}.operation_outputs (completed_at_epoch_ms, function_name) INCLUDE (application_name);

CREATE INDEX idx_operation_outputs_retention
    ON {schema}.operation_outputs (retention_timestamp);

-- Messages to workflows.
CREATE TABLE {schema}.notifications (
    message_uuid            text PRIMARY KEY DEFAULT gen_random_uuid(),
    destination_uuid        text NOT NULL
        REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE,
    topic                   text,
    message                 text NOT NULL,
    created_at_epoch_ms     bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    serialization           text,
    consumed                boolean NOT NULL DEFAULT false,
    consumed_by_function_id int4
);

CREATE INDEX idx_workflow_topic
    ON {schema}.notifications (destination_uuid, topic);

-- Events (the latest value of each key), their history, and streams.
CREATE TABLE {schema}.workflow_events (
    workflow_uuid text NOT NULL
        REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE,
    key           text NOT NULL,
    value         text NOT NULL,
    serialization text,
    PRIMARY KEY (workflow_uuid, key)
);

CREATE TABLE {schema}.workflow_events_history (
    workflow_uuid text NOT NULL
        REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE,
    function_id   int4 NOT NULL,
    key           text NOT NULL,
    value         text NOT NULL,
    serialization text,
    PRIMARY KEY (workflow_uuid, function_id, key)
);

CREATE TABLE {schema}.streams (
    workflow_uuid text NOT NULL
        REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE,
    key           text NOT NULL,
    value         text NOT NULL,
    "offset"      int4 NOT NULL,
    function_id   int4 NOT NULL DEFAULT 0,
    serialization text,
    PRIMARY KEY (workflow_uuid, key, "offset")
);

CREATE TABLE {schema}.queues (
    queue_id                        text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    name                            text NOT NULL UNIQUE,
    concurrency                     int4,
    worker_concurrency              int4,
    rate_limit_max                  int4,
    rate_limit_period_sec           float8,
    priority_enabled                boolean NOT NULL DEFAULT false,
    partition_queue                 boolean NOT NULL DEFAULT false,
    polling_interval_sec            float8 NOT NULL DEFAULT 1.0,
    created_at                      bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    updated_at                      bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    application_name                text,
    partition_concurrency           int4,
    partition_worker_concurrency    int4,
    partition_rate_limit_max        int4,
    partition_rate_limit_period_sec float8
);

CREATE TABLE {schema}.application_versions (
    version_id        text PRIMARY KEY,
    version_name      text NOT NULL UNIQUE,
    version_timestamp bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    created_at        bigint NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    application_name  text
);

CREATE UNIQUE INDEX uq_application_versions_owner_version
    ON {schema}.application_versions (application_name, version_name)
    WHERE application_name IS NOT NULL;

CREATE UNIQUE INDEX uq_application_versions_unclaimed_version
    ON {schema}.application_versions (version_name)
    WHERE application_name IS NULL;

CREATE INDEX idx_application_versions_timestamp
    ON {schema}.application_versions (version_timestamp DESC);

CREATE INDEX idx_application_versions_owner_timestamp
    ON {schema}.application_versions (application_name, version_timestamp DESC);

CREATE TABLE {schema}.workflow_schedules (
    schedule_id         text PRIMARY KEY,
    schedule_name       text NOT NULL UNIQUE,
    workflow_name       text NOT NULL,
    workflow_class_name text,
    schedule            text NOT NULL,
    status              text NOT NULL DEFAULT 'ACTIVE',
    context             text NOT NULL,
    last_fired_at       text,
    automatic_backfill  boolean NOT NULL DEFAULT false,
    cron_timezone       text,
    queue_name          text,
    application_name    text
);

CREATE TABLE {schema}.event_dispatch_kv (
    service_name     text NOT NULL,
    workflow_fn_name text NOT NULL,
    key              text NOT NULL,
    value            text,
    update_seq       numeric(38, 0),
    update_time      numeric(38, 15),
    PRIMARY KEY (service_name, workflow_fn_name, key)
);

-- Wakes who waits for a message.
CREATE FUNCTION {schema}.notifications_function() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fireflow$
BEGIN
    PERFORM pg_notify('dbos_notifications_channel', NEW.destination_uuid || '::' || NEW.topic);
    RETURN NULL; -- nobody looks at what an AFTER trigger returns
END;
$fireflow$;

CREATE TRIGGER dbos_notifications_trigger
    AFTER INSERT ON {schema}.notifications
    FOR EACH ROW EXECUTE FUNCTION {schema}.notifications_function();

-- For clients that speak nothing but SQL: put a workflow on a queue. Returns its id.
CREATE FUNCTION {schema}.enqueue_workflow(
    workflow_name        text,
    queue_name           text,
    positional_args      json[] DEFAULT ARRAY[]::json[],
    named_args           json   DEFAULT '{}'::json,
    class_name           text   DEFAULT NULL,
    config_name          text   DEFAULT NULL,
    workflow_id          text   DEFAULT NULL,
    app_version          text   DEFAULT NULL,
    timeout_ms           bigint DEFAULT NULL,
    deadline_epoch_ms    bigint DEFAULT NULL,
    deduplication_id     text   DEFAULT NULL,
    priority             int4   DEFAULT NULL,
    queue_partition_key  text   DEFAULT NULL,
    authenticated_user   text   DEFAULT NULL,
    authenticated_roles  text   DEFAULT NULL,
    delay_until_epoch_ms bigint DEFAULT NULL,
    application_name     text   DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fireflow$
DECLARE
    id     text   := coalesce(workflow_id, gen_random_uuid()::text);
    now_ms bigint := (extract(epoch FROM now()) * 1000)::bigint;
BEGIN
    IF coalesce(workflow_name, '') = '' THEN
        RAISE EXCEPTION 'workflow_name must not be empty';
    ELSIF coalesce(queue_name, '') = '' THEN
        RAISE EXCEPTION 'queue_name must not be empty';
    ELSIF json_typeof(named_args) <> 'object' THEN
        RAISE EXCEPTION 'named_args must be a JSON object';
    ELSIF workflow_id = '' THEN
        RAISE EXCEPTION 'workflow_id must not be empty: leave it out to get a new one';
    ELSIF delay_until_epoch_ms < 0 THEN
        RAISE EXCEPTION 'delay_until_epoch_ms must not be negative';
    END IF;

    -- Who asks again with the same id gets the workflow that is there.
    INSERT INTO {schema}.workflow_status (
        workflow_uuid, status, name, class_name, config_name, serialization,
        queue_name, deduplication_id, priority, queue_partition_key, delay_until_epoch_ms,
        workflow_timeout_ms, workflow_deadline_epoch_ms,
        application_name, application_version, authenticated_user, authenticated_roles,
        owner_xid, recovery_attempts, created_at, updated_at
    ) VALUES (
        id, CASE WHEN delay_until_epoch_ms IS NULL THEN 'ENQUEUED' ELSE 'DELAYED' END,
        workflow_name, class_name, config_name, 'portable_json',
        queue_name, deduplication_id, coalesce(priority, 0), queue_partition_key, delay_until_epoch_ms,
        timeout_ms, deadline_epoch_ms,
        application_name, app_version, authenticated_user, authenticated_roles,
        gen_random_uuid()::text, 0, now_ms, now_ms
    )
    ON CONFLICT (workflow_uuid) DO UPDATE SET updated_at = excluded.updated_at;

    INSERT INTO {schema}.workflow_input (workflow_uuid, inputs, retention_timestamp)
    VALUES (id, json_build_object('positionalArgs', positional_args, 'namedArgs', named_args)::text, now_ms)
    ON CONFLICT (workflow_uuid) DO NOTHING;

    RETURN id;
EXCEPTION
    WHEN unique_violation THEN
        -- Clients know this text.
        RAISE EXCEPTION 'DBOS queue duplicated' USING
            ERRCODE = 'unique_violation',
            DETAIL = format(
                'workflow %s: queue %s has a workflow with deduplication id %s', id, queue_name, deduplication_id
            );
END;
$fireflow$;

-- For clients that speak nothing but SQL: send a message to a workflow.
CREATE FUNCTION {schema}.send_message(
    destination_id text,
    message        json,
    topic          text DEFAULT NULL,
    message_id     text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fireflow$
BEGIN
    INSERT INTO {schema}.notifications (message_uuid, destination_uuid, topic, message, serialization)
    VALUES (
        coalesce(message_id, gen_random_uuid()::text), destination_id, coalesce(topic, '__null__topic__'),
        message, 'portable_json'
    )
    ON CONFLICT (message_uuid) DO NOTHING;
EXCEPTION
    WHEN foreign_key_violation THEN
        -- Clients know this text.
        RAISE EXCEPTION 'DBOS non-existent workflow' USING
            ERRCODE = 'foreign_key_violation',
            DETAIL = format('there is no workflow %s', destination_id);
END;
$fireflow$;

INSERT INTO {schema}.dbos_migrations (version) VALUES (125);
