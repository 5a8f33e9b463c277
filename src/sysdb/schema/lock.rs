//! One migration at a time.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Transaction};

use super::Error;
use crate::postgres::Statements;

/// The key that DBOS's Python SDK locks while it migrates; the others lock nothing.
pub(super) const SYSTEM_KEY: i64 = 1_234_567_890;
/// For the application tables: ours alone.
pub(super) const APP_KEY: i64 = 0x6669_7265_666c_6f77;

/// An SDK that builds indexes on a large table may take hours; whoever waits here wants to know sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// A transaction that holds the lock until it ends, or nothing when somebody else has it.
///
/// It is tried for, not waited for: a statement that waits holds a snapshot, and the SDK that has the lock may be
/// building an index concurrently, which waits for all older snapshots to go. Both would wait for each other.
async fn try_locked(client: &mut Client, key: i64) -> Result<Option<Transaction<'_>>, Error> {
    let transaction = client.transaction().await?;
    let row = Statements::query_one(&transaction, "SELECT pg_try_advisory_xact_lock($1)", &[&key]).await?;
    if row.get(0) {
        return Ok(Some(transaction));
    }
    transaction.rollback().await?;
    Ok(None)
}

/// Do `work` in one transaction under the lock, and commit.
pub(super) async fn locked<T>(
    client: &mut Client,
    key: i64,
    work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        if let Some(transaction) = try_locked(client, key).await? {
            let outcome = work(&transaction).await?; // an error drops the transaction, which rolls back
            transaction.commit().await?;
            return Ok(outcome);
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::Locked { seconds: PATIENCE.as_secs() });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Take the lock for the session, over several transactions. Tried for, not waited for, as above.
pub(super) async fn lock_session(client: &Client, key: i64) -> Result<(), Error> {
    let start = Instant::now();
    while !Statements::query_one(client, "SELECT pg_try_advisory_lock($1)", &[&key]).await?.get::<_, bool>(0) {
        if start.elapsed() > PATIENCE {
            return Err(Error::Locked { seconds: PATIENCE.as_secs() });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Give the session's lock back. Where the session has ended, the lock has as well.
pub(super) async fn unlock_session(client: &Client, key: i64) -> Result<(), Error> {
    Statements::query_one(client, "SELECT pg_advisory_unlock($1)", &[&key]).await?;
    Ok(())
}
