//! Executions by what they have in common, newest first.
//!
//! Few of the things that one may ask for have an index of their own, and none has one together with the age. So a list is
//! made in one of two ways. Where a filter has an index and few rows behind it (a parent, a flow, a status but completed),
//! those rows are taken and sorted. Otherwise the rows are looked through by age, some thousands a statement, until the page is
//! full, up to a bound; the page then says how far it got.

use super::super::{SysdbError, WorkflowId};
use super::{Operator, OperatorError, Status};
use crate::postgres::{Session, Statements};

/// Rows behind a filter that are few enough to be sorted.
const FEW: i64 = 20_000;
/// Rows that the first statement looks through, unless the page is larger, and that later ones do at most.
const WINDOW: (i64, i64) = (200, 5_000);
/// Inputs up to this size are read, to say which flow an execution is of that has no row of its own yet.
const INPUTS: i32 = 16 << 10;
/// Errors up to this size are read.
const ERROR: i32 = 8 << 10;

/// Which executions.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states; any where there are none.
    pub statuses: Vec<Status>,
    /// On this queue. One that was cancelled or parked is on none.
    pub queue: Option<String>,
    /// Of this flow, where the execution has a row that says so: it has begun, or a server made it.
    pub flow: Option<String>,
    /// Claimed last by this worker.
    pub worker: Option<String>,
    /// Of this workflow name.
    pub name: Option<String>,
    /// Children of this one.
    pub parent: Option<String>,
    /// Created then or later, in milliseconds since the epoch.
    pub since: Option<i64>,
    /// Created before, in milliseconds since the epoch.
    pub until: Option<i64>,
}

/// An execution in a line. Times are milliseconds since the epoch, by the database's clock.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Id.
    pub id: WorkflowId,
    /// Status as stored.
    pub status: String,
    /// Name of the workflow.
    pub name: Option<String>,
    /// Queue; `None` for one that was cancelled or parked, or never was on one.
    pub queue: Option<String>,
    /// Flow, if the execution has a row.
    pub flow: Option<String>,
    /// Who claimed it last.
    pub worker: Option<String>,
    /// Its parent.
    pub parent: Option<String>,
    /// Claims so far.
    pub attempts: i64,
    /// When it was enqueued.
    pub created_at: i64,
    /// When it began to run: as its row says, or when it was claimed last.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Text of the error, from the execution's row.
    pub error: Option<String>,
    /// The error as stored for the client, where the row says nothing and it isn't large.
    pub stored_error: Option<String>,
    /// The inputs as stored, where no row says which flow it is, and they aren't large.
    pub inputs: Option<String>,
    /// Format of inputs and error.
    pub serialization: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The executions, newest first.
    pub executions: Vec<Summary>,
    /// There are more, after the last one.
    pub more: bool,
    /// Not all was looked through: nothing after this place.
    pub looked_until: Option<Looked>,
    /// The time now, by the database's clock.
    pub now: i64,
}

/// How far a list was looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// When the last one was created that was looked at, in milliseconds since the epoch.
    pub at: i64,
    /// Which that was: a list goes on after it.
    pub after: WorkflowId,
}

/// A place in the order of a list: rows come after it.
#[derive(Clone, Debug)]
struct Place(i64, String);

/// On the row `w`. $4 statuses, $5 queue, $6 worker, $7 name, $8 parent, $9 flow, $10 application.
const FITS: &str = "
    ($4::text[] IS NULL OR w.status = ANY($4)) AND ($5::text IS NULL OR w.queue_name = $5)
    AND ($6::text IS NULL OR w.executor_id = $6) AND ($7::text IS NULL OR w.name = $7)
    AND ($8::text IS NULL OR w.parent_workflow_id = $8)
    AND ($9::text IS NULL OR (SELECT e.flow_id FROM {executions} e WHERE e.id = w.workflow_uuid) = $9)
    AND (w.application_name = $10 OR w.application_name IS NULL OR w.application_name = '')";

/// $1 and $2 the place after which, $3 the earliest time, $11 ids, $12 rows. The rows are fetched first, by the primary key: beside it
/// the planner would go through the index on their times.
const OF_IDS: &str = "
WITH few AS MATERIALIZED (
  SELECT w.workflow_uuid, w.created_at, w.status, w.queue_name, w.executor_id, w.name, w.parent_workflow_id, w.application_name
    FROM {s}.workflow_status w WHERE w.workflow_uuid = ANY($11)
)
SELECT w.workflow_uuid FROM few w
 WHERE (w.created_at, w.workflow_uuid) < ($1, $2) AND w.created_at >= $3 AND {fits}
 ORDER BY w.created_at DESC, w.workflow_uuid DESC LIMIT $12";

