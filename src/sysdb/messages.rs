//! Messages to workflows: who has mail, and sending.

use tokio_postgres::error::SqlState;

use super::{SysdbError, SystemDatabase, WorkflowId};
use crate::postgres::Statements;

/// The channel that announces inserted messages.
pub const CHANNEL: &str = "dbos_notifications_channel";

/// A message as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The value.
    pub value: String,
    /// Its format.
    pub serialization: Option<String>,
}

/// A message that nobody has consumed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its key.
    pub id: String,
    /// What it says; `None` when that is larger than it may be.
    pub message: Option<Message>,
}

impl SystemDatabase {
    /// The oldest unconsumed messages of a topic, at most `most`; the texts of those that have at most `bytes`. Consumes
    /// none: that is a write, see [`Write::Consume`](super::Write::Consume). Rides `idx_workflow_topic`.
    pub async fn unread(
        &self,
        destination: &WorkflowId,
        topic: &str,
        most: u32,
        bytes: u32,
    ) -> Result<Vec<Unread>, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(
            "SELECT message_uuid, CASE WHEN octet_length(message) <= $4::bigint THEN message END, serialization
                   FROM {s}.notifications WHERE destination_uuid = $1 AND topic = $2 AND NOT consumed
                  ORDER BY created_at_epoch_ms LIMIT $3::bigint",
        );
        let (id, most, bytes) = (destination.as_str(), i64::from(most), i64::from(bytes));
        let rows = client.query(&statement, &[&id, &topic, &most, &bytes]).await?;
        rows.iter()
            .map(|row| {
                let serialization = row.try_get(2)?;
                let message = row.try_get::<_, Option<String>>(1)?.map(|value| Message { value, serialization });
                Ok(Unread { id: row.try_get(0)?, message })
            })
            .collect()
    }

    /// Of these (workflow, topic) pairs, those with an unconsumed message. Rides `idx_workflow_topic`.
    pub async fn with_mail(&self, waiting: &[(WorkflowId, String)]) -> Result<Vec<(WorkflowId, String)>, SysdbError> {
        let ids: Vec<&str> = waiting.iter().map(|(id, _)| id.as_str()).collect();
        let topics: Vec<&str> = waiting.iter().map(|(_, topic)| topic.as_str()).collect();
        let client = self.client().await?;
        let statement = self.sql(
            "SELECT w.id, w.topic FROM unnest($1::text[], $2::text[]) AS w(id, topic)
                  WHERE EXISTS (SELECT FROM {s}.notifications n
                                 WHERE n.destination_uuid = w.id AND n.topic = w.topic AND NOT n.consumed)",
        );
        let rows = client.query(&statement, &[&ids, &topics]).await?;
        rows.iter()
            .map(|row| Ok((WorkflowId::new(row.try_get::<_, String>(0)?), row.try_get(1)?)))
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(SysdbError::from)
    }

    /// Send a message as portable JSON. False when there is no such workflow.
    pub async fn send(
        &self,
        destination: &WorkflowId,
        topic: &str,
        message: &serde_json::Value,
    ) -> Result<bool, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(
            "INSERT INTO {s}.notifications (destination_uuid, topic, message, serialization)
                 VALUES ($1, $2, $3, 'portable_json')",
        );
        match client.execute(&statement, &[&destination.as_str(), &topic, &message.to_string()]).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
