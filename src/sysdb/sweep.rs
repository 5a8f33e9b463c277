//! The two sweeps that DBOS leaves to executors: release DELAYED rows, and cancel rows past their deadline. Both are
//! scoped to our application, and use the database's clock.

use super::{SysdbError, SystemDatabase};
use crate::postgres::Statements;

/// Rows a statement; the sweep repeats while it is full.
const BATCH: i64 = 1000;

/// $1 application, $2 rows. Rides `idx_workflow_status_delayed`.
const RELEASE_DELAYED: &str = "
UPDATE {s}.workflow_status
   SET status = 'ENQUEUED', updated_at = {now},
       deduplication_id = CASE WHEN is_debounced THEN NULL ELSE deduplication_id END
 WHERE workflow_uuid IN (
       SELECT workflow_uuid FROM {s}.workflow_status
        WHERE status = 'DELAYED' AND delay_until_epoch_ms <= {now}
          AND (application_name = $1 OR application_name IS NULL OR application_name = '')
        ORDER BY delay_until_epoch_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
   AND status = 'DELAYED'";

/// $1 application, $2 rows. Rides `idx_workflow_status_deadline`.
const CANCEL_EXPIRED: &str = "
UPDATE {s}.workflow_status
   SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL, started_at_epoch_ms = NULL,
       updated_at = {now}, completed_at = {now}
 WHERE workflow_uuid IN (
       SELECT workflow_uuid FROM {s}.workflow_status
        WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED')
          AND workflow_deadline_epoch_ms IS NOT NULL AND workflow_deadline_epoch_ms <= {now}
          AND (application_name = $1 OR application_name IS NULL OR application_name = '')
        ORDER BY workflow_deadline_epoch_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
   AND status IN ('ENQUEUED', 'PENDING', 'DELAYED')";

impl SystemDatabase {
    /// DELAYED → ENQUEUED where the delay is over; gives how many.
    pub async fn release_delayed(&self, application: &str) -> Result<u64, SysdbError> {
        self.sweep(RELEASE_DELAYED, application).await
    }

    /// Active → CANCELLED where the deadline has passed; gives how many.
    pub async fn cancel_expired(&self, application: &str) -> Result<u64, SysdbError> {
        self.sweep(CANCEL_EXPIRED, application).await
    }

    async fn sweep(&self, statement: &str, application: &str) -> Result<u64, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(statement);
        let mut total = 0;
        loop {
            let rows = client.execute(&statement, &[&application, &BATCH]).await?;
            total += rows;
            if rows < BATCH.unsigned_abs() {
                return Ok(total);
            }
        }
    }
}
