//! How much waits on queues, and for how long: asked for metrics, and so cheap whatever is there.

use std::time::Duration;

use super::{SysdbError, SystemDatabase};
use crate::{metrics::Backlog, postgres::Statements};

/// So many rows of a queue are counted, and no more.
const COUNTED: i64 = 10_000;
/// So many of a priority are looked at for the oldest one.
const FIRST: i64 = 16;
/// The server ends the question after so long: figures that come later are of no use.
const PATIENCE: &str = "SET LOCAL statement_timeout = '2s'";

/// All that is ENQUEUED, whoever's it is: what nobody takes is what an operator wants to see. A condition on anything that isn't
/// in the index could make it read a whole backlog that doesn't fulfil it.
///
/// Rides `idx_workflow_status_in_flight_v2`: as many entries as are counted, and then the first few of each of up to 32
/// priorities. The first one is the oldest of its priority, unless it was delayed: that was asked for, and so it waits only since
/// the delay's end. Where the first few all were, younger ones beyond them may have waited for longer; the figure is too
/// small then. Times are the clients', and may be anything.
///
/// $1 queues, $2 most rows, $3 the first few.
const BACKLOG: &str = "
SELECT asked.queue,
       (SELECT count(*) FROM (SELECT FROM {s}.workflow_status
                               WHERE queue_name = asked.queue AND status = 'ENQUEUED' LIMIT $2::bigint) counted) AS depth,
       GREATEST(0, {now} - (
         WITH RECURSIVE heads AS (
           (SELECT priority, 1 AS place FROM {s}.workflow_status
             WHERE queue_name = asked.queue AND status = 'ENQUEUED' ORDER BY priority, created_at LIMIT 1)
           UNION ALL
           SELECT following.priority, heads.place + 1
             FROM heads CROSS JOIN LATERAL (
                  SELECT priority FROM {s}.workflow_status
                   WHERE queue_name = asked.queue AND status = 'ENQUEUED' AND priority > heads.priority
                   ORDER BY priority, created_at LIMIT 1) following
            WHERE heads.place < 32
         ) SELECT min(GREATEST(first.created_at, first.delay_until_epoch_ms, 0))
             FROM heads CROSS JOIN LATERAL (
                  SELECT created_at, delay_until_epoch_ms FROM {s}.workflow_status
                   WHERE queue_name = asked.queue AND status = 'ENQUEUED' AND priority = heads.priority
                   ORDER BY priority, created_at LIMIT $3::bigint) first)) AS oldest
  FROM unnest($1::text[]) WITH ORDINALITY AS asked(queue, place)
 ORDER BY asked.place";

impl SystemDatabase {
    /// What waits on these queues, in their order.
    ///
    /// # Errors
    /// Only those of the database; it has two seconds.
    pub async fn backlog(&self, queues: &[String]) -> Result<Vec<Backlog>, SysdbError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        transaction.execute(PATIENCE, &[]).await?;
        let rows = transaction.query(&self.sql(BACKLOG), &[&queues, &COUNTED, &FIRST]).await?;
        transaction.commit().await?;
        rows.iter()
            .map(|row| {
                Ok(Backlog {
                    queue: row.try_get("queue")?,
                    depth: u64::try_from(row.try_get::<_, i64>("depth")?).unwrap_or(0),
                    // Null, and so 0, when nothing waits.
                    oldest: Duration::from_millis(
                        row.try_get::<_, Option<i64>>("oldest")?.and_then(|age| u64::try_from(age).ok()).unwrap_or(0),
                    ),
                })
            })
            .collect()
    }
}
