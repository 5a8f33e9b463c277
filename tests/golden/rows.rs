//! All rows of an execution and of its children, table by table, in the form of the recorded ones.

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

/// The rows of one execution by table.
pub type Rows = Map<String, Json>;

/// Children of an execution, by either table that knows them, in the order in which it started them.
const CHILDREN: &str = "
SELECT child.id
  FROM (SELECT id FROM public.chaingraph_executions WHERE parent_execution_id = $1
         UNION SELECT workflow_uuid FROM dbos.workflow_status WHERE parent_workflow_id = $1) child
  LEFT JOIN dbos.operation_outputs start ON start.workflow_uuid = $1 AND start.child_workflow_id = child.id
 GROUP BY child.id ORDER BY min(start.function_id) NULLS LAST, child.id";

/// Read the rows of an execution and of its children, by level and start; the ids become `$EX0`, `$EX1`, ... wherever
/// they stand.
pub async fn read(client: &Client, root: &str) -> Vec<Rows> {
    let mut ids = vec![root.to_owned()];
    let mut at = 0;
    while at < ids.len() {
        for row in client.query(CHILDREN, &[&ids[at]]).await.unwrap() {
            ids.push(row.get(0));
        }
        at += 1;
    }
    let mut tree = Vec::new();
    for id in &ids {
        let mut rows = Map::new();
        for (name, table, column, order) in TABLES {
            let sql = format!(
                "SELECT COALESCE(jsonb_agg(to_jsonb(t) ORDER BY t.{order}), '[]')::text FROM {table} t WHERE t.{column} = $1"
            );
            let mut text: String = client.query_one(&sql, &[&id]).await.unwrap().get(0);
            for (number, id) in ids.iter().enumerate() {
                text = text.replace(id, &format!("$EX{number}"));
            }
            rows.insert((*name).into(), serde_json::from_str(&text).unwrap());
        }
        tree.push(rows);
    }
    tree
}

/// When the execution was created, milliseconds since the epoch.
pub fn created_at(rows: &Rows) -> i64 {
    let created_at = rows["public.<prefix>executions"][0]["created_at"].as_str().unwrap();
    format!("{created_at}Z").parse::<jiff::Timestamp>().unwrap().as_millisecond()
}
