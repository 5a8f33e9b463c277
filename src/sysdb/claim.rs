//! Claiming: ENQUEUED → PENDING, for at most as many rows as there are free slots.

use tokio_postgres::{IsolationLevel, Row, error::SqlState};

use super::{Owner, OwnerToken, SysdbError, SystemDatabase, WorkflowId};

/// Which rows this worker may take.
#[derive(Clone, Debug)]
pub struct ClaimScope {
    /// Executor id written into the rows.
    pub executor: String,
    /// Our application: its rows and unclaimed ones are taken.
    pub application: String,
    /// Our version: rows that ask for it, and unversioned ones while it is the latest.
    pub version: String,
    /// Names of the workflows that we can run.
    pub workflows: Vec<String>,
    /// Their class; rows without one are taken as well.
    pub class: String,
    /// Serialisations that we can read.
    pub formats: Vec<String>,
    /// Inputs of more bytes are not read.
    pub max_input: i64,
}

/// One claim: from which queue, how many, under which global limit.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The queue.
    pub queue: &'a str,
    /// Free slots: the most rows to take.
    pub limit: u32,
    /// Most rows of this queue that may be PENDING over all executors.
    pub concurrency: Option<u32>,
}

/// A row that now belongs to this process.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Id and token.
    pub owner: Owner,
    /// Name of the workflow.
    pub name: String,
    /// Queue that it came from.
    pub queue: String,
    /// Format of inputs, output and error.
    pub serialization: Option<String>,
    /// The inputs as stored; `None` when there are none, or they are too large.
    pub inputs: Option<String>,
    /// Size of the inputs in bytes.
    pub inputs_size: i64,
    /// The client that made the row reads the legacy columns of `workflow_status` only. So does one that made it without
    /// any inputs: that is how an earlier SDK forks a workflow of a newer one.
    pub legacy: bool,
    /// Claims so far, this one included.
    pub attempts: i64,
    /// Absolute deadline, milliseconds since the epoch.
    pub deadline: Option<i64>,
    /// When it was enqueued, milliseconds since the epoch.
    pub created_at: i64,
    /// The workflow that it is a fork of.
    pub forked_from: Option<String>,
    /// Whether steps are recorded from an earlier life.
    pub has_history: bool,
    priority: i32,
}

/// Another claimer was at the same rows at the same moment: ask again in a few milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Contended;

/// $1 queue, $2 token, $3 executor, $4 version, $5 application, $6 workflows, $7 class, $8 formats, $9 free slots,
/// $10 global limit or NULL, $11 largest input.
///
/// Rides `idx_workflow_status_in_flight_v2` twice: the PENDING count, and the ENQUEUED rows in priority and age order.
/// `''` counts as NULL in name columns. What isn't ours to run stays ENQUEUED for others: names, classes and
/// serialisations are part of the predicate, since a claimed row that can't be run would hold a slot for ever.
const CLAIM: &str = r"
WITH latest AS (
  SELECT version_name FROM {s}.application_versions
   WHERE application_name = $5 OR application_name IS NULL
   ORDER BY version_timestamp DESC LIMIT 1
), budget AS (
  SELECT GREATEST(0, LEAST($9::bigint, COALESCE($10::bigint - (
    SELECT count(*) FROM {s}.workflow_status
     WHERE queue_name = $1 AND status = 'PENDING'
       AND (application_name = $5 OR application_name IS NULL OR application_name = '')), $9::bigint))) AS rows
), pick AS (
  SELECT workflow_uuid FROM {s}.workflow_status
   WHERE queue_name = $1 AND status = 'ENQUEUED'
     AND (application_name = $5 OR application_name IS NULL OR application_name = '')
     AND (application_version = $4
          OR COALESCE(application_version, '') = '' AND COALESCE((SELECT version_name FROM latest), $4) = $4)
     AND name = ANY($6)
     AND COALESCE(class_name, '') IN ('', $7)
     AND COALESCE(config_name, '') = ''
     AND (serialization IS NULL OR serialization = ANY($8))
   ORDER BY priority, created_at
   LIMIT (SELECT rows FROM budget)
   FOR UPDATE {wait}
)
UPDATE {s}.workflow_status w
   SET status = 'PENDING', owner_xid = $2, executor_id = $3, application_version = $4,
       application_name = COALESCE(NULLIF(w.application_name, ''), $5), rate_limited = FALSE,
       recovery_attempts = COALESCE(w.recovery_attempts, 0) + 1,
       started_at_epoch_ms = {now}, updated_at = {now},
       workflow_deadline_epoch_ms = COALESCE(w.workflow_deadline_epoch_ms, {now} + w.workflow_timeout_ms)
  FROM pick LEFT JOIN {s}.workflow_input i USING (workflow_uuid)
 WHERE w.workflow_uuid = pick.workflow_uuid AND w.status = 'ENQUEUED'
