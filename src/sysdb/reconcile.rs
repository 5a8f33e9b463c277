//! What dead executors left PENDING goes back to the queue, and who took its worker down is counted: in one statement, so
//! that nobody comes back to life, and nothing is counted twice or not at all, whatever dies in between.

use std::time::Duration;

use uuid::Uuid;

use super::{ClaimScope, SysdbError, SystemDatabase, schema::Prefix};
use crate::postgres::{Parameter, Statements};

/// Most rows that one statement moves, so that its locks stay short.
const BATCH: i64 = 500;

/// The account of crashes, and the tables beside it: who lives, and what operators asked for.
#[derive(Clone, Debug)]
pub struct Accounts {
    crashes: String,
    workers: String,
    executions: String,
    pauses: String,
    drains: String,
    /// Crashes in a row without progress at which a workflow is parked.
    most: i32,
}

/// Which workflows a claim is for, by their account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suspicion {
    /// All, whatever was counted.
    #[default]
    Ignored,
    /// All but suspects.
    Avoided,
    /// Only suspects.
    Sought,
}

/// Whose rows are taken.
#[derive(Clone, Copy, Debug)]
pub enum Dead<'a> {
    /// Of workers whose lease has expired; not of this one.
    Expired {
        /// Incarnations whose process is seen to live on: it only lost its lease.
        alive: &'a [Uuid],
        /// Incarnations whose process is seen to be gone.
        gone: &'a [Uuid],
    },
    /// Of this worker's earlier lives.
    Earlier {
        /// The incarnation that asks. Nothing is moved unless it has the id.
        present: Uuid,
        /// The last of them.
        incarnation: Option<Uuid>,
        /// Where it ran.
        host: Option<&'a str>,
        /// How it died; `None` when that was no crash.
        reason: Option<&'a str>,
    },
    /// Of executors that never registered here, as far as we can run what they left. No crash is counted.
    Adopted(&'a [String]),
}

/// A row that was given back, or parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The workflow.
    pub id: String,
    /// Who left it.
    pub executor: String,
    /// Crashes in a row without progress, if this was one.
    pub crashes: Option<i32>,
    /// Why it was parked instead of given back.
    pub parked: Option<String>,
}

/// A worker whose lease has expired.
#[derive(Clone, Debug)]
pub struct Expired {
    /// Its last life.
    pub incarnation: Uuid,
    /// Boot and process namespace, process id, and the process's start there.
    pub process: (Option<String>, i32, Option<i64>),
}

/// How the leases of others stand.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// Whose lease has expired.
    pub expired: Vec<Expired>,
    /// When the next one does, unless it is renewed.
    pub next: Option<Duration>,
}

/// A worker's last registration.
#[derive(Clone, Debug)]
pub struct Predecessor {
    /// Which life.
    pub incarnation: Uuid,
    /// Its host.
    pub host: Option<String>,
    /// Whether it was serving: not in its drain, nor at its end.
    pub was_serving: bool,
    /// As in [`Expired`].
    pub process: (Option<String>, i32, Option<i64>),
}

/// The rows in the workers table stay locked to the end, so that none of them comes back to life in between. $8 incarnations that
/// live, $9 those that are gone. A worker that dies in its drain was told to end, and killed for taking too long.
const EXPIRED: &str = "
  SELECT k.id, k.incarnation, k.host,
         CASE WHEN k.state <> 'running' OR k.incarnation = ANY($8::uuid[]) THEN NULL
              WHEN k.incarnation = ANY($9::uuid[]) THEN 'its process was gone'
              ELSE 'its lease ended, and nothing is known of its process' END AS reason
    FROM {workers} k
   WHERE k.expires_at <= now() AND k.id <> $7::text
     FOR UPDATE SKIP LOCKED";

/// $8 incarnation, $9 host, $10 reason, $11 the present incarnation. The worker's row is locked, and has to be the present
/// one's: a statement that was long on its way would else take the rows of whoever has the id by now.
const EARLIER: &str = "
  SELECT $7::text AS id, $8::uuid AS incarnation, $9::text AS host, $10::text AS reason
    FROM {workers} k WHERE k.id = $7::text AND k.incarnation = $11::uuid FOR SHARE";

/// $8 executors.
const ADOPTED: &str = "
  SELECT a.id, NULL::uuid AS incarnation, NULL::text AS host, NULL::text AS reason
    FROM unnest($8::text[]) AS a(id)
   WHERE a.id <> $7::text
     AND NOT EXISTS (SELECT FROM {workers} k WHERE k.id = a.id AND k.expires_at > now())";

/// What we can run, as in a claim. $9 version, $10 workflows, $11 class, $12 formats.
const OURS: &str = "
     AND COALESCE(w.application_version, '') IN ('', $9) AND w.name = ANY($10)
     AND COALESCE(w.class_name, '') IN ('', $11) AND COALESCE(w.config_name, '') = ''
     AND (w.serialization IS NULL OR w.serialization = ANY($12))";

