//! What waits, runs, and does neither.

use super::Patient;

/// A row of the queue; `more` overrides and adds columns.
fn row(id: &str, status: &str, more: &[(&str, &str)]) -> String {
    let mut columns = vec![
        ("workflow_uuid", format!("'{id}'")),
        ("status", format!("'{status}'")),
        ("name", "'executeFireFlow'".to_owned()),
        ("class_name", "'ExecutionWorkflows'".to_owned()),
        ("queue_name", "'fireflow-executions'".to_owned()),
        ("serialization", "'portable_json'".to_owned()),
        ("created_at", NOW.to_owned()),
    ];
    for (column, value) in more {
        columns.retain(|(known, _)| known != column);
        columns.push((column, (*value).to_owned()));
    }
    // As clients and workers have it: changed when it was made, unless a test says otherwise.
    if !columns.iter().any(|(column, _)| *column == "updated_at") {
        let made = columns.iter().find(|(column, _)| *column == "created_at").unwrap().1.clone();
        columns.push(("updated_at", made));
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
    format!(
        "DELETE FROM dbos.workflow_status; INSERT INTO dbos.workflow_status ({}) VALUES ({})",
        names.join(", "),
        values.join(", ")
    )
}

/// Columns of a row, the check that finds it, and words of the finding.
type Stranger = (&'static [(&'static str, &'static str)], &'static str, &'static [&'static str]);

const NOW: &str = "(extract(epoch FROM now()) * 1000)::bigint";
const HOUR_AGO: &str = "(extract(epoch FROM now()) * 1000)::bigint - 3600000";

/// A worker that holds its lease for so many seconds more.
fn lease(id: &str, seconds: i32) -> String {
    format!(
        "INSERT INTO fireflow_workers (id, incarnation, host, application_name, application_version, queue_name, worker_version,
                started_at, expires_at, state)
         VALUES ('{id}', gen_random_uuid(), 'host-1', 'fireflow-executor', '1.0.0', 'fireflow-executions', '0.1.0', now(),
                now() + make_interval(secs => {seconds}), 'running')
         ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at"
    )
}

#[tokio::test]
async fn what_waits_for_nobody_is_told_by_what_it_asks_for() {
    let patient = Patient::new().await;
    patient.visit(&[]).await.is_well("strangers");
    let strangers: [Stranger; 7] = [
        (
            &[("name", "'sendInvoice'")],
            "unknown-workflows",
            &["sendInvoice", "X1", "queue of its own", "executions cancel"],
        ),
        (&[("class_name", "'Other'")], "unknown-workflows", &["class \\\"Other\\\"", "execution.class_name"]),
        (&[("config_name", "'blue'")], "unknown-workflows", &["configuration blue", "no configured instances"]),
        (&[("serialization", "'java_kryo'")], "unknown-serialisations", &["java_kryo", "portable_json"]),
        (&[("application_name", "'shop'")], "foreign-applications", &["application shop", "applicationName"]),
        (&[("application_version", "'7.0.0'")], "unknown-versions", &["7.0.0", "worker.application_version"]),
        (
            &[
                ("name", "'sendInvoice'"),
                ("queue_name", "'_dbos_internal_queue'"),
                ("application_name", "'fireflow-executor'"),
            ],
            "unknown-workflows",
            &["_dbos_internal_queue", "sendInvoice"],
        ),
    ];
    for (columns, check, words) in strangers {
        patient.has(&row("X1", "ENQUEUED", columns), check, "warning", words).await;
    }
    // What is on the internal queue for others is none of our business.
    let others = [("queue_name", "'_dbos_internal_queue'"), ("application_name", "'shop'")];
    patient.sql(&row("X1", "ENQUEUED", &others)).await;
    patient.visit(&[]).await.is_well("strangers");
    // Somebody has that version.
    let worker = lease("w7", 600).replace("1.0.0", "7.0.0");
    patient.sql(&format!("{}; {worker}", row("X1", "ENQUEUED", &[("application_version", "'7.0.0'")]))).await;
    patient.visit(&[]).await.is_well("strangers");
}

#[tokio::test]
async fn a_look_that_ends_before_the_last_row_says_so() {
    let patient = Patient::new().await;
    let many = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name)
                SELECT 'X' || n, 'ENQUEUED', 'executeFireFlow', 'fireflow-executions' FROM generate_series(1, 10000) n";
    patient.has(many, "strangers", "note", &["10000 rows and more", "only 10000 of them", "--deep"]).await;
    patient.visit(&["--deep"]).await.is_well("strangers");
}

