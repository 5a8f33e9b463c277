//! What the tables hold.

use std::time::Duration;

use super::Patient;

const DAYS_AGO: &str = "(extract(epoch FROM now()) * 1000)::bigint - 86400000::bigint * ";

#[tokio::test]
async fn dead_rows_and_tables_that_are_never_vacuumed_are_told() {
    let patient = Patient::new().await;
    let visit = patient.visit(&[]).await;
    visit.is_well("dead-rows");
    visit.is_well("autovacuum");
    let fault = "ALTER TABLE dbos.workflow_input SET (autovacuum_enabled = off)";
    patient.has(fault, "autovacuum", "warning", &["workflow_input", "RESET (autovacuum_enabled)"]).await;
    patient
        .sql("INSERT INTO dbos.workflow_input (workflow_uuid, inputs) SELECT 'X' || n, '{}' FROM generate_series(1, 20000) n;
              DELETE FROM dbos.workflow_input")
        .await;
    // The server's figures come a moment later.
    let told = async {
        loop {
            let visit = patient.visit(&[]).await;
            if visit.findings("dead-rows")[0]["level"] == "warning" {
                return visit;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let visit = tokio::time::timeout(Duration::from_secs(60), told).await.expect("dead rows are found");
    visit.has(
        "dead-rows",
        "warning",
        &["workflow_input has 20000 dead rows beside 0 live", "never", "VACUUM (ANALYZE) workflow_input"],
    );
}

#[tokio::test]
async fn what_nobody_needs_any_more_is_told() {
    let patient = Patient::new().await;
    for check in ["retention", "orphans", "leftovers"] {
        patient.visit(&[]).await.is_well(check);
    }
    let ended = format!(
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, completed_at, created_at)
         SELECT 'X' || n, 'SUCCESS', 'executeFireFlow', {DAYS_AGO} 40, {DAYS_AGO} 40 FROM generate_series(1, 10000) n"
    );
    patient
        .has(
            &ended,
            "retention",
            "note",
            &["10000 executions or more ended more than 30 days ago", "gc --older-than 30d --dry-run"],
        )
        .await;
    let visit = patient.visit(&["--deep"]).await;
    visit.has("retention", "note", &["10000 executions ended"]);

    let orphan = format!(
        "INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp) VALUES ('gone', '{{}}', {DAYS_AGO} 2)"
    );
    patient
        .has(&orphan, "orphans", "note", &["workflow_input has rows of 1 workflow that are gone: gone", "gc --orphans"])
        .await;
    let step = format!(
        "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, retention_timestamp) VALUES ('gone', 0, {DAYS_AGO} 2)"
    );
    patient.has(&step, "orphans", "note", &["operation_outputs has rows of 1 workflow"]).await;

    let pin =
        "INSERT INTO fireflow_flow_pins (workflow_id, hash, pinned_at) VALUES ('X1', 'h', now() - interval '3 days')";
    let cancelled = "UPDATE dbos.workflow_status SET status = 'CANCELLED' WHERE workflow_uuid = 'X1'";
    patient.sql(&format!("{pin}; {cancelled}")).await;
    patient.visit(&[]).await.is_well("leftovers"); // it may be resumed
    let failed = "UPDATE dbos.workflow_status SET status = 'ERROR' WHERE workflow_uuid = 'X1'";
    patient.has(failed, "leftovers", "note", &["1 pin", "X1", "every five minutes"]).await;
    let content = "INSERT INTO fireflow_flow_versions (hash, flow_id, version, data, used_at) VALUES ('i', 'f', 3, '{}', now() - interval '3 days')";
    patient.has(content, "leftovers", "note", &["1 flow content", "f version 3", "gc"]).await;
}
