//! One batch as one transaction of set-based statements.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::{
    Row,
    error::{Severity, SqlState},
};

use super::columns::{Columns, Mail};
use crate::failpoint::failpoint;
use crate::postgres::{Session, Statements};
use crate::sysdb::{Append, Checkpoint, CommitError, Owner, Received, SysdbError, SystemDatabase, Write};

/// What became of one checkpoint of a batch that was committed.
pub(super) struct Outcome {
    pub result: Result<Received, CommitError>,
    /// Somebody else holds the row's lock, and it was ours when that began: nothing was written, and it is to be tried again.
    pub busy: bool,
    /// Streams that grew.
    pub streams: Vec<Arc<str>>,
}

/// Why a batch was rolled back.
pub(super) enum Failure {
    /// The connection or the server: try again.
    Transient(String),
    /// Somebody else holds a lock on something in the batch, or a statement took too long: the others must not wait for it.
    Busy(String),
    /// A table or column isn't there: what the statements were composed for may be out of date.
    Misfit(CommitError),
    /// Something in the batch.
    Refused(CommitError),
}

impl Failure {
    pub fn of(error: SysdbError) -> Failure {
        match error {
            SysdbError::Fenced => Failure::Refused(CommitError::Fenced),
            error if error.is_transient() => Failure::Transient(error.to_string()),
            error => Failure::Refused(CommitError::Refused(error.to_string())),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let busy = matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED));
        let misfit = matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN));
        let error = SysdbError::from(error);
        match Failure::of(error) {
            Failure::Transient(error) if busy => Failure::Busy(error),
            Failure::Refused(error) if misfit => Failure::Misfit(error),
            failure => failure,
        }
    }
}

/// Lock and compare: rows that lost their token, or were claimed again, drop out; the rest commit. FOR NO KEY UPDATE is held
/// to the commit, so no hand-over slips in between. A row that somebody else has locked is as it was when this began, and
/// told apart: that transaction may take a millisecond or an hour.
const OWNED: &str = "
WITH locked AS MATERIALIZED (
       SELECT w.workflow_uuid, w.owner_xid, w.started_at_epoch_ms FROM {s}.workflow_status w
        WHERE w.workflow_uuid = ANY($1) AND w.status = 'PENDING' ORDER BY w.workflow_uuid FOR NO KEY UPDATE SKIP LOCKED)
SELECT workflow_uuid, owner_xid, started_at_epoch_ms, FALSE AS busy, pg_current_xact_id()::text FROM locked
 UNION ALL
SELECT w.workflow_uuid, w.owner_xid, w.started_at_epoch_ms, TRUE, NULL FROM {s}.workflow_status w
 WHERE w.workflow_uuid = ANY($1) AND w.status = 'PENDING' AND w.workflow_uuid NOT IN (SELECT workflow_uuid FROM locked)";

/// $1 ids. Whether somebody holds the lock of one of these rows.
const LOCKED: &str = "
WITH free AS MATERIALIZED (
       SELECT w.workflow_uuid FROM {s}.workflow_status w WHERE w.workflow_uuid = ANY($1) FOR NO KEY UPDATE SKIP LOCKED)
SELECT EXISTS (SELECT FROM {s}.workflow_status w
                WHERE w.workflow_uuid = ANY($1) AND w.workflow_uuid NOT IN (SELECT workflow_uuid FROM free))";

/// Steps by their time of completion ($1 to $3), and values of streams by the transaction that wrote them ($4 to $7): either
/// is there if the batch was committed, and only then.
const WRITTEN: &str = "
SELECT EXISTS (SELECT FROM unnest($1::text[], $2::int[], $3::bigint[]) AS n(id, function_id, completed)
                 JOIN {s}.operation_outputs o ON o.workflow_uuid = n.id AND o.function_id = n.function_id
                  AND o.completed_at_epoch_ms = n.completed)
    OR EXISTS (SELECT FROM unnest($4::text[], $5::text[], $6::text[]) AS n(id, key, value)
                 JOIN {s}.streams x ON x.workflow_uuid = n.id AND x.key = n.key AND x.value = n.value
                WHERE x.xmin::text = $7)";

/// Token and time of the claim of each workflow that runs, and whether its row is locked by somebody else.
type Owned = HashMap<String, (String, i64, bool)>;

type Committed = (String, Vec<Outcome>, Result<(), tokio_postgres::Error>);

/// What is remembered of a batch whose COMMIT was never answered.
pub(super) struct Unsure {
    pub xid: String,
    pub outcomes: Vec<Outcome>,
}