/// $1 application, $2 most rows, $3 only these or NULL, $4 not these. Rides `idx_workflow_status_pending`. Rows that somebody
/// has locked are left for the next time: a zombie's last commit may be under way.
const LEFT: &str = "
   WHERE w.status = 'PENDING' AND (w.application_name = $1 OR w.application_name IS NULL OR w.application_name = '')
     AND ($3::text[] IS NULL OR w.workflow_uuid = ANY($3)) AND w.workflow_uuid <> ALL($4::text[]){ours}
   ORDER BY w.created_at
   LIMIT $2";

/// $5 the step that is recorded when a workflow has done its work, $6 most crashes, $7 this worker.
///
/// Who only waited when its worker died is not to blame: for its start (its timer is the last step, and no message has come),
/// for its children (its own work is recorded), or in a pause. READ COMMITTED.
const RECONCILE: &str = "
WITH dead AS MATERIALIZED ({dead}
), leaving AS MATERIALIZED (
  SELECT w.workflow_uuid AS id, COALESCE(w.recovery_attempts, 0) AS attempts,
         dead.id AS worker, dead.incarnation, dead.host, dead.reason
    FROM {s}.workflow_status w JOIN dead ON w.executor_id = dead.id{left}
     FOR UPDATE OF w SKIP LOCKED
), history AS (
  SELECT l.id, count(*) AS steps, bool_or(o.function_name = $5::text) AS worked,
         max(o.function_id) FILTER (WHERE o.function_name = 'DBOS.sleep') = max(o.function_id)
         AND NOT bool_or(o.function_name = 'DBOS.recv') AS listened
    FROM leaving l JOIN {s}.operation_outputs o ON o.workflow_uuid = l.id
   GROUP BY l.id
), judged AS MATERIALIZED (
  SELECT l.*, COALESCE(h.steps, 0) AS steps,
         CASE WHEN l.reason IS NULL OR h.worked OR h.listened OR e.status = 'paused' THEN NULL
              WHEN c.workflow_id IS NULL OR COALESCE(h.steps, 0) > c.steps OR l.attempts <= c.attempts THEN 1
              ELSE c.crashes + 1 END AS crashes
    FROM leaving l
    LEFT JOIN history h ON h.id = l.id
    LEFT JOIN {crashes} c ON c.workflow_id = l.id
    LEFT JOIN {executions} e ON e.id = l.id
), sentence AS MATERIALIZED (
  SELECT j.id, format('its worker died %s times in a row while it ran, and no step was recorded in between; last worker %s on %s '
                      'at %s UTC: %s', j.crashes, j.worker, COALESCE(j.host, 'an unknown host'),
                      to_char(now() AT TIME ZONE 'utc', 'YYYY-MM-DD HH24:MI:SS'), j.reason) AS text
    FROM judged j WHERE j.crashes >= $6::int
), moved AS (
  UPDATE {s}.workflow_status w
     SET status = CASE WHEN s.id IS NULL THEN 'ENQUEUED' ELSE 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' END,
         owner_xid = NULL, started_at_epoch_ms = NULL, updated_at = {now},
         queue_name = CASE WHEN s.id IS NULL THEN COALESCE(NULLIF(w.queue_name, ''), '_dbos_internal_queue') END,
         deduplication_id = CASE WHEN s.id IS NULL THEN w.deduplication_id END,
         completed_at = CASE WHEN s.id IS NULL THEN w.completed_at ELSE {now} END
    FROM judged j LEFT JOIN sentence s ON s.id = j.id
   WHERE w.workflow_uuid = j.id AND w.status = 'PENDING'
  RETURNING w.workflow_uuid AS id
), counted AS (
  INSERT INTO {crashes} AS c (workflow_id, crashes, steps, attempts, worker_id, incarnation, host, reason, crashed_at)
  SELECT j.id, j.crashes, j.steps, j.attempts, j.worker, j.incarnation, j.host, j.reason, now()
    FROM judged j WHERE j.crashes < $6::int
  ON CONFLICT (workflow_id) DO UPDATE
     SET crashes = EXCLUDED.crashes, steps = EXCLUDED.steps, attempts = EXCLUDED.attempts, worker_id = EXCLUDED.worker_id,
         incarnation = EXCLUDED.incarnation, host = EXCLUDED.host, reason = EXCLUDED.reason, crashed_at = now()
), cleared AS (
  DELETE FROM {crashes} c USING judged j
   WHERE c.workflow_id = j.id AND (j.crashes >= $6::int OR j.crashes IS NULL AND j.steps > c.steps)
), failed AS (
  UPDATE {executions} e
     SET status = 'failed', error_message = 'parked: ' || s.text, completed_at = now() AT TIME ZONE 'utc',
         updated_at = now() AT TIME ZONE 'utc'
    FROM sentence s
   WHERE e.id = s.id AND e.status NOT IN ('completed', 'failed', 'stopped')
)
SELECT j.id, j.worker, j.crashes, s.text
  FROM judged j JOIN moved USING (id) LEFT JOIN sentence s ON s.id = j.id";

