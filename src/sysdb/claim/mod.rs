//! Claiming: ENQUEUED → PENDING, for at most as many rows as there are free slots.

mod sql;

pub(super) use sql::outlook;

use tokio_postgres::{IsolationLevel, Row, error::SqlState};

use super::{
    Accounts, Owner, OwnerToken, PartitionLimits, RateLimit, Suspicion, SysdbError, SystemDatabase, WorkflowId,
};
use std::time::Instant;

use crate::failpoint::failpoint;
use crate::metrics::ClaimResult;
use crate::postgres::{Parameter, Statements, Transaction};

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
    /// The account of crashes, and what it means for a claim.
    pub accounts: Option<(Accounts, Suspicion)>,
}

impl ClaimScope {
    pub(super) fn suspects(&self) -> String {
        self.accounts.as_ref().map_or_else(String::new, |(accounts, suspicion)| accounts.condition(*suspicion))
    }
}

/// One claim: from which queue, how many, under which limits over all executors.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The queue.
    pub queue: &'a str,
    /// Which of its rows.
    pub rows: Rows<'a>,
    /// Free slots: the most rows to take.
    pub limit: u32,
    /// Most rows of this queue that may be PENDING over all executors.
    pub concurrency: Option<u32>,
    /// Most rows of this queue that may be claimed within a time.
    pub rate: Option<RateLimit>,
}

/// Which rows of a queue a claim is about.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// All, whatever their partition.
    All,
    /// Those of one partition.
    Partition {
        /// Its key.
        key: &'a str,
        /// Its limits; the one for this process is part of the claim's `limit`.
        limits: &'a PartitionLimits,
    },
    /// On a partitioned queue, children without a partition: their parents wait for them, perhaps in a partition that has
    /// room for one.
    Keyless,
}

/// Who else may spend of a claim's budget at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    /// Nobody: there are no limits over all executors.
    No,
    /// Those who claim from the same partition.
    Partition,
    /// Those who claim from the same queue.
    Queue,
}

impl Claim<'_> {
    fn shared(&self) -> Shared {
        if self.concurrency.is_some() || self.rate.is_some() {
            return Shared::Queue;
        }
        match self.rows {
            Rows::Partition { limits, .. } if limits.concurrency.is_some() || limits.rate.is_some() => {
                Shared::Partition
            }
            _ => Shared::No,
        }
    }
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
    /// Its partition.
    pub partition: Option<String>,
    /// Format of inputs, output and error.
    pub serialization: Option<String>,
    /// The inputs as stored; `None` when there are none, or they are too large.
    pub inputs: Option<String>,
    /// Size of the inputs in bytes.
    pub inputs_size: i64,
    /// The client that made the row reads the legacy columns of `workflow_status` only. So does one that made it without
    /// any inputs: that is how an earlier SDK forks a workflow of a newer one. Where there are no other columns, all do.
    pub legacy: bool,
    /// Claims so far, this one included.
    pub attempts: i64,
    /// Absolute deadline, milliseconds since the epoch.
    pub deadline: Option<i64>,
    /// When it was enqueued, milliseconds since the epoch. The client wrote it, and may have written anything.
    pub created_at: i64,
    /// From when on it could be taken: since then, or since the delay's end that was asked for.
    pub due_at: i64,
    /// The workflow that it is a fork of.
    pub forked_from: Option<String>,
    /// The trace that it is a part of, if its attributes say so.
    pub traceparent: Option<String>,
    /// Whether steps are recorded from an earlier life.
    pub has_history: bool,
    priority: i32,
}

/// Another claimer was at the same rows at the same moment: ask again in a few milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Contended;

impl SystemDatabase {
    /// Claim rows, highest priority and oldest first.
    ///
    /// Without a limit over all executors: one statement, READ COMMITTED, SKIP LOCKED. With one, NOWAIT, as the SDKs do: of two
    /// overlapping claimers one finds its row locked, fails, and neither overspends. Those that pick different rows, of
    /// different partitions or because one came in between, share a budget all the same: workers take turns at a queue, by
    /// an advisory lock, each with a snapshot that begins with its turn; and since the SDKs know nothing of turns, a claim
    /// counts once more when it has its rows, and takes none if there are more than there may be. A budget of one
    /// partition alone is under REPEATABLE READ.
    ///
    /// # Errors
    /// `Ok(Err(Contended))` when another claimer was there; [`SysdbError`] otherwise.
    pub async fn claim(
        &self,
        scope: &ClaimScope,
        claim: &Claim<'_>,
    ) -> Result<Result<Vec<Claimed>, Contended>, SysdbError> {
        let began = Instant::now();
        let outcome = match self.try_claim(scope, claim).await {
            Ok(claimed) => Ok(claimed.ok_or(Contended)),
            Err(SysdbError::Query(error)) if is_contention(&error) => Ok(Err(Contended)),
            Err(error) => Err(error),
        };
        self.count(claim.queue, began, outcome.as_ref().map(|claimed| claimed.as_ref().ok().map(Vec::as_slice)));
        outcome
    }

