//! The statements of a claim. $1 queue, $2 token, $3 executor, $4 version, $5 application, $6 workflows, $7 class,
//! $8 formats, $9 free slots, $10 largest input.

use super::Rows;

/// `''` counts as NULL in name columns.
const APPLICATION: &str = "(application_name = $5 OR application_name IS NULL OR application_name = '')";

const LATEST: &str = "latest AS (
  SELECT version_name FROM {s}.application_versions
   WHERE {version_is_ours}
   ORDER BY version_timestamp DESC LIMIT 1
)";

/// What isn't ours to run stays ENQUEUED for others: names, classes and serialisations are part of the predicate, since
/// a claimed row that can't be run would hold a slot for ever.
///
/// The CASE is for the planner: it takes each of these conditions for rare, and all of them for a single row; so it would
/// read and sort a whole backlog instead of following the index. Of a CASE it expects half of the rows.
const OURS: &str = "status = 'ENQUEUED' AND queue_name = $1 AND CASE WHEN {application}
     AND (application_version = $4
          OR COALESCE(application_version, '') = '' AND COALESCE((SELECT version_name FROM latest), $4) = $4)
     AND name = ANY($6)
     AND COALESCE(class_name, '') IN ('', $7)
     AND COALESCE(config_name, '') = ''
     AND (serialization IS NULL OR serialization = ANY($8)) AND {has_inputs}{suspects} THEN TRUE ELSE FALSE END";

/// Milliseconds at this moment, not at the transaction's start.
const CLOCK: &str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint";

/// Whatever others wrote into a row, adding to it doesn't overflow: one such row would fail all claims.
const MOST: &str = "4611686018427387904";

/// The rows in `pick` become ours. They are locked, and were ENQUEUED when they were: saying so again would let the planner
/// go through all that are, to find these. Whether there are steps is not asked by EXISTS, which the planner may answer out of
/// all steps of all workflows. When they started is asked of the clock: a transaction may have begun before a row came
/// that its snapshot sees.
const TAKE: &str = "
UPDATE {s}.workflow_status w
   SET status = 'PENDING', owner_xid = $2, executor_id = $3, application_version = $4,
       application_name = COALESCE(NULLIF(w.application_name, ''), $5), rate_limited = {rate_limited},
       recovery_attempts = LEAST(COALESCE(w.recovery_attempts, 0), {most}) + 1,
       started_at_epoch_ms = {clock}, updated_at = {clock},
       workflow_deadline_epoch_ms = COALESCE(w.workflow_deadline_epoch_ms,
           {clock} + CASE WHEN w.workflow_timeout_ms > {most} THEN {most} ELSE w.workflow_timeout_ms END)
  FROM pick {join_inputs}
 WHERE w.workflow_uuid = pick.workflow_uuid
RETURNING w.workflow_uuid, w.name, w.serialization, w.priority, w.created_at, w.queue_partition_key,
          GREATEST(w.created_at, COALESCE(w.delay_until_epoch_ms, 0)) AS due_at,
          CASE WHEN octet_length({inputs}) <= $10::bigint THEN {inputs} END AS inputs,
          COALESCE(octet_length({inputs}), 0)::bigint AS inputs_size, {is_legacy} AS legacy,
          w.started_at_epoch_ms, w.recovery_attempts, w.workflow_deadline_epoch_ms, w.forked_from,
          left(w.attributes ->> 'traceparent', 200) AS traceparent,
          (SELECT TRUE FROM {s}.operation_outputs o WHERE o.workflow_uuid = w.workflow_uuid LIMIT 1) IS NOT NULL AS has_history";

