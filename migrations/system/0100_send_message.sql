-- Up to level 100, in a transaction: the function by which SQL sends messages.

-- For clients that speak nothing but SQL: send a message to a workflow.
CREATE OR REPLACE FUNCTION {schema}.send_message(
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
