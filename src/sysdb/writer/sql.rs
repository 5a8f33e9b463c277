//! The statements of a batch: one for all rows of a kind, over arrays.

pub(super) const STEPS: &str = "
INSERT INTO {s}.operation_outputs (workflow_uuid, function_id, function_name, output, error, serialization,
       child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms{step_owner})
SELECT n.id, n.function_id, n.name, n.output, n.error, n.serialization, n.child, n.started, n.completed{step_owner_value}
  FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[])
       AS n(id, function_id, name, output, error, serialization, child, started, completed)
  JOIN {s}.workflow_status w ON w.workflow_uuid = n.id
ON CONFLICT (workflow_uuid, function_id) DO NOTHING";

/// Steps of $1 and $2 that are recorded with another time of completion than $3: somebody else's, or of another life.
pub(super) const OTHERS: &str = "
SELECT n.function_id FROM unnest($1::text[], $2::int[], $3::bigint[]) AS n(id, function_id, completed)
  JOIN {s}.operation_outputs o ON o.workflow_uuid = n.id AND o.function_id = n.function_id
 WHERE o.completed_at_epoch_ms IS DISTINCT FROM n.completed LIMIT 1";

/// Gap-free offsets: the stream's last one plus the place among what this batch appends to it. No join of the values with
/// their streams, which would compare each with each; and with OFFSET 0 the last one is asked for once, before the first value
/// is written, not again for each.
pub(super) const APPEND: &str = r#"
INSERT INTO {s}.streams (workflow_uuid, key, value, "offset", function_id, serialization)
SELECT id, key, value, first_value(last) OVER (PARTITION BY stream ORDER BY place) + place, function_id, serialization
  FROM (SELECT n.*, CASE WHEN place = 1 THEN COALESCE((SELECT max("offset") FROM {s}.streams x
                                                         WHERE x.workflow_uuid = n.id AND x.key = n.key), -1) END AS last
          FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::int[], $6::int[], $7::text[])
               AS n(id, key, value, stream, place, function_id, serialization) OFFSET 0) appended"#;

/// The oldest message of the topic, consumed and recorded as a step with its own value and format. One that is larger than any
/// that is waited for counts as `null`: it would have to be held in memory, here and at each replay.
pub(super) const RECEIVE: &str = "
WITH want AS (SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[])
                AS n(id, topic, function_id, started, completed)),
     taken AS (UPDATE {s}.notifications n SET consumed = TRUE{consumer}
                 FROM want, LATERAL (SELECT m.message_uuid FROM {s}.notifications m
                                      WHERE m.destination_uuid = want.id AND m.topic = want.topic AND NOT m.consumed
                                      ORDER BY m.created_at_epoch_ms LIMIT 1) oldest
                WHERE n.message_uuid = oldest.message_uuid AND NOT n.consumed
            RETURNING want.*, n.message, n.serialization)
INSERT INTO {s}.operation_outputs (workflow_uuid, function_id, function_name, output, serialization,
       started_at_epoch_ms, completed_at_epoch_ms{step_owner})
SELECT taken.id, taken.function_id, 'DBOS.recv',
       CASE WHEN octet_length(taken.message) <= 65536 THEN taken.message ELSE 'null' END,
       CASE WHEN octet_length(taken.message) <= 65536 THEN taken.serialization ELSE 'portable_json' END,
       taken.started, taken.completed{step_owner_value}
  FROM taken JOIN {s}.workflow_status w ON w.workflow_uuid = taken.id
RETURNING workflow_uuid, function_id, output, serialization";

/// By their keys; only messages to the workflow itself.
pub(super) const CONSUME: &str = "
UPDATE {s}.notifications n SET consumed = TRUE, consumed_by_function_id = read.function_id
  FROM unnest($1::text[], $2::text[], $3::int[]) AS read(destination, id, function_id)
 WHERE n.message_uuid = read.id AND n.destination_uuid = read.destination AND NOT n.consumed";

/// A child exists from the moment that its parent's step says so, and a re-run meets its own rows.
pub(super) const START: &str = "
WITH new AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[])
               AS n(parent, id, queue, inputs, serialization, legacy)),
     child AS (INSERT INTO {s}.workflow_status (workflow_uuid, status, name, class_name, config_name, queue_name,
                      application_name, application_version, application_id, authenticated_user, assumed_role,
                      authenticated_roles, request, serialization, inputs, recovery_attempts,
                      workflow_deadline_epoch_ms, deduplication_id, parent_workflow_id)
               SELECT new.id, 'ENQUEUED', p.name, p.class_name, p.config_name, new.queue, p.application_name,
                      p.application_version, p.application_id, p.authenticated_user, p.assumed_role,
                      p.authenticated_roles, p.request, new.serialization, {child_inputs}, 0,
                      p.workflow_deadline_epoch_ms, new.id, new.parent
                 FROM new JOIN {s}.workflow_status p ON p.workflow_uuid = new.parent
               ON CONFLICT (workflow_uuid) DO NOTHING RETURNING workflow_uuid)
{store_children}";

pub(super) const FINISH: &str = "
WITH ended AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[])
                 AS n(id, status, output, error, legacy)),
     done AS (UPDATE {s}.workflow_status w
                 SET status = ended.status, owner_xid = NULL, deduplication_id = NULL,
                     {own_outcome}, updated_at = {now}, completed_at = {now}
                FROM ended WHERE w.workflow_uuid = ended.id AND w.workflow_uuid = ANY($1)
           RETURNING w.workflow_uuid, ended.output AS result, ended.error AS failure)
{store_outcomes}";