/// $11 most PENDING rows or NULL, $12 most starts or NULL in $13 milliseconds; $14 a partition, and $15 to $17 the same
/// for it.
///
/// The outer limit cuts nothing off. It is for the planner, which can't know the budget, takes it for a tenth of the queue, and
/// would join so many with the whole table.
///
/// Rides `idx_workflow_status_in_flight_v2` twice: the PENDING count, and the ENQUEUED rows in priority and age order; in
/// a partition it is `idx_workflow_status_partition_dequeue_v3`. Starts ride `idx_workflow_status_rate_limited`.
const CLAIM: &str = "
WITH {latest}, budget AS (
  SELECT GREATEST(0, LEAST($9::bigint,
    CASE WHEN $11::bigint IS NOT NULL THEN $11::bigint - (
      SELECT count(*) FROM {s}.workflow_status
       WHERE queue_name = $1 AND status = 'PENDING' AND {application}) END,
    CASE WHEN $12::bigint IS NOT NULL THEN $12::bigint - (
      SELECT count(*) FROM {s}.workflow_status
       WHERE queue_name = $1 AND rate_limited AND status NOT IN ('ENQUEUED', 'DELAYED')
         AND started_at_epoch_ms > {now} - $13::bigint AND {application}) END,
    CASE WHEN $15::bigint IS NOT NULL THEN $15::bigint - (
      SELECT count(*) FROM {s}.workflow_status
       WHERE queue_name = $1 AND status = 'PENDING' AND queue_partition_key = $14::text AND {application}) END,
    CASE WHEN $16::bigint IS NOT NULL THEN $16::bigint - (
      SELECT count(*) FROM {s}.workflow_status
       WHERE queue_name = $1 AND rate_limited AND status NOT IN ('ENQUEUED', 'DELAYED')
         AND queue_partition_key = $14::text AND started_at_epoch_ms > {now} - $17::bigint AND {application}) END
  )) AS rows
), pick AS (
  SELECT workflow_uuid FROM (
    SELECT workflow_uuid FROM {s}.workflow_status
     WHERE {ours} AND {rows}
     ORDER BY priority, created_at
     LIMIT (SELECT rows FROM budget)
     FOR UPDATE {wait}
  ) AS locked LIMIT $9::bigint
)";

/// Wait for the turn at a queue ($1 says which); it ends with the transaction. Not for long: somebody may have been stopped
/// in his, and a connection waits here.
pub(super) const TURN: &str =
    "SELECT set_config('lock_timeout', '1s', TRUE), pg_advisory_xact_lock(hashtextextended($1::text, 0))::text";

/// Whether the limits hold: $1 queue, $2 application, $3 most PENDING rows or NULL, $4 most starts or NULL in $5
/// milliseconds; $6 a partition, and $7 to $9 the same for it.
const WITHIN: &str = "
SELECT ($3::bigint IS NULL OR $3::bigint >= (
        SELECT count(*) FROM {s}.workflow_status
         WHERE queue_name = $1 AND status = 'PENDING' AND {application}))
   AND ($4::bigint IS NULL OR $4::bigint >= (
        SELECT count(*) FROM {s}.workflow_status
         WHERE queue_name = $1 AND rate_limited AND status NOT IN ('ENQUEUED', 'DELAYED')
           AND started_at_epoch_ms > {now} - $5::bigint AND {application}))
   AND ($7::bigint IS NULL OR $7::bigint >= (
        SELECT count(*) FROM {s}.workflow_status
         WHERE queue_name = $1 AND status = 'PENDING' AND queue_partition_key = $6::text AND {application}))
   AND ($8::bigint IS NULL OR $8::bigint >= (
        SELECT count(*) FROM {s}.workflow_status
         WHERE queue_name = $1 AND rate_limited AND status NOT IN ('ENQUEUED', 'DELAYED')
           AND queue_partition_key = $6::text AND started_at_epoch_ms > {now} - $9::bigint AND {application}))
       AS within";

/// Distinct keys by a loose index scan: the smallest one greater than the last.
const KEYS: &str = "keys AS (
  (SELECT queue_partition_key AS key FROM {s}.workflow_status
    WHERE queue_name = $1 AND status = 'ENQUEUED' AND queue_partition_key IS NOT NULL AND {application}
    ORDER BY queue_partition_key LIMIT 1)
  UNION ALL
  SELECT (SELECT queue_partition_key FROM {s}.workflow_status
           WHERE queue_name = $1 AND status = 'ENQUEUED' AND queue_partition_key > keys.key AND {application}
           ORDER BY queue_partition_key LIMIT 1)
    FROM keys WHERE keys.key IS NOT NULL
)";

