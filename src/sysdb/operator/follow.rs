//! What happens on queues: executions that come, begin and end, as they do.

use std::collections::HashSet;

use super::{Operator, OperatorError};
use crate::postgres::Statements;

/// Rows of one kind that a look takes.
const MOST: i64 = 1000;
/// Who is on a queue at the beginning, and may be cancelled: so many are known.
const KNOWN: i64 = 20_000;
/// And so many later.
const ON_QUEUE_MOST: usize = 100_000;
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
    queue: Option<String>,
    /// Where each kind goes on: its time, and the id from which on that time was told already.
    places: [Place; 3],
    told: HashSet<(Happened, String, i64)>,
    /// With a queue: who was seen on it, and hasn't ended.
    on_queue: HashSet<String>,
}

/// Rows come after it in the order of time and id.
type Place = (i64, String);

/// $1 and $2, $3 and $4, $5 and $6 the places of the kinds; $7 queue, $8 application, $9 rows. Each branch rides the index on its
/// column, and says how many rows it took and where it got to, whatever fits of them; the row of kind 3 only tells the time. What was cancelled or parked is on no queue.
const NEWS: &str = "
WITH created AS MATERIALIZED (
  SELECT workflow_uuid AS id, created_at AS at FROM {s}.workflow_status
   WHERE created_at >= $1 AND (created_at, workflow_uuid) > ($1, $2) ORDER BY created_at, workflow_uuid LIMIT $9
), started AS MATERIALIZED (
  SELECT workflow_uuid AS id, started_at_epoch_ms AS at FROM {s}.workflow_status
   WHERE started_at_epoch_ms IS NOT NULL AND started_at_epoch_ms >= $3 AND (started_at_epoch_ms, workflow_uuid) > ($3, $4)
   ORDER BY started_at_epoch_ms, workflow_uuid LIMIT $9
), ended AS MATERIALIZED (
  SELECT workflow_uuid AS id, completed_at AS at FROM {s}.workflow_status
   WHERE completed_at IS NOT NULL AND completed_at >= $5 AND (completed_at, workflow_uuid) > ($5, $6)
   ORDER BY completed_at, workflow_uuid LIMIT $9
), looked AS (
  SELECT 0 AS kind, (SELECT count(*) FROM created) AS rows, at, id FROM (SELECT * FROM created ORDER BY at DESC, id DESC LIMIT 1) l
  UNION ALL
  SELECT 1, (SELECT count(*) FROM started), at, id FROM (SELECT * FROM started ORDER BY at DESC, id DESC LIMIT 1) l
  UNION ALL
  SELECT 2, (SELECT count(*) FROM ended), at, id FROM (SELECT * FROM ended ORDER BY at DESC, id DESC LIMIT 1) l
), fit AS (
  SELECT n.kind, n.at, w.workflow_uuid AS id, w.status, NULLIF(w.queue_name, '') AS queue, e.flow_id,
         NULLIF(w.executor_id, '') AS worker, w.created_at,
         CASE WHEN n.kind = 2 AND w.status <> 'SUCCESS' THEN left(e.error_message, 2000) END AS error
    FROM (SELECT 0 AS kind, id, at FROM created UNION ALL SELECT 1, id, at FROM started UNION ALL SELECT 2, id, at FROM ended) n
    JOIN {s}.workflow_status w ON w.workflow_uuid = n.id LEFT JOIN {executions} e ON e.id = n.id
   WHERE ($7::text IS NULL OR w.queue_name = $7 OR n.kind = 2 AND w.queue_name IS NULL)
     AND (w.application_name = $8 OR w.application_name IS NULL OR w.application_name = '')
)
SELECT TRUE AS looked, kind, at, id, rows, NULL AS status, NULL AS queue, NULL AS flow_id, NULL AS worker, {now} AS created_at,
       NULL AS error FROM looked
UNION ALL
SELECT TRUE, 3, 0, '', 0, NULL, NULL, NULL, NULL, {now}, NULL
UNION ALL
SELECT FALSE, kind, at, id, 0, status, queue, flow_id, worker, created_at, error FROM fit
ORDER BY 1 DESC, 3, 2, 4";