RETURNING w.workflow_uuid, w.name, w.serialization, w.priority, w.created_at,
          CASE WHEN octet_length(COALESCE(i.inputs, w.inputs)) <= $11::bigint THEN COALESCE(i.inputs, w.inputs) END AS inputs,
          COALESCE(octet_length(COALESCE(i.inputs, w.inputs)), 0)::bigint AS inputs_size,
          (w.inputs IS NOT NULL OR i.inputs IS NULL) AS legacy,
          w.recovery_attempts, w.workflow_deadline_epoch_ms, w.forked_from,
          EXISTS (SELECT FROM {s}.operation_outputs o WHERE o.workflow_uuid = w.workflow_uuid) AS has_history";

impl SystemDatabase {
    /// Claim rows, highest priority and oldest first.
    ///
    /// Without a global limit: one statement, READ COMMITTED, SKIP LOCKED. With one, the SDKs' own protocol for shared
    /// budgets: REPEATABLE READ and NOWAIT, so that of two overlapping claimers one fails and neither overspends.
    ///
    /// # Errors
    /// `Ok(Err(Contended))` when another claimer was there; [`SysdbError`] otherwise.
    pub async fn claim(
        &self,
        scope: &ClaimScope,
        claim: &Claim<'_>,
    ) -> Result<Result<Vec<Claimed>, Contended>, SysdbError> {
        match self.try_claim(scope, claim).await {
            Ok(claimed) => Ok(Ok(claimed)),
            Err(SysdbError::Query(error)) if is_contention(&error) => Ok(Err(Contended)),
            Err(error) => Err(error),
        }
    }

    async fn try_claim(&self, scope: &ClaimScope, claim: &Claim<'_>) -> Result<Vec<Claimed>, SysdbError> {
        let shared = claim.concurrency.is_some();
        let statement = self.sql(&CLAIM.replace("{wait}", if shared { "NOWAIT" } else { "SKIP LOCKED" }));
        let token = OwnerToken::fresh();
        let limit = i64::from(claim.limit);
        let concurrency = claim.concurrency.map(i64::from);
        let mut client = self.client().await?;
        let statement = client.prepare_cached(&statement).await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 11] = [
            &claim.queue,
            &token.as_str(),
            &scope.executor,
            &scope.version,
            &scope.application,
            &scope.workflows,
            &scope.class,
            &scope.formats,
            &limit,
            &concurrency,
            &scope.max_input,
        ];
        let rows = if shared {
            let transaction =
                client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
            let rows = transaction.query(&statement, &parameters).await?;
            // An empty claim has written nothing: no commit record, no transaction id spent.
            if rows.is_empty() {
                transaction.rollback().await?
            } else {
                transaction.commit().await?
            }
            rows
        } else {
            client.query(&statement, &parameters).await?
        };
        let mut claimed = rows.iter().map(|row| read(row, claim.queue, &token)).collect::<Result<Vec<_>, _>>()?;
        claimed.sort_by_key(|row| (row.priority, row.created_at));
        Ok(claimed)
    }
}

fn read(row: &Row, queue: &str, token: &OwnerToken) -> Result<Claimed, tokio_postgres::Error> {
    Ok(Claimed {
        owner: Owner { id: WorkflowId::new(row.try_get::<_, String>("workflow_uuid")?), token: token.clone() },
        name: row.try_get("name")?,
        queue: queue.to_owned(),
        serialization: row.try_get("serialization")?,
        inputs: row.try_get("inputs")?,
        inputs_size: row.try_get("inputs_size")?,
        legacy: row.try_get("legacy")?,
        attempts: row.try_get::<_, Option<i64>>("recovery_attempts")?.unwrap_or(1),
        deadline: row.try_get("workflow_deadline_epoch_ms")?,
        created_at: row.try_get("created_at")?,
        forked_from: row.try_get("forked_from")?,
        has_history: row.try_get("has_history")?,
        priority: row.try_get("priority")?,
    })
}

fn is_contention(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_SERIALIZATION_FAILURE)
}