/// A partition is busy whoever's row is PENDING in it: here the application doesn't matter, as with the SDKs.
const HEADS: &str = "
WITH RECURSIVE {latest}, {keys}, heads AS MATERIALIZED (
  SELECT head.workflow_uuid
    FROM keys CROSS JOIN LATERAL (
         SELECT workflow_uuid FROM {s}.workflow_status
          WHERE {ours} AND queue_partition_key = keys.key
          ORDER BY priority, created_at, workflow_uuid LIMIT 1) head
   WHERE NOT EXISTS (SELECT FROM {s}.workflow_status busy
                      WHERE busy.queue_name = $1 AND busy.status = 'PENDING' AND busy.queue_partition_key = keys.key)
   ORDER BY random() LIMIT $9::bigint
), pick AS (
  SELECT workflow_uuid FROM {s}.workflow_status
   WHERE {ours} AND queue_partition_key IS NOT NULL AND workflow_uuid IN (SELECT workflow_uuid FROM heads)
   FOR UPDATE SKIP LOCKED
)";

/// $1 queue, $2 application, $3 most PENDING rows of a partition or NULL, $4 most keys.
const PARTITIONS: &str = "
WITH RECURSIVE {keys}
SELECT key FROM keys
 WHERE key IS NOT NULL
   AND ($3::bigint IS NULL OR $3::bigint > (
        SELECT count(*) FROM {s}.workflow_status
         WHERE queue_name = $1 AND status = 'PENDING' AND queue_partition_key = key AND {application}))
 ORDER BY random() LIMIT $4::bigint";

/// A claim within a budget; `shared` when others spend of it as well. `suspects` is a condition more.
pub(super) fn claim(rows: &Rows<'_>, shared: bool, suspects: &str) -> String {
    let rows = match rows {
        Rows::All => "$14::text IS NULL",
        Rows::Partition { .. } => "queue_partition_key = $14::text",
        Rows::Keyless => "$14::text IS NULL AND queue_partition_key IS NULL AND parent_workflow_id IS NOT NULL",
    };
    let statement = [CLAIM, TAKE].concat().replace("{rows}", rows);
    // With a shared budget, a row that someone else holds means that someone spends: SKIP LOCKED would overspend.
    let statement = statement.replace("{wait}", if shared { "NOWAIT" } else { "SKIP LOCKED" });
    let statement = statement.replace("{rate_limited}", "($12::bigint IS NOT NULL OR $16::bigint IS NOT NULL)");
    complete(&statement).replace("{suspects}", suspects)
}

/// The first row of each partition in which nothing runs.
pub(super) fn claim_heads(suspects: &str) -> String {
    complete(&[HEADS, TAKE].concat().replace("{rate_limited}", "FALSE")).replace("{suspects}", suspects)
}

/// Partitions with ENQUEUED rows.
pub(super) fn partitions() -> String {
    complete(PARTITIONS).replace("application_name = $5", "application_name = $2")
}

/// Whether the limits hold, with what was claimed.
pub(super) fn within() -> String {
    complete(WITHIN).replace("application_name = $5", "application_name = $2")
}

/// A look at what could be claimed from the queue `asked.queue`.
pub(in crate::sysdb) fn outlook(template: &str, suspects: &str) -> String {
    let ours = OURS.replace("queue_name = $1", "queue_name = asked.queue");
    complete(&template.replace("{ours}", &ours)).replace("{suspects}", suspects)
}

fn complete(template: &str) -> String {
    let parts = [
        ("{clock}", CLOCK),
        ("{most}", MOST),
        ("{latest}", LATEST),
        ("{keys}", KEYS),
        ("{ours}", OURS),
        ("{application}", APPLICATION),
    ];
    parts.iter().fold(template.to_owned(), |statement, (name, part)| statement.replace(name, part))
}
