//! What an application still has to write for a workflow that was taken away from its executor.

use super::{ApplicationWrite, SysdbError, SystemDatabase, WorkflowId};
use crate::postgres::Statements;

/// Why a workflow needs settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was cancelled, by a client or its deadline.
    Cancelled,
    /// Its row is gone.
    Deleted,
}

impl SystemDatabase {
    /// Run an application's statement for a workflow that is cancelled or deleted; false when it is neither. The lock keeps
    /// it from being resumed between the look and the write.
    pub async fn settle(
        &self,
        id: &WorkflowId,
        write: impl FnOnce(Taken) -> ApplicationWrite,
    ) -> Result<bool, SysdbError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        let look = "SELECT status FROM {s}.workflow_status WHERE workflow_uuid = $1 FOR SHARE";
        let statement = self.sql(look);
        let row = transaction.query_opt(&statement, &[&id.as_str()]).await?;
        let status = row.map(|row| row.try_get::<_, Option<String>>(0)).transpose()?;
        let taken = match status {
            None => Taken::Deleted,
            Some(Some(status)) if status == "CANCELLED" => Taken::Cancelled,
            Some(_) => return Ok(false),
        };
        let ApplicationWrite { statement, row, .. } = write(taken);
        transaction.execute(&statement, &[&serde_json::json!([row])]).await?;
        transaction.commit().await?;
        Ok(true)
    }
}