/// $1 queue, $2 most. Rides `idx_workflow_status_in_flight_v2`.
const ON_QUEUE: &str = "
SELECT workflow_uuid FROM {s}.workflow_status WHERE queue_name = $1 AND status IN ('ENQUEUED', 'PENDING') LIMIT $2";

impl Operator {
    /// From now on, on this queue or on all.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn now(&self, queue: Option<&str>) -> Result<Moment, OperatorError> {
        let client = self.sysdb.client().await?;
        let now: i64 = client.query_one(&self.sql("SELECT {now}"), &[]).await?.try_get(0)?;
        let mut on_queue = HashSet::new();
        if let Some(queue) = queue {
            for row in client.query(&self.sql(ON_QUEUE), &[&queue, &KNOWN]).await? {
                on_queue.insert(row.try_get(0)?);
            }
        }
        drop(client);
        let places = std::array::from_fn(|_| (now - OVERLAP, String::new()));
        let mut moment = Moment { queue: queue.map(str::to_owned), places, told: HashSet::new(), on_queue };
        while self.news(&mut moment).await?.1 {} // what was before counts as told
        Ok(moment)
    }

    /// What has happened since the last look, in the order of its times, as far as it is known; and whether there is more
    /// already. Of those that were cancelled or parked, and are on no queue any more, a look at one queue tells who was seen on it.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn news(&self, since: &mut Moment) -> Result<(Vec<News>, bool), OperatorError> {
        let client = self.sysdb.client().await?;
        let [created, started, ended] = &since.places;
        let sql = self.sql(NEWS);
        let rows = client
            .query(
                &sql,
                &[
                    &created.0,
                    &created.1,
                    &started.0,
                    &started.1,
                    &ended.0,
                    &ended.1,
                    &since.queue,
                    &self.application,
                    &MOST,
                ],
            )
            .await?;
        let (mut news, mut cut, mut now) = (Vec::new(), [None, None, None], since.places[0].0);
        for row in &rows {
            let (kind, at, id): (i32, i64, String) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let happened = match kind {
                0 => Happened::Created,
                1 => Happened::Started,
                _ => Happened::Ended,
            };
            if row.try_get(0)? {
                now = row.try_get(9)?;
                if row.try_get::<_, i64>(4)? >= MOST {
                    cut[happened as usize] = Some((at, id));
                }
                continue;
            }
            let queue: Option<String> = row.try_get(6)?;
            if !since.told.insert((happened, id.clone(), at)) || !since.is_on_queue(happened, &id, queue.as_deref()) {
                continue;
            }
            news.push(News {
                happened,
                at,
                id,
                status: row.try_get::<_, Option<String>>(5)?.unwrap_or_default(),
                queue,
                flow: row.try_get(7)?,
                worker: row.try_get(8)?,
                created_at: row.try_get(9)?,
                error: row.try_get(10)?,
            });
        }
        let more = cut.iter().any(Option::is_some);
        // A kind of which there was more than a look takes goes on where it was cut off; else once more from a while ago.
        for (place, cut) in since.places.iter_mut().zip(cut) {
            *place = cut.unwrap_or_else(|| (now - OVERLAP, String::new()));
        }
        let from = since.places.clone().map(|(at, _)| at.min(now - OVERLAP));
        since.told.retain(|(happened, _, at)| *at >= from[*happened as usize]);
        Ok((news, more))
    }
}

impl Moment {
    /// Whether it concerns our queue, as far as that is known.
    fn is_on_queue(&mut self, happened: Happened, id: &str, queue: Option<&str>) -> bool {
        match (&self.queue, happened) {
            (None, _) => true,
            (Some(_), Happened::Ended) => self.on_queue.remove(id) || queue.is_some(),
            (Some(_), _) => {
                if self.on_queue.len() < ON_QUEUE_MOST {
                    self.on_queue.insert(id.to_owned());
                }
                true
            }
        }
    }
}
