//! Recovery: what dead workers left goes back to the queue.

use super::Identity;
use crate::postgres::{Pool, Statements};
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

    /// Put back on the queue what this worker's earlier lives left. Nothing of the present life may run yet.
    pub async fn own(&self, me: &Identity) -> Result<Vec<String>, SysdbError> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let recovered = self.sysdb.recover(&transaction, std::slice::from_ref(&me.id), &self.application).await?;
        transaction.commit().await?;
        Ok(recovered)
    }

    /// Put back on the queue what workers with an expired lease left. Their rows stay locked meanwhile, so that none of
    /// them comes back to life between the look and the update. Also forgets workers that are long dead.
    pub async fn dead(&self, me: &Identity) -> Result<Vec<String>, SysdbError> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let statement =
            format!("SELECT id FROM {} WHERE expires_at <= now() AND id <> $1 FOR UPDATE SKIP LOCKED", self.table);
        let rows = transaction.query(&statement, &[&me.id]).await?;
        let dead = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        if dead.is_empty() {
            transaction.rollback().await?;
            return Ok(Vec::new());
        }
        let recovered = self.sysdb.recover(&transaction, &dead, &self.application).await?;
        let statement = format!("DELETE FROM {} WHERE expires_at <= now() - interval '1 day'", self.table);
        transaction.execute(&statement, &[]).await?;
        transaction.commit().await?;
        Ok(recovered)
    }
}