/// Whether a batch was committed whose COMMIT was never answered; `None` while its transaction may still be under way.
///
/// By what it wrote, not by the number of its transaction: after a failover the new primary may have given that number to
/// somebody else's transaction, when the old one never got its own across.
pub(super) async fn was_committed(
    sysdb: &SystemDatabase,
    client: &Session,
    batch: &[&Checkpoint],
    unsure: &Unsure,
) -> Result<Option<bool>, Failure> {
    let Ok(xid) = unsure.xid.parse::<u64>() else { return Ok(Some(false)) }; // no row was ours, so nothing was written
    let status = match client.query_one("SELECT pg_xact_status($1::text::xid8)", &[&unsure.xid]).await {
        Ok(row) => row.try_get::<_, Option<String>>(0)?,
        // "... is in the future": another server, which hasn't got so far.
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => None,
        Err(error) => return Err(error.into()),
    };
    let (mut ids, mut steps, mut numbers, mut completed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut streams, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (checkpoint, _) in batch.iter().zip(&unsure.outcomes).filter(|(_, outcome)| outcome.result.is_ok()) {
        let id = checkpoint.owner.id.as_str();
        ids.push(id);
        for write in checkpoint.writes.iter() {
            let step = match write {
                Write::Step(step) => Some((step.function_id, step.completed_at)),
                Write::Receive(receive) => Some((receive.function_id, receive.completed_at)),
                _ => None,
            };
            if let Some((function_id, at)) = step {
                steps.push(id);
                numbers.push(function_id);
                completed.push(at);
            }
            if let Write::Append(Append { key, values: appended, .. }) = write
                && let Some(last) = appended.last()
            {
                streams.push(id);
                keys.push(key.as_ref());
                values.push(last.as_str());
            }
        }
    }
    if status.as_deref() == Some("in progress") {
        // Ours still holds its locks. If nobody does, it is somebody else's transaction, on another server.
        let locked: bool = client.query_one(&sysdb.sql(LOCKED), &[&ids]).await?.try_get(0)?;
        if locked {
            return Ok(None);
        }
    }
    // What leaves neither steps nor values may be written again without harm.
    let writer = (xid & u64::from(u32::MAX)).to_string();
    let row = client
        .query_one(&sysdb.sql(WRITTEN), &[&steps, &numbers, &completed, &streams, &keys, &values, &writer])
        .await?;
    Ok(Some(row.try_get(0)?))
}

/// Write a batch: transaction id, what became of each checkpoint, and the answer to COMMIT.
pub(super) async fn write(
    sysdb: &SystemDatabase,
    client: &mut Session,
    batch: &[&Checkpoint],
) -> Result<Committed, Failure> {
    let ids: Vec<&str> = batch.iter().map(|checkpoint| checkpoint.owner.id.as_str()).collect();
    failpoint!(CheckpointBegun);
    let (transaction, rows) = client.transaction_with(None, &sysdb.sql(OWNED), &[&ids]).await?;
    let (xid, mut owned) = owned(&rows)?;
    failpoint!(CheckpointLocked);
    let mut mine = Vec::with_capacity(batch.len()); // whether it is ours, and whether its row is locked by somebody else
    let mut writes = Columns::default();
    for checkpoint in batch {
        let id = checkpoint.owner.id.as_str();
        let Owner { token, since, .. } = &checkpoint.owner;
        let found = owned.get(id).filter(|(owner, claimed, _)| owner == token.as_str() && claimed == since);
        let (live, busy) = (found.is_some(), found.is_some_and(|(_, _, busy)| *busy));
        mine.push((live, busy));
        if live && !busy {
            writes.add(checkpoint);
            // An outcome ends the ownership, also for what follows in the same batch.
            if checkpoint.writes.iter().any(|write| matches!(write, Write::Finish(_))) {
                owned.remove(id);
            }
        }
    }
    let mut mail = writes.run(sysdb, &transaction).await?;
    // The process may have stood still since the batch began.
    sysdb.fence.check().map_err(Failure::of)?;
    failpoint!(CheckpointWritten);
    let committed = transaction.commit().await;
    failpoint!(CheckpointCommitted);
    failpoint!(MessageCommitted, when = !mail.is_empty());
    failpoint!(ChildCommitted, when = writes.has_starts());
    failpoint!(OutcomeCommitted, when = writes.has_finishes());

    let outcomes = batch
        .iter()
        .zip(mine)
        .map(|(checkpoint, mine)| match mine {
            (true, false) => {
                Outcome { result: Ok(received(checkpoint, &mut mail)), busy: false, streams: grown(checkpoint) }
            }
            (_, busy) => Outcome { result: Err(CommitError::OwnershipLost), busy, streams: Vec::new() },
        })
        .collect();
    match committed {
        Err(error) if error.as_db_error().is_some_and(|error| rolls_back(error.parsed_severity())) => Err(error.into()),
        committed => Ok((xid, outcomes, committed)),
    }
}

/// Whether an error of this severity, in answer to COMMIT, says that nothing was committed. One that ends the connection
/// doesn't: a server sends it that is shut down while it waits for its standby, and a pooler that lost the server. PgBouncer's
/// own errors lack the field that the severity is known by.
fn rolls_back(severity: Option<Severity>) -> bool {
    severity.is_some_and(|severity| !matches!(severity, Severity::Fatal | Severity::Panic))
}

fn owned(rows: &[Row]) -> Result<(String, Owned), tokio_postgres::Error> {
    let mut xid = String::new();
    let mut owned = HashMap::new();
    for row in rows {
        xid = row.try_get::<_, Option<String>>(4)?.unwrap_or(xid);
        // Without a token or a time it is nobody's of ours.
        if let (Some(token), Some(since)) = (row.try_get(1)?, row.try_get(2)?) {
            owned.insert(row.try_get(0)?, (token, since, row.try_get(3)?));
        }
    }
    Ok((xid, owned))
}

/// What this checkpoint received: others of the same workflow may be in the batch.
fn received(checkpoint: &Checkpoint, mail: &mut Mail) -> Received {
    checkpoint.writes.iter().find_map(|write| match write {
        Write::Receive(receive) => mail.remove(&(checkpoint.owner.id.as_str().to_owned(), receive.function_id)),
        _ => None,
    })
}

fn grown(checkpoint: &Checkpoint) -> Vec<Arc<str>> {
    checkpoint
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::Append(append) => Some(append.key.clone()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_ends_the_connection_leaves_the_commit_open() {
        assert!(rolls_back(Some(Severity::Error)));
        for severity in [Some(Severity::Fatal), Some(Severity::Panic), None] {
            assert!(!rolls_back(severity), "{severity:?}");
        }
    }
}
