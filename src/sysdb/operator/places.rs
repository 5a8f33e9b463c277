//! Whether somebody will take what is put on a queue.

use std::collections::BTreeMap;

use super::{BATCH, Operator, OperatorError};
use crate::{postgres::Statements, sysdb::INTERNAL_QUEUE};

/// Rows with a delay that are looked at.
const DELAYED: i64 = 20_000;

/// $1 queue, $2 application, $3 delayed rows. Names of a worker's queues have a comma and a blank between them.
const KNOWN: &str = "
SELECT EXISTS (SELECT FROM {s}.queues WHERE name = $1 AND {queue_is_ours})
       OR EXISTS (SELECT FROM {pauses} WHERE queue_name = $1)
       OR EXISTS (SELECT FROM {workers} k WHERE $1 = ANY (string_to_array(k.queue_name, ', '))
                   AND COALESCE(k.application_name, $2) = $2 AND k.expires_at > now())
       OR (SELECT TRUE FROM {s}.workflow_status WHERE queue_name = $1 AND status IN ('ENQUEUED', 'PENDING') LIMIT 1) IS NOT NULL
       OR EXISTS (SELECT FROM (SELECT queue_name FROM {s}.workflow_status WHERE status = 'DELAYED' LIMIT $3) d
                   WHERE d.queue_name = $1)";

/// $1 ids, $2 application.
const UNSERVED: &str = "
SELECT w.application_version, count(*)
  FROM {s}.workflow_status w
 WHERE w.workflow_uuid = ANY($1) AND w.application_version <> ''
   AND NOT EXISTS (SELECT FROM {workers} k
                    WHERE k.application_version = w.application_version AND COALESCE(k.application_name, $2) = $2
                      AND k.expires_at > now() AND k.state <> 'stopped')
 GROUP BY w.application_version";

impl Operator {
    /// Whether anybody knows a queue: it is registered or paused, a live worker serves it, or something is on it. DBOS's own
    /// is known to all.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn knows_queue(&self, queue: &str) -> Result<bool, OperatorError> {
        if queue == INTERNAL_QUEUE {
            return Ok(true);
        }
        let client = self.sysdb.client().await?;
        Ok(client.query_one(&self.sql(KNOWN), &[&queue, &self.application, &DELAYED]).await?.try_get(0)?)
    }

    /// Versions of the application that some of these ask for while no live worker has them, and how many do.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn unserved_versions(&self, ids: &[String]) -> Result<BTreeMap<String, i64>, OperatorError> {
        let client = self.sysdb.client().await?;
        let mut versions = BTreeMap::new();
        for ids in ids.chunks(BATCH) {
            for row in client.query(&self.sql(UNSERVED), &[&ids, &self.application]).await? {
                *versions.entry(row.try_get(0)?).or_default() += row.try_get::<_, i64>(1)?;
            }
        }
        Ok(versions)
    }
}