/// The ids that [`RECONCILE`] would take, without their locks. Its unused parameters are named, since they need a type.
const CANDIDATES: &str = "
WITH dead AS MATERIALIZED ({dead}), unused AS (SELECT $5::text, $6::int)
SELECT w.workflow_uuid FROM {s}.workflow_status w JOIN dead ON w.executor_id = dead.id{left}";

impl Accounts {
    /// In the tables with this prefix. A workflow is parked at `most` crashes in a row without progress, at least 2.
    pub fn new(prefix: &Prefix, most: u32) -> Accounts {
        Accounts {
            crashes: prefix.table("crashes"),
            workers: prefix.table("workers"),
            executions: prefix.table("executions"),
            pauses: prefix.table("queue_pauses"),
            drains: prefix.table("drain_requests"),
            most: most_of(most),
        }
    }

    /// From now on, park at so many crashes.
    pub fn park_at(&mut self, most: u32) {
        self.most = most_of(most);
    }

    /// At so many crashes a workflow is a suspect. The first crash makes none, if it can be helped: after it all go on at once.
    fn suspected_from(&self) -> i32 {
        (self.most - 1).min(2)
    }

    /// The condition of a claim on the column `workflow_uuid`. Asked once for the statement, not for each row.
    pub(super) fn condition(&self, suspicion: Suspicion) -> String {
        let suspects =
            format!("(ARRAY(SELECT workflow_id FROM {} WHERE crashes >= {}))", self.crashes, self.suspected_from());
        match suspicion {
            Suspicion::Ignored => String::new(),
            Suspicion::Avoided => format!(" AND workflow_uuid <> ALL {suspects}"),
            Suspicion::Sought => format!(" AND workflow_uuid = ANY {suspects}"),
        }
    }

    pub(super) fn sql(&self, template: &str) -> String {
        template
            .replace("{pauses}", &self.pauses)
            .replace("{drains}", &self.drains)
            .replace("{crashes}", &self.crashes)
            .replace("{workers}", &self.workers)
            .replace("{executions}", &self.executions)
    }
}

fn most_of(most: u32) -> i32 {
    i32::try_from(most).unwrap_or(i32::MAX).max(2)
}

impl Dead<'_> {
    fn compose(&self, template: &str) -> String {
        let (dead, ours) = match self {
            Dead::Expired { .. } => (EXPIRED, ""),
            Dead::Earlier { .. } => (EARLIER, ""),
            Dead::Adopted(_) => (ADOPTED, OURS),
        };
        template.replace("{dead}", dead).replace("{left}", LEFT).replace("{ours}", ours)
    }
}

/// What a sweep is about, besides the dead.
#[derive(Clone, Debug)]
pub struct Reconcile<'a> {
    /// The account.
    pub accounts: &'a Accounts,
    /// Who we are, and what we can run.
    pub scope: &'a ClaimScope,
    /// The step that is recorded when a workflow's own work is done: from then on it only waits for others.
    pub worked: &'a str,
}

impl SystemDatabase {
    /// Give rows back that the dead left PENDING, or park them: at most some hundreds, oldest first. `only` these, if
    /// some are named, and not those in `skip`. There may be more while as many come as [`is_full`](Self::is_full) says.
    pub async fn reconcile(
        &self,
        reconcile: &Reconcile<'_>,
        dead: Dead<'_>,
        only: Option<&[String]>,
        skip: &[String],
    ) -> Result<Vec<Recovered>, SysdbError> {
        let rows = self.on_dead(RECONCILE, reconcile, dead, only, skip).await?;
        let recovered = rows.iter().map(|row| {
            let [id, executor] = [row.try_get(0)?, row.try_get(1)?];
            Ok(Recovered { id, executor, crashes: row.try_get(2)?, parked: row.try_get(3)? })
        });
        recovered.collect()
    }

