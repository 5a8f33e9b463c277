//! One look at all that may concern a worker: whether there is anything to claim, under which limits, what is due, and where
//! the schema stands. One statement, so that an idle worker costs next to nothing.

use uuid::Uuid;

use super::{ClaimScope, QueueLimits, SysdbError, SystemDatabase, claim, notify::ENQUEUED, queues};
use crate::postgres::Statements;

/// What there is to do.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// For each queue that was asked for, in that order.
    pub queues: Vec<QueueOutlook>,
    /// A delay is over.
    pub delayed: bool,
    /// A deadline has passed.
    pub expired: bool,
    /// The server takes no writes.
    pub read_only: bool,
    /// Enqueues are announced by a trigger.
    pub announced: bool,
    /// The schema isn't at the level that statements are composed for.
    pub moved: bool,
    /// An operator asked this process to drain.
    pub drain: Option<Asked>,
}

/// How an operator asked a worker to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Give back what runs, instead of letting it finish.
    pub at_once: bool,
    /// Who asked, as far as that is known.
    pub by: Option<String>,
}

/// What there is to do on one queue.
#[derive(Clone, Debug)]
pub struct QueueOutlook {
    /// There are rows to claim, if the limits allow it.
    pub queued: bool,
    /// An operator paused it.
    pub paused: bool,
    /// The limits under which it is registered.
    pub registered: Option<QueueLimits>,
}

/// A queue that another application has registered is none of ours: names are unique over all of them. Whether there are rows
/// to claim is not asked by EXISTS, which the planner may answer by reading the backlogs of all queues.
///
/// $1 queues, $2 and $5 application, $3 schema, $4 and $6 to $8 as in claims; $9 executor, $10 its lives.
const OUTLOOK: &str = "
WITH {latest}
SELECT (SELECT TRUE FROM {s}.workflow_status WHERE {ours} LIMIT 1) IS NOT NULL AS queued,
       asked.registered, asked.concurrency, asked.worker_concurrency, asked.rate_limit_max, asked.rate_limit_period_sec,
       asked.polling_interval_sec, asked.partition_concurrency, asked.partition_worker_concurrency,
       asked.partition_rate_limit_max, asked.partition_rate_limit_period_sec, asked.by_flag,
       EXISTS (SELECT FROM {s}.workflow_status
                WHERE status = 'DELAYED' AND delay_until_epoch_ms <= {now} AND {application}) AS delayed,
       EXISTS (SELECT FROM {s}.workflow_status
                WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED') AND workflow_deadline_epoch_ms IS NOT NULL
                  AND workflow_deadline_epoch_ms <= {now} AND {application}) AS expired,
       current_setting('transaction_read_only') = 'on' AS read_only,
       (SELECT max(version)::bigint FROM {s}.dbos_migrations) AS level,
       {orders},
       EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $3 AND c.relname = 'workflow_status' AND t.tgname = '{trigger}'
                  AND t.tgenabled <> 'D') AS announced
  FROM (SELECT wanted.queue, wanted.place, r.*
          FROM unnest($1::text[]) WITH ORDINALITY AS wanted(queue, place)
          LEFT JOIN LATERAL (
               SELECT TRUE AS registered, concurrency, worker_concurrency, rate_limit_max, rate_limit_period_sec,
                      polling_interval_sec, {partition_limits}, {by_flag} AS by_flag
                 FROM {s}.queues WHERE name = wanted.queue AND {queue_is_ours}) r ON TRUE) asked
 ORDER BY asked.place";

/// What operators asked for. A request to drain is for a process, by the life that it had: a life that ended before it saw the request
/// leaves it to the next one. $9 the worker, $10 the lives of this process.
const ORDERS: &str = "
       (SELECT TRUE FROM {pauses} p WHERE p.queue_name = asked.queue LIMIT 1) IS NOT NULL AS paused,
       (SELECT ARRAY[d.at_once::text, d.requested_by]
          FROM {drains} d WHERE d.worker_id = $9 AND d.incarnation = ANY($10)) AS drain";

/// Where there are no tables beside the schema.
const NO_ORDERS: &str =
    "FALSE AS paused, CASE WHEN $9::text IS NULL AND $10::uuid[] IS NULL THEN ARRAY['', ''] END AS drain";

impl SystemDatabase {
    /// Look at these queues, for a worker with this scope whose process has had these lives.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn outlook(&self, scope: &ClaimScope, queues: &[String], lives: &[Uuid]) -> Result<Outlook, SysdbError> {
        let client = self.client().await?;
        let known = self.standing.get().map(|standing| standing.level);
        let orders = match &scope.accounts {
            Some((tables, _)) => tables.sql(ORDERS),
            None => NO_ORDERS.to_owned(),
        };
        let statement = claim::outlook(OUTLOOK, &scope.suspects()).replace("{trigger}", ENQUEUED);
        let statement = statement.replace("{orders}", &orders);
        let (application, schema) = (&scope.application, self.schema.name());
        let rows = client
            .query(
                &self.sql(&statement),
                &[
                    &queues,
                    application,
                    &schema,
                    &scope.version,
                    application,
                    &scope.workflows,
                    &scope.class,
                    &scope.formats,
                    &scope.executor,
                    &lives,
                ],
            )
            .await?;
        let mut outlook = Outlook {
            queues: Vec::with_capacity(rows.len()),
            delayed: false,
            expired: false,
            read_only: false,
            announced: false,
            moved: false,
            drain: None,
        };
        for row in &rows {
            let registered = match row.try_get::<_, Option<bool>>("registered")? {
                Some(_) => Some(queues::read(row)?),
                None => None,
            };
            outlook.queues.push(QueueOutlook {
                queued: row.try_get("queued")?,
                registered,
                paused: row.try_get("paused")?,
            });
            outlook.delayed = row.try_get("delayed")?;
            outlook.expired = row.try_get("expired")?;
            outlook.read_only = row.try_get("read_only")?;
            outlook.announced = row.try_get("announced")?;
            let asked = row.try_get::<_, Option<Vec<Option<String>>>>("drain")?;
            outlook.drain = asked.map(|asked| Asked {
                at_once: asked.first().is_some_and(|at_once| at_once.as_deref() == Some("true")),
                by: asked.into_iter().nth(1).flatten(),
            });
            outlook.moved = row.try_get::<_, Option<i64>>("level")? != known;
        }
        Ok(outlook)
    }
}
