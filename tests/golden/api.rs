//! The part that the server's API plays, in SQL: what it and its DBOS client (TypeScript SDK 4.4.9) write, and nothing
//! that this client doesn't know: neither the newer columns nor the payload tables.

use serde_json::{Value as Json, json};
use tokio_postgres::Client;

/// An execution and the connection that the API uses.
pub struct Api<'a> {
    pub client: &'a Client,
    /// The execution, which is the workflow as well.
    pub id: String,
}

/// A value as the client's serialiser writes it.
fn superjson(value: Json) -> String {
    json!({"json": value, "__dbos_serializer": "superjson"}).to_string()
}

impl Api<'_> {
    /// Store a flow, as the editor does.
    pub async fn store_flow(&self, flow: &Json) {
        let sql = "INSERT INTO chaingraph_flows (id, data, owner_id, version) VALUES ($1, $2, $3, 1)
                   ON CONFLICT (id) DO NOTHING";
        let owner = flow["metadata"]["ownerID"].as_str();
        self.client.execute(sql, &[&flow["id"].as_str().unwrap(), flow, &owner]).await.unwrap();
    }

    /// Delete a flow.
    pub async fn delete_flow(&self, id: &str) {
        self.client.execute("DELETE FROM chaingraph_flows WHERE id = $1", &[&id]).await.unwrap();
    }

    /// Create: the execution's row, and the workflow on the queue. Of `row`, the caller's choices are taken.
    pub async fn create(&self, row: &Json, task: &Json) {
        let insert = "INSERT INTO chaingraph_executions (id, flow_id, owner_id, root_execution_id, status, created_at,
                             updated_at, execution_depth, options, integration, external_events, failure_count)
                      VALUES ($1, $2, $3, $1, 'created', now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc', 0, $4, $5, $6, 0)";
        let (flow, owner) = (row["flow_id"].as_str().unwrap(), row["owner_id"].as_str().unwrap());
        let data = [&row["options"], &row["integration"], &row["external_events"]];
        self.client.execute(insert, &[&self.id, &flow, &owner, data[0], data[1], data[2]]).await.unwrap();
        let enqueue =
            "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, config_name, queue_name,
                              authenticated_user, assumed_role, authenticated_roles, request, inputs, executor_id,
                              application_version, application_id, created_at, updated_at, recovery_attempts,
                              workflow_timeout_ms, deduplication_id, priority)
                       VALUES ($1, 'ENQUEUED', 'executeChainGraph', 'ExecutionWorkflows', '', 'chaingraph-executions',
                              '', '', '[]', '{}', $2, '', '1.0.0', '',
                              (EXTRACT(EPOCH FROM now()) * 1000)::bigint, (EXTRACT(EPOCH FROM now()) * 1000)::bigint, 0,
                              2100000, $1, 0)";
        let mut task = task.clone();
        task["executionId"] = json!(self.id);
        task["timestamp"] = json!(jiff::Timestamp::now().as_millisecond());
        self.client.execute(enqueue, &[&self.id, &superjson(json!([task]))]).await.unwrap();
    }

    /// Start: the signal that the workflow waits for.
    pub async fn start(&self) {
        self.send("START_SIGNAL", json!("GO")).await;
    }

    /// Pause: a command that the observed workers don't receive.
    pub async fn pause(&self, reason: &str) {
        self.send("COMMAND", json!({"command": "PAUSE", "reason": reason})).await;
    }

    /// Resume: allowed in status paused, which the observed workers never write.
    pub async fn resume(&self) {
        self.send("COMMAND", json!({"command": "RESUME"})).await;
    }

    /// Stop: cancel the workflow, then mark the row.
    pub async fn stop(&self, reason: &str) {
        let cancel = "UPDATE dbos.workflow_status
                         SET status = 'CANCELLED', queue_name = NULL, deduplication_id = NULL, started_at_epoch_ms = NULL,
                             updated_at = (EXTRACT(EPOCH FROM now()) * 1000)::bigint
                       WHERE workflow_uuid = $1 AND status NOT IN ('SUCCESS', 'ERROR')";
        assert_eq!(self.client.execute(cancel, &[&self.id]).await.unwrap(), 1);
        let mark = "UPDATE chaingraph_executions
                       SET status = 'stopped', error_message = $2, completed_at = now() AT TIME ZONE 'utc',
                           updated_at = now() AT TIME ZONE 'utc'
                     WHERE id = $1";
        self.client.execute(mark, &[&self.id, &reason]).await.unwrap();
    }

    async fn send(&self, topic: &str, message: Json) {
        let sql = "INSERT INTO dbos.notifications (destination_uuid, topic, message) VALUES ($1, $2, $3)";
        self.client.execute(sql, &[&self.id, &topic, &superjson(message)]).await.unwrap();
    }

    /// Enqueue by the SQL function that DBOS has for clients without an SDK; there is no execution row.
    pub async fn enqueue_by_sql(&self, task: &Json) {
        let sql = "SELECT dbos.enqueue_workflow('executeChainGraph', 'chaingraph-executions', ARRAY[$2::json],
                          class_name => 'ExecutionWorkflows', workflow_id => $1)";
        self.client.execute(sql, &[&self.id, task]).await.unwrap();
    }

    /// Send the start signal by the SQL function that DBOS has for it.
    pub async fn start_by_sql(&self) {
        let sql = "SELECT dbos.send_message($1, '\"GO\"'::json, 'START_SIGNAL')";
        self.client.execute(sql, &[&self.id]).await.unwrap();
    }

    /// Cancel as today's SDKs do, and nothing else.
    pub async fn cancel_by_sdk(&self) {
        let sql = "UPDATE dbos.workflow_status
                      SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL,
                          started_at_epoch_ms = NULL, updated_at = (EXTRACT(EPOCH FROM now()) * 1000)::bigint,
                          completed_at = (EXTRACT(EPOCH FROM now()) * 1000)::bigint
                    WHERE workflow_uuid = $1 AND status NOT IN ('SUCCESS', 'ERROR')";
        assert_eq!(self.client.execute(sql, &[&self.id]).await.unwrap(), 1);
    }
}
