//! Schemas, rights, indexes, triggers.

use serde_json::json;

use super::{Patient, visit};
use crate::support::{TestDatabase, client::SqlClient, flows::echo, worker::WorkerProcess, worker::program};

#[tokio::test]
async fn a_schema_that_is_missing_old_or_half_made_is_told() {
    let empty = TestDatabase::new().await;
    visit(&empty.url(), &[], &[]).await.has(
        "system-schema",
        "warning",
        &["no system schema dbos", "fireflow-worker migrate"],
    );
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('dbos', 'public')";
    assert_eq!(empty.client().await.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), 0, "it changes nothing");

    let patient = Patient::new().await;
    let visit = patient.visit(&[]).await;
    visit.has("system-schema", "ok", &["level 125"]);
    visit.is_well("tables");
    visit.is_well("indexes");
    patient
        .has(
            "DROP INDEX dbos.idx_workflow_status_pending",
            "indexes",
            "warning",
            &["idx_workflow_status_pending", "not there", "CONCURRENTLY"],
        )
        .await;
    let broken =
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'dbos.idx_workflow_status_delayed'::regclass";
    patient.has(broken, "indexes", "warning", &["idx_workflow_status_delayed", "invalid", "REINDEX"]).await;
    // One of ours is told where it is.
    let own = "CREATE INDEX mine ON fireflow_crashes (reason);
               UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass";
    patient.has(own, "indexes", "warning", &["REINDEX INDEX CONCURRENTLY public.mine"]).await;
    patient.sql("DROP INDEX mine, dbos.idx_workflow_status_delayed").await;
    patient.sql("CREATE INDEX idx_workflow_status_delayed ON dbos.workflow_status (delay_until_epoch_ms)").await;
    patient.sql("CREATE INDEX idx_workflow_status_pending ON dbos.workflow_status (created_at)").await;
    patient.visit(&[]).await.is_well("indexes");
    // One that is being built isn't broken, nor is the transaction that builds it one to end.
    let writer = patient.database.client().await;
    writer.batch_execute("BEGIN; LOCK TABLE dbos.workflow_status IN ROW EXCLUSIVE MODE").await.unwrap();
    let builder = patient.database.client().await;
    let build = "CREATE INDEX CONCURRENTLY building ON dbos.workflow_status (name)";
    let building = tokio::spawn(async move { builder.batch_execute(build).await });
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert!(patient.client.comes_true(invalid, &[], 1).await);
    let visit = patient.visit(&["--patience", "0s"]).await;
    visit.is_well("indexes");
    assert!(
        !visit.findings("transactions").iter().any(|finding| finding.to_string().contains("active")),
        "{:#}",
        visit.said
    );
    writer.batch_execute("ROLLBACK").await.unwrap();
    building.await.unwrap().unwrap();
    patient.has("DROP TABLE fireflow_crashes", "tables", "warning", &["fireflow_crashes", "migrate"]).await;

    let older =
        "ALTER TABLE dbos.workflow_status DROP COLUMN creator_xid; UPDATE dbos.dbos_migrations SET version = 122";
    patient.has(older, "system-schema", "note", &["level 122", "migrate"]).await;
    patient.has("DROP TABLE dbos.streams", "system-schema", "error", &["table streams", "docs/schema.md"]).await;
    let lost = Patient::new().await;
    lost.has("ALTER TABLE fireflow_executions DROP COLUMN options", "tables", "error", &["column options"]).await;
}

#[tokio::test]
async fn triggers_are_compared_with_the_configuration() {
    let patient = Patient::new().await;
    let wanted = [("FIREFLOW__QUEUE__NOTIFY_TRIGGER", "true")];
    patient.visit(&[]).await.is_well("notify-trigger");
    visit(&patient.url, &[], &wanted).await.has("notify-trigger", "warning", &["not there", "fireflow-worker migrate"]);
    assert!(program(&patient.url).arg("migrate").envs(wanted).output().await.unwrap().status.success());
    visit(&patient.url, &[], &wanted).await.is_well("notify-trigger");
    patient.visit(&[]).await.has("notify-trigger", "note", &["is not set here", "drop the triggers"]);
    patient.sql("ALTER TABLE dbos.workflow_status DISABLE TRIGGER fireflow_enqueued").await;
    visit(&patient.url, &[], &wanted).await.has("notify-trigger", "warning", &["disabled", "ENABLE TRIGGER"]);
}

#[tokio::test]
async fn a_role_is_told_what_it_lacks_and_with_just_that_the_worker_runs() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    let role = format!("role_{}", database.name());
    let run = async |sql: &str| client.sql().batch_execute(sql).await.unwrap();
    run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    let mut url = url::Url::parse(&database.url()).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("secret")).unwrap();

    let stranger = visit(url.as_str(), &[], &[]).await;
    stranger.has("grants", "error", &["lacks 1 grant", &format!("GRANT USAGE ON SCHEMA dbos TO \\\"{role}\\\"")]);
    stranger.has("insight", "note", &["pg_monitor"]);
    assert_eq!(stranger.code, 1);
    // What it advises is what helps.
    for _ in 0..2 {
        let seen = visit(url.as_str(), &[], &[]).await;
        for statement in seen.findings("grants")[0]["figures"]["missing"].as_array().unwrap() {
            run(statement.as_str().unwrap()).await;
        }
    }
    let granted = visit(url.as_str(), &[], &[]).await;
    granted.is_well("grants");
    assert!(!granted.said.to_string().contains("can't tell"), "{:#}", granted.said);

    run(&format!("REVOKE SELECT ON fireflow_crashes FROM {role}")).await;
    let blind = visit(url.as_str(), &[], &[]).await;
    blind.has("grants", "error", &["GRANT SELECT ON", "fireflow_crashes"]);
    blind.has("crashes", "warning", &["can't tell", "permission denied"]);
    blind.is_well("parked");
    run(&format!("GRANT SELECT ON fireflow_crashes TO {role}")).await;

    let worker = WorkerProcess::start(url.as_str(), "w1", &[]).await;
    client.enqueue("X1", "echo", json!({"text": "by right"})).await;
    assert_eq!(client.until("X1", "SUCCESS").await.result()["outputs"]["text"], "by right");
    assert!(!worker.log().contains("permission denied"), "{}", worker.log());
    assert!(worker.stop().await.success());
    run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn flows_in_another_database_are_looked_at_there() {
    let patient = Patient::new().await;
    let apart = TestDatabase::new().await;
    let url = apart.url();
    let elsewhere = [("FIREFLOW__DATABASE__FLOWS_URL", url.as_str())];
    visit(&patient.url, &[], &elsewhere).await.has(
        "tables",
        "warning",
        &["a table of ours missing: fireflow_flows", "migrate"],
    );
    assert!(program(&patient.url).arg("migrate").envs(elsewhere).output().await.unwrap().status.success());
    let whole = visit(&patient.url, &[], &elsewhere).await;
    whole.is_well("tables");
    whole.is_well("grants");
}
