-- Takes a fresh schema back to what an SDK leaves at level 100. A test compares the outcome with an SDK's.
DROP TABLE dbos.workflow_input, dbos.workflow_output;
ALTER TABLE dbos.workflow_status DROP COLUMN creator_xid;
ALTER TABLE dbos.notifications DROP COLUMN consumed_by_function_id;
ALTER TABLE dbos.queues
    DROP COLUMN application_name,
    DROP COLUMN partition_concurrency,
    DROP COLUMN partition_worker_concurrency,
    DROP COLUMN partition_rate_limit_max,
    DROP COLUMN partition_rate_limit_period_sec;
ALTER TABLE dbos.workflow_schedules DROP COLUMN application_name;
-- With these columns go the indexes on them.
ALTER TABLE dbos.application_versions DROP COLUMN application_name;
ALTER TABLE dbos.operation_outputs
    DROP COLUMN application_name,
    DROP COLUMN retention_timestamp,
    ADD FOREIGN KEY (workflow_uuid) REFERENCES dbos.workflow_status ON UPDATE CASCADE ON DELETE CASCADE;
DROP INDEX
    dbos.idx_application_versions_timestamp,
    dbos.idx_workflow_status_deadline,
    dbos.idx_workflow_status_in_flight_v2,
    dbos.idx_workflow_status_partition_dequeue_v3;
CREATE INDEX idx_notifications ON dbos.notifications (destination_uuid, topic);
CREATE INDEX idx_workflow_status_in_flight ON dbos.workflow_status (queue_name, status, priority, created_at)
    WHERE status IN ('ENQUEUED', 'PENDING');
CREATE INDEX idx_workflow_status_partition_dequeue_v2
    ON dbos.workflow_status (queue_name, status, queue_partition_key, priority, created_at, workflow_uuid)
    WHERE status IN ('ENQUEUED', 'PENDING') AND queue_partition_key IS NOT NULL;
CREATE INDEX idx_operation_outputs_completed_at_function_name
    ON dbos.operation_outputs (completed_at_epoch_ms, function_name);

DROP FUNCTION dbos.enqueue_workflow;
CREATE FUNCTION dbos.enqueue_workflow(
    workflow_name text, queue_name text, positional_args json[] DEFAULT ARRAY[]::json[], named_args json DEFAULT '{}'::json,
    class_name text DEFAULT NULL, config_name text DEFAULT NULL, workflow_id text DEFAULT NULL,
    app_version text DEFAULT NULL, timeout_ms bigint DEFAULT NULL, deadline_epoch_ms bigint DEFAULT NULL,
    deduplication_id text DEFAULT NULL, priority int4 DEFAULT NULL, queue_partition_key text DEFAULT NULL,
    authenticated_user text DEFAULT NULL, authenticated_roles text DEFAULT NULL, delay_until_epoch_ms bigint DEFAULT NULL
) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, serialization, inputs)
    VALUES (workflow_id, 'ENQUEUED', workflow_name, queue_name, 'portable_json',
            json_build_object('positionalArgs', positional_args, 'namedArgs', named_args)::text);
    RETURN workflow_id;
END $$;

UPDATE dbos.dbos_migrations SET version = 100;