#[tokio::test]
async fn what_waits_too_long_is_told_with_who_could_take_it() {
    let patient = Patient::new().await;
    patient.sql(&row("X1", "ENQUEUED", &[("created_at", NOW)])).await;
    patient.visit(&[]).await.is_well("waiting");
    patient.visit(&["--patience", "0s"]).await.has("waiting", "error", &["1 execution waiting", "X1"]);
    let late = row("X1", "ENQUEUED", &[("created_at", HOUR_AGO)]);
    patient
        .has(&late, "waiting", "error", &["1 execution waiting for up to 1 h", "no live worker", "start a worker"])
        .await;
    let visit = patient.visit(&[]).await;
    assert_eq!((visit.code, &visit.said["healthy"]), (1, &false.into()));
    // It was delayed, resumed or handed back: it waits since then.
    patient.sql(&row("X1", "ENQUEUED", &[("created_at", HOUR_AGO), ("updated_at", NOW)])).await;
    patient.visit(&[]).await.is_well("waiting");
    patient.sql(&late).await;
    patient.has(&lease("w1", 600), "waiting", "warning", &["X1", "worker_concurrency", "queue show"]).await;
    // Each queue for itself: one that nobody serves is not to blame for what waits on another. Any worker serves the internal one.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[queue]]\nname = \"fireflow-executions\"\n[[queue]]\nname = \"nobody\"\n").unwrap();
    let two = ["--config", file.path().to_str().unwrap()];
    patient.visit(&two).await.has("waiting", "warning", &["on queue fireflow-executions, such as X1"]);
    let internal = [("created_at", HOUR_AGO), ("queue_name", "'_dbos_internal_queue'")];
    patient.has(&row("X1", "ENQUEUED", &internal), "waiting", "warning", &["queue _dbos_internal_queue"]).await;
    let nobody = [("created_at", HOUR_AGO), ("queue_name", "'nobody'")];
    patient.sql(&row("X1", "ENQUEUED", &nobody)).await;
    patient.visit(&two).await.has("waiting", "error", &["on queue nobody, such as X1", "no live worker serves it"]);

    let elsewhere = row("X2", "ENQUEUED", &[("queue_name", "'fireflow-reports'")]);
    patient.has(&elsewhere, "unserved-queues", "warning", &["fireflow-reports", "[[queue]]"]).await;
    let served = lease("w2", 600).replace("'fireflow-executions'", "'fireflow-executions, fireflow-reports'");
    patient.sql(&served).await;
    patient.visit(&[]).await.is_well("unserved-queues");

    let overdue = row("X3", "DELAYED", &[("delay_until_epoch_ms", HOUR_AGO)]);
    patient.has(&overdue, "delayed", "warning", &["X3", "for up to 1 h", "within a second"]).await;
    let expired = row("X4", "ENQUEUED", &[("workflow_deadline_epoch_ms", HOUR_AGO)]);
    patient.has(&expired, "deadlines", "warning", &["X4", "past the deadline", "within a second"]).await;
}

#[tokio::test]
async fn what_is_pending_for_nobody_is_told_with_who_can_cure_it() {
    let patient = Patient::new().await;
    let held = |executor: &str| {
        row("X1", "PENDING", &[("executor_id", executor), ("started_at_epoch_ms", HOUR_AGO), ("owner_xid", "'t'")])
    };
    patient
        .has(
            &held("'laptop'"),
            "stuck",
            "warning",
            &["executor laptop", "no worker of this kind", "recovery.adopt_executors"],
        )
        .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[recovery]\nadopt_executors = [\"laptop\"]\n").unwrap();
    let visit = patient.visit(&["--config", file.path().to_str().unwrap()]).await;
    visit.has("stuck", "warning", &["which recovery.adopt_executors names", "start a worker with this configuration"]);
    // Another SDK's process may well be at work for less than the patience.
    patient.visit(&["--patience", "2h"]).await.is_well("stuck");

    let dead = format!("{}; {}", held("'w1'"), lease("w1", -600));
    patient.has(&dead, "stuck", "error", &["executor w1", "lease has ended", "no live worker", "start a worker"]).await;
    patient
        .has(&lease("w2", 600), "stuck", "warning", &["executor w1", "live workers should have", "locks and grants"])
        .await;
    patient.sql(&lease("w1", 600)).await;
    patient.visit(&[]).await.is_well("stuck");

    let parked = row("X5", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", &[("completed_at", NOW)]);
    patient
        .has(&parked, "parked", "warning", &["X5", "executions show", "executions resume", "gc --statuses parked"])
        .await;
}

#[tokio::test]
async fn limits_that_contradict_are_told() {
    let patient = Patient::new().await;
    let register = |columns: &str, values: &str| {
        format!(
            "DELETE FROM dbos.queues; INSERT INTO dbos.queues (name, {columns}) VALUES ('fireflow-executions', {values})"
        )
    };
    patient.sql(&register("concurrency, worker_concurrency", "100, 5")).await;
    patient.visit(&[]).await.is_well("limits");
    let paused = register("concurrency", "0");
    patient
        .has(&paused, "limits", "warning", &["fireflow-executions is paused", "queue resume fireflow-executions"])
        .await;
    let by_operator = "INSERT INTO fireflow_queue_pauses (queue_name, paused_by, reason, registered)
                       VALUES ('fireflow-executions', 'ada', 'the mail server is down', false)";
    let words = ["paused by ada for", "(the mail server is down)", "queue resume fireflow-executions"];
    patient.has(&format!("{}; {by_operator}", register("concurrency", "0")), "limits", "warning", &words).await;
    patient.sql("DELETE FROM fireflow_queue_pauses").await;
    let other = register("concurrency, application_name", "100, 'shop'");
    patient.has(&other, "limits", "error", &["application shop", "another queue.name"]).await;
    let fewer = register("concurrency, worker_concurrency, rate_limit_max, rate_limit_period_sec", "7, 2, 10, 60");
    let words =
        ["concurrency 7 instead of 100", "worker_concurrency 2 instead of 5", "rate_limit 10 per 1m instead of none"];
    patient.has(&fewer, "limits", "note", &words).await;
    let own = super::visit(&patient.url, &[], &[("FIREFLOW__QUEUE__LIMITS", "configured")]).await;
    own.has("limits", "note", &["ignore them", "queue.limits"]);
}
