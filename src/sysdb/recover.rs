//! Hand-overs: PENDING → ENQUEUED for rows of dead executors and of a drain, and dead-lettering.

use super::{ApplicationWrite, Owner, SysdbError, SystemDatabase};
use crate::postgres::Statements;

/// $1 ids, $2 tokens, $3 times of their claims. A hand-over by a living worker is no failed attempt, so the claim's count is taken back.
const RELEASE: &str = "
UPDATE {s}.workflow_status w
   SET status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL, updated_at = {now},
       recovery_attempts = GREATEST(COALESCE(w.recovery_attempts, 1) - 1, 0),
       queue_name = COALESCE(NULLIF(w.queue_name, ''), '_dbos_internal_queue')
  FROM unnest($1::text[], $2::text[], $3::bigint[]) AS mine(id, token, since)
 WHERE w.workflow_uuid = mine.id AND w.status = 'PENDING' AND w.owner_xid = mine.token
   AND w.started_at_epoch_ms = mine.since
RETURNING w.workflow_uuid";

/// Age of a claim, in milliseconds, after which its executor certainly knows of it.
const SETTLED: i64 = 15_000;

/// $1 executor, $2 application, $3 tokens. Rides `idx_workflow_status_pending`. Attempts stay counted, so that a row that
/// strands each time is parked in the end.
const RELEASE_STRANDED: &str = "
UPDATE {s}.workflow_status
   SET status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL, updated_at = {now},
       queue_name = COALESCE(NULLIF(queue_name, ''), '_dbos_internal_queue')
 WHERE status = 'PENDING' AND workflow_uuid IN (
       SELECT workflow_uuid FROM {s}.workflow_status
        WHERE status = 'PENDING' AND executor_id = $1
          AND (application_name = $2 OR application_name IS NULL OR application_name = '')
          AND owner_xid IS NOT NULL AND owner_xid <> ALL($3) AND started_at_epoch_ms < {now} - $4::bigint
          FOR UPDATE SKIP LOCKED)";

/// $1 id, $2 token, $3 time of the claim.
const DEAD_LETTER: &str = "
UPDATE {s}.workflow_status
   SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL,
       started_at_epoch_ms = NULL, updated_at = {now}, completed_at = {now}
 WHERE workflow_uuid = $1 AND status = 'PENDING' AND owner_xid = $2 AND started_at_epoch_ms = $3";

impl SystemDatabase {
    /// Give rows that this process owns back to their queues, with their checkpoints. Gives how many it still owned.
    pub async fn release(&self, owners: &[Owner]) -> Result<usize, SysdbError> {
        let ids: Vec<&str> = owners.iter().map(|owner| owner.id.as_str()).collect();
        let tokens: Vec<&str> = owners.iter().map(|owner| owner.token.as_str()).collect();
        let since: Vec<i64> = owners.iter().map(|owner| owner.since).collect();
        let client = self.client().await?;
        let statement = self.sql(RELEASE);
        Ok(client.query(&statement, &[&ids, &tokens, &since]).await?.len())
    }

    /// Put rows back on their queues that are PENDING for this living executor, but under none of the tokens that it
    /// runs: the answer to their claim was lost with its connection, or their outcome could not be recorded.
    pub async fn release_stranded(
        &self,
        executor: &str,
        application: &str,
        running: &[Owner],
    ) -> Result<u64, SysdbError> {
        let tokens: Vec<&str> = running.iter().map(|owner| owner.token.as_str()).collect();
        let client = self.client().await?;
        let statement = self.sql(RELEASE_STRANDED);
        Ok(client.execute(&statement, &[&executor, &application, &tokens, &SETTLED]).await?)
    }

    /// Park a workflow that was started too often, and write rows of the application's tables in the same transaction.
    /// False when it is no longer ours; then nothing is written.
    pub async fn dead_letter(&self, owner: &Owner, rows: &[ApplicationWrite]) -> Result<bool, SysdbError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        let statement = self.sql(DEAD_LETTER);
        let parked =
            transaction.execute(&statement, &[&owner.id.as_str(), &owner.token.as_str(), &owner.since]).await? == 1;
        if parked {
            for row in rows {
                transaction.execute(&row.statement, &[&serde_json::json!([row.row])]).await?;
            }
        }
        transaction.commit().await?;
        Ok(parked)
    }
}