    /// Count a claim: what it brought, or `None` for contention.
    fn count(&self, queue: &str, began: Instant, outcome: Result<Option<&[Claimed]>, &SysdbError>) {
        let Some(metrics) = self.metrics.queue(queue) else { return };
        metrics.claim_duration.took(began.elapsed());
        let (result, claimed) = match outcome {
            Ok(Some([])) => (ClaimResult::Empty, &[][..]),
            Ok(Some(claimed)) => (ClaimResult::Rows, claimed),
            Ok(None) => (ClaimResult::Contended, &[][..]),
            Err(SysdbError::Fenced) => return, // it wasn't sent
            Err(_) => (ClaimResult::Failed, &[][..]),
        };
        metrics.claims.of(result).increment();
        metrics.claimed.add(claimed.len() as u64);
        for row in claimed.iter().filter(|row| row.attempts == 1) {
            // Both by the database's clock.
            let waited = u64::try_from(row.owner.since.saturating_sub(row.due_at)).unwrap_or(0);
            metrics.wait.took(std::time::Duration::from_millis(waited));
        }
    }

    /// `None` when another claimer has spent what this one took.
    async fn try_claim(&self, scope: &ClaimScope, claim: &Claim<'_>) -> Result<Option<Vec<Claimed>>, SysdbError> {
        let shared = claim.shared();
        let (key, own) = match claim.rows {
            Rows::All | Rows::Keyless => (None, None),
            Rows::Partition { key, limits } => (Some(key), Some(limits)),
        };
        let token = OwnerToken::fresh();
        let limit = i64::from(claim.limit);
        let concurrency = claim.concurrency.map(i64::from);
        let (starts, period) = start_limit(claim.rate);
        let own_concurrency = own.and_then(|own| own.concurrency).map(i64::from);
        let (own_starts, own_period) = start_limit(own.and_then(|own| own.rate));
        let token_text = token.as_str();
        let mut parameters = common(scope, &claim.queue, &token_text, &limit);
        let limits: [&dyn Parameter; 7] =
            [&concurrency, &starts, &period, &key, &own_concurrency, &own_starts, &own_period];
        parameters.extend(limits);
        let mut client = self.client().await?;
        let statement = self.sql(&sql::claim(&claim.rows, shared != Shared::No, &scope.suspects()));
        self.fence.check()?;
        let rows = match shared {
            Shared::No => client.query(&statement, &parameters).await?,
            Shared::Partition => {
                failpoint!(ClaimBegun);
                let isolation = Some(IsolationLevel::RepeatableRead);
                let (transaction, rows) = client.transaction_with(isolation, &statement, &parameters).await?;
                self.take(transaction, rows).await?
            }
            Shared::Queue => {
                failpoint!(ClaimBegun);
                let turn = format!("fireflow claims from {} of {}", claim.queue, self.schema.name());
                let within = self.sql(&sql::within());
                let isolation = Some(IsolationLevel::ReadCommitted);
                let mut limits_of: Vec<&dyn Parameter> =
                    vec![&claim.queue, &scope.application, &concurrency, &starts, &period];
                limits_of.extend(&limits[3..]);
                let statements: [(&str, &[&dyn Parameter]); 3] =
                    [(sql::TURN, &[&turn]), (&statement, &parameters), (&within, &limits_of)];
                let (transaction, mut answers) = client.transaction_of(isolation, &statements).await?;
                let (within, rows) = (answers.pop().unwrap_or_default(), answers.pop().unwrap_or_default());
                let within = within.first().map_or(Ok(false), |row| row.try_get::<_, bool>(0))?;
                if !rows.is_empty() && !within {
                    transaction.rollback().await?;
                    return Ok(None);
                }
                self.take(transaction, rows).await?
            }
        };
        failpoint!(ClaimCommitted, when = !rows.is_empty());
        claimed(&rows, claim.queue, &token).map(Some)
    }