/// $1 and $2 the place after which, $3 the earliest time, $11 rows to look through, $12 rows. Rides
/// `workflow_status_created_at_index`.
const BY_AGE: &str = "
WITH seen AS MATERIALIZED (
  SELECT w.workflow_uuid, w.created_at, w.status, w.queue_name, w.executor_id, w.name, w.parent_workflow_id, w.application_name
    FROM {s}.workflow_status w
   WHERE w.created_at <= $1 AND (w.created_at, w.workflow_uuid) < ($1, $2) AND w.created_at >= $3
   ORDER BY w.created_at DESC, w.workflow_uuid DESC LIMIT $11
), last AS (
  SELECT (SELECT count(*) FROM seen) AS looked, l.created_at, l.workflow_uuid
    FROM seen l ORDER BY l.created_at, l.workflow_uuid LIMIT 1
), fit AS (
  SELECT w.workflow_uuid AS id, w.created_at AS age FROM seen w
   WHERE {fits}
   ORDER BY w.created_at DESC, w.workflow_uuid DESC LIMIT $12
)
SELECT last.looked, last.created_at, last.workflow_uuid, fit.id
  FROM last LEFT JOIN fit ON TRUE ORDER BY fit.age DESC, fit.id DESC";

/// $1 ids, $2 largest inputs, $3 largest error.
const SUMMARIES: &str = "
SELECT w.workflow_uuid, w.status, w.name, w.queue_name, NULLIF(w.executor_id, ''), w.parent_workflow_id,
       COALESCE(w.recovery_attempts, 0), w.created_at,
       COALESCE((extract(epoch FROM e.started_at) * 1000)::bigint, w.started_at_epoch_ms),
       CASE WHEN w.status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING') THEN COALESCE(w.completed_at, w.updated_at) END,
       e.flow_id, CASE WHEN w.status NOT IN ('ENQUEUED', 'DELAYED', 'SUCCESS') THEN left(e.error_message, $3) END,
       CASE WHEN w.status = 'ERROR' AND e.error_message IS NULL AND octet_length({failure}) <= $3 THEN {failure} END,
       CASE WHEN e.id IS NULL AND octet_length({inputs}) <= $2 THEN {inputs} END, w.serialization, {now}
  FROM {s}.workflow_status w {join_outcome} {join_inputs} LEFT JOIN {executions} e ON e.id = w.workflow_uuid
 WHERE w.workflow_uuid = ANY($1)
 ORDER BY w.created_at DESC, w.workflow_uuid DESC";

impl Operator {
    /// The newest executions that fit, at most `limit`; with `after`, those that come after it in that order.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`] for `after`, and those of the database.
    pub async fn list(&self, filter: &Filter, after: Option<&WorkflowId>, limit: usize) -> Result<Page, OperatorError> {
        let client = self.sysdb.client().await?;
        let mut place = Place(filter.until.unwrap_or(i64::MAX), String::new());
        if let Some(after) = after {
            let sql = self.sql("SELECT created_at FROM {s}.workflow_status WHERE workflow_uuid = $1");
            let row = client.query_opt(&sql, &[&after.as_str()]).await?;
            let created: i64 = row.ok_or_else(|| OperatorError::Unknown(after.clone()))?.try_get(0)?;
            if created < place.0 {
                place = Place(created, after.as_str().to_owned());
            }
        }
        let wanted = limit.saturating_add(1);
        let (mut ids, looked_until) = match self.few(&client, filter).await? {
            Some(few) => (self.of_ids(&client, filter, &place, &few, wanted).await?, None),
            None => self.by_age(&client, filter, place, wanted).await?,
        };
        let more = ids.len() > limit;
        ids.truncate(limit);
        let (executions, now) = self.summaries(&client, &ids).await?;
        Ok(Page { executions, more, looked_until: looked_until.filter(|_| !more), now })
    }