    /// The ids that a sweep would take, as far as they fit into one.
    pub async fn left_behind(
        &self,
        reconcile: &Reconcile<'_>,
        dead: Dead<'_>,
        skip: &[String],
    ) -> Result<Vec<String>, SysdbError> {
        let rows = self.on_dead(CANDIDATES, reconcile, dead, None, skip).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Whether a sweep that gave so many rows may have left some.
    pub fn is_full(rows: usize) -> bool {
        i64::try_from(rows).unwrap_or(i64::MAX) >= BATCH
    }

    async fn on_dead(
        &self,
        template: &str,
        reconcile: &Reconcile<'_>,
        dead: Dead<'_>,
        only: Option<&[String]>,
        skip: &[String],
    ) -> Result<Vec<tokio_postgres::Row>, SysdbError> {
        let Reconcile { accounts, scope, worked } = *reconcile;
        let mut parameters: Vec<&dyn Parameter> =
            vec![&scope.application, &BATCH, &only, &skip, &worked, &accounts.most, &scope.executor];
        match &dead {
            Dead::Expired { alive, gone } => parameters.extend([alive as &dyn Parameter, gone]),
            Dead::Earlier { present, incarnation, host, reason } => {
                parameters.extend([incarnation as &dyn Parameter, host, reason, present]);
            }
            Dead::Adopted(executors) => parameters.extend([
                executors as &dyn Parameter,
                &scope.version,
                &scope.workflows,
                &scope.class,
                &scope.formats,
            ]),
        }
        let client = self.client().await?;
        let statement = accounts.sql(&self.sql(&dead.compose(template)));
        Ok(client.query(&statement, &parameters).await?)
    }

    /// Workers whose lease has expired, other than this one, and when the next one does.
    pub async fn leases(&self, accounts: &Accounts, me: &str) -> Result<Leases, SysdbError> {
        let client = self.client().await?;
        let sql = "
SELECT incarnation, process_identity, COALESCE(pid, 0), process_started,
       EXTRACT(EPOCH FROM expires_at - now())::float8
  FROM {workers}
 WHERE id <> $1 AND (expires_at <= now() OR expires_at = (
       SELECT min(k.expires_at) FROM {workers} k WHERE k.expires_at > now() AND k.id <> $1))";
        let mut leases = Leases::default();
        for row in client.query(&accounts.sql(sql), &[&me]).await? {
            let left: f64 = row.try_get(4)?;
            if left > 0.0 {
                leases.next = Duration::try_from_secs_f64(left).ok();
            } else {
                let process = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
                leases.expired.push(Expired { incarnation: row.try_get(0)?, process });
            }
        }
        Ok(leases)
    }

    /// The last registration of this worker id.
    pub async fn predecessor(&self, accounts: &Accounts, id: &str) -> Result<Option<Predecessor>, SysdbError> {
        let client = self.client().await?;
        let sql = "SELECT incarnation, host, state = 'running', process_identity, COALESCE(pid, 0), process_started
                     FROM {workers} WHERE id = $1";
        let Some(row) = client.query_opt(&accounts.sql(sql), &[&id]).await? else { return Ok(None) };
        Ok(Some(Predecessor {
            incarnation: row.try_get(0)?,
            host: row.try_get(1)?,
            was_serving: row.try_get(2)?,
            process: (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?),
        }))
    }

    /// Take back what was counted against the executions of these incarnations: their process lives, and only lost its lease.
    pub async fn exonerate(&self, accounts: &Accounts, incarnations: &[Uuid]) -> Result<(), SysdbError> {
        let client = self.client().await?;
        let sql = "WITH first AS (DELETE FROM {crashes} WHERE incarnation = ANY($1) AND crashes = 1)
                   UPDATE {crashes} SET crashes = crashes - 1, incarnation = NULL WHERE incarnation = ANY($1) AND crashes > 1";
        client.execute(&accounts.sql(sql), &[&incarnations]).await?;
        Ok(())
    }

    /// Forget the accounts of workflows that have ended, are gone or were resumed, and workers that are dead for a day and
    /// left nothing. Whether there are suspects.
    pub async fn settle_accounts(&self, accounts: &Accounts) -> Result<bool, SysdbError> {
        let client = self.client().await?;
        // A resume sets the attempts to 0, and the next claim to 1; a drain takes back its own claim only.
        let sql = "
WITH settled AS (
  DELETE FROM {crashes} c
   WHERE NOT EXISTS (SELECT FROM {s}.workflow_status w
                      WHERE w.workflow_uuid = c.workflow_id AND w.status IN ('ENQUEUED', 'DELAYED', 'PENDING')
                        AND COALESCE(w.recovery_attempts, 0) >= c.attempts)
  RETURNING c.workflow_id
), buried AS (
  DELETE FROM {workers} k
   WHERE k.expires_at <= now() - interval '1 day'
     AND NOT EXISTS (SELECT FROM {s}.workflow_status w WHERE w.status = 'PENDING' AND w.executor_id = k.id)
)
SELECT EXISTS (SELECT FROM {crashes} c WHERE c.crashes >= $1
                  AND NOT EXISTS (SELECT FROM settled s WHERE s.workflow_id = c.workflow_id))";
        let statement = accounts.sql(&self.sql(sql));
        Ok(client.query_one(&statement, &[&accounts.suspected_from()]).await?.try_get(0)?)
    }
}