    /// Commit a claim, if it brought something.
    async fn take(&self, transaction: Transaction<'_>, rows: Vec<Row>) -> Result<Vec<Row>, SysdbError> {
        failpoint!(ClaimWritten, when = !rows.is_empty());
        // An empty claim has written nothing: no commit record, no transaction id spent.
        if rows.is_empty() {
            transaction.rollback().await?;
            return Ok(rows);
        }
        // It may have waited for its turn.
        self.fence.check()?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Claim the first row of each partition in which nothing runs, for at most `limit` partitions, chosen at random: for
    /// queues whose one limit is a single execution in each partition. One statement, READ COMMITTED: the rows are
    /// locked by their ids, so that nobody who finds the first one locked takes the second.
    pub async fn claim_heads(&self, scope: &ClaimScope, queue: &str, limit: u32) -> Result<Vec<Claimed>, SysdbError> {
        let began = Instant::now();
        let outcome = self.try_claim_heads(scope, queue, limit).await;
        self.count(queue, began, outcome.as_ref().map(|claimed| Some(claimed.as_slice())));
        outcome
    }

    async fn try_claim_heads(&self, scope: &ClaimScope, queue: &str, limit: u32) -> Result<Vec<Claimed>, SysdbError> {
        let token = OwnerToken::fresh();
        let limit = i64::from(limit);
        let token_text = token.as_str();
        let parameters = common(scope, &queue, &token_text, &limit);
        let client = self.client().await?;
        let statement = self.sql(&sql::claim_heads(&scope.suspects()));
        self.fence.check()?;
        let rows = client.query(&statement, &parameters).await?;
        failpoint!(ClaimCommitted, when = !rows.is_empty());
        claimed(&rows, queue, &token)
    }

    /// Partitions with waiting rows that may have room, at most `most` of them, chosen at random and in random order: so
    /// none is always last.
    pub async fn partitions(
        &self,
        scope: &ClaimScope,
        queue: &str,
        concurrency: Option<u32>,
        most: u32,
    ) -> Result<Vec<String>, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(&sql::partitions());
        let concurrency = concurrency.map(i64::from);
        let rows = client.query(&statement, &[&queue, &scope.application, &concurrency, &i64::from(most)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// $1 to $10, which all claims have.
fn common<'a>(scope: &'a ClaimScope, queue: &'a &'a str, token: &'a &'a str, limit: &'a i64) -> Vec<&'a dyn Parameter> {
    vec![
        queue,
        token,
        &scope.executor,
        &scope.version,
        &scope.application,
        &scope.workflows,
        &scope.class,
        &scope.formats,
        limit,
        &scope.max_input,
    ]
}

/// Most starts, and in how many milliseconds.
fn start_limit(rate: Option<RateLimit>) -> (Option<i64>, Option<i64>) {
    let period = |rate: RateLimit| i64::try_from(rate.period.as_millis()).unwrap_or(i64::MAX);
    (rate.map(|rate| i64::from(rate.max)), rate.map(period))
}

fn claimed(rows: &[Row], queue: &str, token: &OwnerToken) -> Result<Vec<Claimed>, SysdbError> {
    let mut claimed = rows.iter().map(|row| read(row, queue, token)).collect::<Result<Vec<_>, _>>()?;
    claimed.sort_by_key(|row| (row.priority, row.created_at));
    Ok(claimed)
}

fn read(row: &Row, queue: &str, token: &OwnerToken) -> Result<Claimed, tokio_postgres::Error> {
    Ok(Claimed {
        owner: Owner {
            id: WorkflowId::new(row.try_get::<_, String>("workflow_uuid")?),
            token: token.clone(),
            since: row.try_get("started_at_epoch_ms")?,
        },
        name: row.try_get("name")?,
        queue: queue.to_owned(),
        partition: row.try_get("queue_partition_key")?,
        serialization: row.try_get("serialization")?,
        inputs: row.try_get("inputs")?,
        inputs_size: row.try_get("inputs_size")?,
        legacy: row.try_get("legacy")?,
        attempts: row.try_get::<_, Option<i64>>("recovery_attempts")?.unwrap_or(1),
        deadline: row.try_get("workflow_deadline_epoch_ms")?,
        created_at: row.try_get("created_at")?,
        due_at: row.try_get("due_at")?,
        forked_from: row.try_get("forked_from")?,
        traceparent: row.try_get("traceparent")?,
        has_history: row.try_get("has_history")?,
        priority: row.try_get("priority")?,
    })
}

fn is_contention(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_SERIALIZATION_FAILURE)
}