    /// The ids behind a filter that has an index, if they are few.
    async fn few(&self, client: &Session, filter: &Filter) -> Result<Option<Vec<String>>, SysdbError> {
        let most = FEW + 1;
        let mut found: Vec<String> = Vec::new();
        if let Some(parent) = &filter.parent {
            let sql = "SELECT workflow_uuid FROM {s}.workflow_status WHERE parent_workflow_id = $1 LIMIT $2";
            add(&mut found, &client.query(&self.sql(sql), &[parent, &most]).await?)?;
            return Ok(is_few(&found).then_some(found));
        }
        if let Some(flow) = &filter.flow {
            let sql = "SELECT id FROM {executions} WHERE flow_id = $1 LIMIT $2";
            add(&mut found, &client.query(&self.sql(sql), &[flow, &most]).await?)?;
            if is_few(&found) {
                return Ok(Some(found));
            }
            found.clear();
        }
        if filter.statuses.is_empty() || filter.statuses.contains(&Status::Completed) {
            return Ok(None);
        }
        for status in &filter.statuses {
            // As text: partial indexes go by it. Those of the failed are by age, that of the delayed is by their time; only what waits
            // or runs has one by its queue, and elsewhere the queue would be a filter on all there are.
            let of = format!("SELECT workflow_uuid FROM {{s}}.workflow_status WHERE status = '{}'", status.stored());
            let rows = match (&filter.queue, status) {
                (Some(queue), Status::Queued | Status::Running) => {
                    client.query(&self.sql(&format!("{of} AND queue_name = $2 LIMIT $1")), &[&most, queue]).await?
                }
                _ => client.query(&self.sql(&format!("{of} LIMIT $1")), &[&most]).await?,
            };
            add(&mut found, &rows)?;
            if !is_few(&found) {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    async fn of_ids(
        &self,
        client: &Session,
        filter: &Filter,
        place: &Place,
        few: &[String],
        wanted: usize,
    ) -> Result<Vec<String>, SysdbError> {
        let statuses = statuses(filter);
        let sql = self.sql(&OF_IDS.replace("{fits}", FITS));
        let earliest = filter.since.unwrap_or(i64::MIN);
        let Filter { queue, worker, name, parent, flow, .. } = filter;
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let rows = client
            .query(
                &sql,
                &[
                    &place.0,
                    &place.1,
                    &earliest,
                    &statuses,
                    queue,
                    worker,
                    name,
                    parent,
                    flow,
                    &self.application,
                    &few,
                    &wanted,
                ],
            )
            .await?;
        let mut ids = Vec::new();
        add(&mut ids, &rows)?;
        Ok(ids)
    }

    /// And up to when it looked, if not to the end.
    async fn by_age(
        &self,
        client: &Session,
        filter: &Filter,
        mut place: Place,
        wanted: usize,
    ) -> Result<(Vec<String>, Option<Looked>), SysdbError> {
        let statuses = statuses(filter);
        let sql = self.sql(&BY_AGE.replace("{fits}", FITS));
        let earliest = filter.since.unwrap_or(i64::MIN);
        let Filter { queue, worker, name, parent, flow, .. } = filter;
        let mut ids: Vec<String> = Vec::new();
        let mut looked = 0;
        let mut window = i64::try_from(wanted).unwrap_or(i64::MAX).clamp(WINDOW.0, WINDOW.1);
        loop {
            let left = i64::try_from(wanted - ids.len()).unwrap_or(i64::MAX);
            let rows = client
                .query(
                    &sql,
                    &[
                        &place.0,
                        &place.1,
                        &earliest,
                        &statuses,
                        queue,
                        worker,
                        name,
                        parent,
                        flow,
                        &self.application,
                        &window,
                        &left,
                    ],
                )
                .await?;
            let Some(first) = rows.first() else { return Ok((ids, None)) };
            let seen: i64 = first.try_get(0)?;
            place = Place(first.try_get(1)?, first.try_get(2)?);
            for row in &rows {
                ids.extend(row.try_get::<_, Option<String>>(3)?);
            }
            looked += seen;
            if seen < window || ids.len() >= wanted {
                return Ok((ids, None));
            }
            if looked >= self.looked {
                return Ok((ids, Some(Looked { at: place.0, after: WorkflowId::new(place.1) })));
            }
            window = (window * 5).min(WINDOW.1);
        }
    }

    /// In the order of a list; and the time.
    async fn summaries(&self, client: &Session, ids: &[String]) -> Result<(Vec<Summary>, i64), SysdbError> {
        if ids.is_empty() {
            let now = client.query_one(&self.sql("SELECT {now}"), &[]).await?.try_get(0)?;
            return Ok((Vec::new(), now));
        }
        let rows = client.query(&self.sql(SUMMARIES), &[&ids, &INPUTS, &ERROR]).await?;
        let mut now = 0;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            now = row.try_get(15)?;
            found.push(Summary {
                id: WorkflowId::new(row.try_get::<_, String>(0)?),
                status: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
                name: row.try_get(2)?,
                queue: row.try_get(3)?,
                worker: row.try_get(4)?,
                parent: row.try_get(5)?,
                attempts: row.try_get(6)?,
                created_at: row.try_get(7)?,
                started_at: row.try_get(8)?,
                ended_at: row.try_get(9)?,
                flow: row.try_get(10)?,
                error: row.try_get(11)?,
                stored_error: row.try_get(12)?,
                inputs: row.try_get(13)?,
                serialization: row.try_get(14)?,
            });
        }
        Ok((found, now))
    }

    /// These, in a line each, and the time; those that there are.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn named(&self, ids: &[String]) -> Result<(Vec<Summary>, i64), OperatorError> {
        let client = self.sysdb.client().await?;
        Ok(self.summaries(&client, ids).await?)
    }
}

fn statuses(filter: &Filter) -> Option<Vec<&'static str>> {
    (!filter.statuses.is_empty()).then(|| filter.statuses.iter().map(|status| status.stored()).collect())
}

fn is_few(found: &[String]) -> bool {
    i64::try_from(found.len()).unwrap_or(i64::MAX) <= FEW
}

fn add(found: &mut Vec<String>, rows: &[tokio_postgres::Row]) -> Result<(), tokio_postgres::Error> {
    for row in rows {
        found.push(row.try_get(0)?);
    }
    Ok(())
}
