//! Recovery: what dead workers left goes back to the queue.

use deadpool_postgres::Pool;

use super::Identity;
use crate::sysdb::{SysdbError, SystemDatabase, schema::Prefix};

/// Finds the dead by their leases. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recovery {
    pool: Pool,
    /// The workers table.
    table: String,
    sysdb: SystemDatabase,
    application: String,
}

impl Recovery {
    /// On the lease's pool, so that the work can't starve it of connections.
    pub fn new(pool: Pool, prefix: &Prefix, sysdb: SystemDatabase, application: &str) -> Recovery {
        Recovery { pool, table: prefix.table("workers"), sysdb, application: application.to_owned() }
    }

    /// Put back on the queue what this worker's earlier lives left. Nothing of the present life may run yet, and none of a
    /// later one: the worker's row is locked, and has to be ours. Otherwise a statement that was long on its way would
    /// take the rows of whoever has the id by now.
    pub async fn own(&self, me: &Identity) -> Result<Vec<String>, SysdbError> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let mine = format!("SELECT 1 FROM {} WHERE id = $1 AND incarnation = $2 FOR SHARE", self.table);
        let statement = transaction.prepare_cached(&mine).await?;
        if transaction.query_opt(&statement, &[&me.id, &me.incarnation]).await?.is_none() {
            return Ok(Vec::new());
        }
        let recovered = self.sysdb.recover(&transaction, std::slice::from_ref(&me.id), &self.application).await?;
        transaction.commit().await?;
        Ok(recovered)
    }

    /// Put back on the queue what workers with an expired lease left. Their rows stay locked meanwhile, so that none of
    /// them comes back to life between the look and the update. Also forgets workers that are long dead.
    pub async fn dead(&self, me: &Identity) -> Result<Vec<String>, SysdbError> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let statement = transaction
            .prepare_cached(&format!(
                "SELECT id FROM {} WHERE expires_at <= now() AND id <> $1 FOR UPDATE SKIP LOCKED",
                self.table
            ))
            .await?;
        let rows = transaction.query(&statement, &[&me.id]).await?;
        let dead = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        if dead.is_empty() {
            transaction.rollback().await?;
            return Ok(Vec::new());
        }
        let recovered = self.sysdb.recover(&transaction, &dead, &self.application).await?;
        let statement = transaction
            .prepare_cached(&format!("DELETE FROM {} WHERE expires_at <= now() - interval '1 day'", self.table))
            .await?;
        transaction.execute(&statement, &[]).await?;
        transaction.commit().await?;
        Ok(recovered)
    }
}
