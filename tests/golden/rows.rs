//! All rows of an execution, table by table, in the form of the recorded ones.

use serde_json::{Map, Value as Json};
use tokio_postgres::Client;

/// The tables by their recorded names: table, its column with the execution, and the order of its rows.
const TABLES: &[(&str, &str, &str, &str)] = &[
    ("dbos.workflow_status", "dbos.workflow_status", "workflow_uuid", "workflow_uuid"),
    ("dbos.workflow_input", "dbos.workflow_input", "workflow_uuid", "workflow_uuid"),
    ("dbos.workflow_output", "dbos.workflow_output", "workflow_uuid", "workflow_uuid"),
    ("dbos.operation_outputs", "dbos.operation_outputs", "workflow_uuid", "function_id"),
    ("dbos.notifications", "dbos.notifications", "destination_uuid", "created_at_epoch_ms"),
    ("dbos.streams", "dbos.streams", "workflow_uuid", "\"offset\""),
    ("dbos.workflow_events", "dbos.workflow_events", "workflow_uuid", "key"),
    ("dbos.workflow_events_history", "dbos.workflow_events_history", "workflow_uuid", "function_id"),
    ("public.<prefix>executions", "public.chaingraph_executions", "id", "id"),
];

/// Read them; the id becomes `$EX0` wherever it stands.
pub async fn read(client: &Client, id: &str) -> Map<String, Json> {
    let mut rows = Map::new();
    for (name, table, column, order) in TABLES {
        let sql = format!(
            "SELECT COALESCE(jsonb_agg(to_jsonb(t) ORDER BY t.{order}), '[]')::text FROM {table} t WHERE t.{column} = $1"
        );
        let text: String = client.query_one(&sql, &[&id]).await.unwrap().get(0);
        rows.insert((*name).into(), serde_json::from_str(&text.replace(id, "$EX0")).unwrap());
    }
    rows
}

/// When the execution was created, milliseconds since the epoch.
pub fn created_at(rows: &Map<String, Json>) -> i64 {
    let created_at = rows["public.<prefix>executions"][0]["created_at"].as_str().unwrap();
    format!("{created_at}Z").parse::<jiff::Timestamp>().unwrap().as_millisecond()
}
