//! What happens on queues: executions that come, begin and end, as they do.

use std::collections::HashSet;

use super::{Operator, OperatorError};
use crate::postgres::Statements;

/// Rows of one kind that a look takes.
const MOST: i64 = 1000;
/// Commits may be so much later than the time that they wrote, in milliseconds: looks overlap by it.
const OVERLAP: i64 = 10_000;

/// What happened to an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Happened {
    /// It was enqueued.
    Created,
    /// A worker took it.
    Started,
    /// It ended, in whatever way.
    Ended,
}

/// One thing that happened. Times are milliseconds since the epoch.
#[derive(Clone, Debug)]
pub struct News {
    /// What.
    pub happened: Happened,
    /// When.
    pub at: i64,
    /// To whom.
    pub id: String,
    /// Its stored status now.
    pub status: String,
    /// Its queue now; one that was cancelled or parked is on none.
    pub queue: Option<String>,
    /// Its flow, if it has a row that says so.
    pub flow: Option<String>,
    /// Who claimed it last.
    pub worker: Option<String>,
    /// When it was created.
    pub created_at: i64,
    /// The text of its error, if it has ended with one.
    pub error: Option<String>,
}

/// A place in what happens. What was told is not told again.
#[derive(Clone, Debug)]
pub struct Moment {
    from: i64,
    told: HashSet<(Happened, String, i64)>,
}

/// $1 the time, $2 queue, $3 application, $4 rows. Each branch rides the index on its column.
const NEWS: &str = "
SELECT n.kind, n.at, w.workflow_uuid, w.status, NULLIF(w.queue_name, ''), e.flow_id, NULLIF(w.executor_id, ''), w.created_at,
       CASE WHEN n.kind = 2 AND w.status <> 'SUCCESS' THEN left(e.error_message, 2000) END, {now}
  FROM (
    (SELECT 0 AS kind, workflow_uuid AS id, created_at AS at FROM {s}.workflow_status
      WHERE created_at >= $1 ORDER BY created_at LIMIT $4)
    UNION ALL
    (SELECT 1, workflow_uuid, started_at_epoch_ms FROM {s}.workflow_status
      WHERE started_at_epoch_ms IS NOT NULL AND started_at_epoch_ms >= $1 ORDER BY started_at_epoch_ms LIMIT $4)
    UNION ALL
    (SELECT 2, workflow_uuid, completed_at FROM {s}.workflow_status
      WHERE completed_at IS NOT NULL AND completed_at >= $1 ORDER BY completed_at LIMIT $4)
  ) n JOIN {s}.workflow_status w ON w.workflow_uuid = n.id LEFT JOIN {executions} e ON e.id = n.id
 WHERE ($2::text IS NULL OR w.queue_name = $2 OR n.kind = 2 AND w.queue_name IS NULL)
   AND (w.application_name = $3 OR w.application_name IS NULL OR w.application_name = '')
 ORDER BY n.at, n.kind, w.workflow_uuid";

impl Operator {
    /// From now on.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn now(&self) -> Result<Moment, OperatorError> {
        let client = self.sysdb.client().await?;
        let now: i64 = client.query_one(&self.sql("SELECT {now}"), &[]).await?.try_get(0)?;
        drop(client);
        let mut moment = Moment { from: now - OVERLAP, told: HashSet::new() };
        self.news(None, &mut moment).await?; // what was before counts as told
        Ok(moment)
    }

    /// What has happened since the last look, on this queue or on all; in the order of its times, as far as it is known.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn news(&self, queue: Option<&str>, since: &mut Moment) -> Result<Vec<News>, OperatorError> {
        let client = self.sysdb.client().await?;
        let rows = client.query(&self.sql(NEWS), &[&since.from, &queue, &self.application, &MOST]).await?;
        let (mut news, mut full, mut now) = (Vec::new(), [(0, i64::MIN); 3], None);
        for row in &rows {
            let kind: i32 = row.try_get(0)?;
            let (at, id): (i64, String) = (row.try_get(1)?, row.try_get(2)?);
            now = Some(row.try_get::<_, i64>(9)?);
            let happened = match kind {
                0 => Happened::Created,
                1 => Happened::Started,
                _ => Happened::Ended,
            };
            if let Some((count, last)) = usize::try_from(kind).ok().and_then(|kind| full.get_mut(kind)) {
                (*count, *last) = (*count + 1, at.max(*last));
            }
            if !since.told.insert((happened, id.clone(), at)) {
                continue;
            }
            news.push(News {
                happened,
                at,
                id,
                status: row.try_get::<_, Option<String>>(3)?.unwrap_or_default(),
                queue: row.try_get(4)?,
                flow: row.try_get(5)?,
                worker: row.try_get(6)?,
                created_at: row.try_get(7)?,
                error: row.try_get(8)?,
            });
        }
        // A kind of which there was more than a look takes goes on where it was cut off.
        let cut = full.iter().filter(|(count, _)| *count >= MOST).map(|(_, last)| *last).min();
        if let Some(next) = cut.into_iter().chain(now.map(|now| now - OVERLAP)).min() {
            // More in one millisecond than a look takes: what is beyond it isn't told.
            let stuck = cut.is_some_and(|cut| cut <= since.from);
            since.from = if stuck { since.from + 1 } else { next.max(since.from) };
            since.told.retain(|(_, _, at)| *at >= since.from);
        }
        Ok(news)
    }
}
