//! Pausing a queue, for all workers of the application and over restarts.
//!
//! A row in `<prefix>queue_pauses` is the pause: this program's workers see it with their next look, whatever limits they go by.
//! SDK workers know nothing of that table, and serve only queues that are registered; so where the queue is, its `concurrency`
//! becomes 0, which stops their claims, and the row keeps what it was before.

use super::{Operator, OperatorError};
use crate::postgres::Statements;

/// A pause. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The queue.
    pub queue: String,
    /// Since when.
    pub since: i64,
    /// Who asked for it, as far as that is known.
    pub by: Option<String>,
    /// Why, if that was said.
    pub reason: Option<String>,
    /// The queue was registered, and its `concurrency` was set to 0.
    pub registered: bool,
    /// `concurrency` before.
    pub concurrency: Option<i32>,
}

/// What a pause came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// It is new; otherwise the queue was paused already.
    pub new: bool,
    /// The pause.
    pub pause: Pause,
}

/// What the end of a pause came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpaused {
    /// The queue wasn't paused.
    WasNot,
    /// It goes on; it wasn't registered.
    Resumed,
    /// It goes on, and its `concurrency` is what it was before.
    Restored(Option<i32>),
    /// It goes on. Somebody has changed or removed its registration meanwhile, and that stays as it is.
    Kept,
}

/// $1 queue, $2 our application, $3 who, $4 why. A queue that was paused already stays as it is, but for a registration that came
/// since. Of two at once the second waits for the first, and finds nothing left to do. Names of queues are unique over all
/// applications; one of another's is none of ours.
const PAUSE: &str = "
WITH registered AS (
  SELECT q.queue_id, q.concurrency FROM {s}.queues q WHERE q.name = $1 AND {queue_is_ours} FOR UPDATE
), closed AS (
  UPDATE {s}.queues q SET concurrency = 0, updated_at = {now}
    FROM registered r WHERE q.queue_id = r.queue_id AND r.concurrency IS DISTINCT FROM 0
  RETURNING q.queue_id
)
INSERT INTO {pauses} AS p (queue_name, paused_by, reason, registered, concurrency)
SELECT $1, $3, $4, EXISTS (SELECT FROM registered), (SELECT concurrency FROM registered)
ON CONFLICT (queue_name) DO UPDATE
   SET registered = EXCLUDED.registered,
       concurrency = CASE WHEN EXISTS (SELECT FROM closed) OR NOT p.registered THEN EXCLUDED.concurrency ELSE p.concurrency END
RETURNING xmax = 0 AS new, queue_name, (extract(epoch FROM paused_at) * 1000)::bigint, paused_by, reason, registered, concurrency";

/// $1 queue, $2 our application. What isn't 0 any more was changed by somebody. The registration is locked first, as in a pause: of two
/// at once neither waits for what the other one has.
const RESUME: &str = "
WITH registered AS MATERIALIZED (
  SELECT q.queue_id FROM {s}.queues q WHERE q.name = $1 AND {queue_is_ours} FOR UPDATE
), pause AS (
  DELETE FROM {pauses} WHERE queue_name = $1 AND (SELECT count(*) FROM registered) >= 0 RETURNING registered, concurrency
), restored AS (
  UPDATE {s}.queues q SET concurrency = p.concurrency, updated_at = {now}
    FROM pause p WHERE q.name = $1 AND {queue_is_ours} AND p.registered AND q.concurrency = 0
  RETURNING q.queue_id
)
SELECT registered, concurrency, EXISTS (SELECT FROM restored) FROM pause";

impl Operator {
    /// Let no worker claim from a queue, until it is resumed. What runs goes on.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn pause(&self, queue: &str, by: &str, reason: Option<&str>) -> Result<Paused, OperatorError> {
        let client = self.sysdb.client().await?;
        let row = client.query_one(&self.sql(PAUSE), &[&queue, &self.application, &by, &reason]).await?;
        Ok(Paused {
            new: row.try_get(0)?,
            pause: Pause {
                queue: row.try_get(1)?,
                since: row.try_get(2)?,
                by: row.try_get(3)?,
                reason: row.try_get(4)?,
                registered: row.try_get(5)?,
                concurrency: row.try_get(6)?,
            },
        })
    }

    /// Let workers claim from a queue again; what its registration said before holds again.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn unpause(&self, queue: &str) -> Result<Unpaused, OperatorError> {
        let client = self.sysdb.client().await?;
        let Some(row) = client.query_opt(&self.sql(RESUME), &[&queue, &self.application]).await? else {
            return Ok(Unpaused::WasNot);
        };
        let (registered, concurrency, restored): (bool, Option<i32>, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(match (registered, restored) {
            (false, _) => Unpaused::Resumed,
            (true, true) => Unpaused::Restored(concurrency),
            (true, false) => Unpaused::Kept,
        })
    }

    /// All pauses, by queue; at most a thousand.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn pauses(&self) -> Result<Vec<Pause>, OperatorError> {
        let client = self.sysdb.client().await?;
        let sql = self.sql(
            "SELECT queue_name, (extract(epoch FROM paused_at) * 1000)::bigint, paused_by, reason, registered, concurrency
               FROM {pauses} ORDER BY queue_name LIMIT 1000",
        );
        let mut pauses = Vec::new();
        for row in client.query(&sql, &[]).await? {
            pauses.push(Pause {
                queue: row.try_get(0)?,
                since: row.try_get(1)?,
                by: row.try_get(2)?,
                reason: row.try_get(3)?,
                registered: row.try_get(4)?,
                concurrency: row.try_get(5)?,
            });
        }
        Ok(pauses)
    }
}
