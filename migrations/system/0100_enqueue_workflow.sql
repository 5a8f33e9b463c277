-- Up to level 100, in a transaction: the function by which SQL enqueues, as it is at that level.

-- An earlier one had fewer parameters, which makes it another function: calls would be ambiguous.
DROP FUNCTION IF EXISTS {schema}.enqueue_workflow(
    text, text, json[], json, text, text, text, text, bigint, bigint, text, int4, text
);

-- For clients that speak nothing but SQL: put a workflow on a queue. Returns its id.
CREATE OR REPLACE FUNCTION {schema}.enqueue_workflow(
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
    delay_until_epoch_ms bigint DEFAULT NULL
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
        inputs, queue_name, deduplication_id, priority, queue_partition_key, delay_until_epoch_ms,
        workflow_timeout_ms, workflow_deadline_epoch_ms,
        application_version, authenticated_user, authenticated_roles,
        owner_xid, recovery_attempts, created_at, updated_at
    ) VALUES (
        id, CASE WHEN delay_until_epoch_ms IS NULL THEN 'ENQUEUED' ELSE 'DELAYED' END,
        workflow_name, class_name, config_name, 'portable_json',
        json_build_object('positionalArgs', positional_args, 'namedArgs', named_args)::text,
        queue_name, deduplication_id, coalesce(priority, 0), queue_partition_key, delay_until_epoch_ms,
        timeout_ms, deadline_epoch_ms,
        app_version, authenticated_user, authenticated_roles,
        gen_random_uuid()::text, 0, now_ms, now_ms
    )
    ON CONFLICT (workflow_uuid) DO UPDATE SET updated_at = excluded.updated_at;

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
