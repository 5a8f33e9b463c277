//! Workers, versions, crashes.

use super::Patient;

/// A worker's row.
fn worker(id: &str, version: &str, program: &str, state: &str, expires: &str) -> String {
    format!(
        "INSERT INTO fireflow_workers (id, incarnation, host, application_name, application_version, queue_name, worker_version,
                started_at, expires_at, state)
         VALUES ('{id}', gen_random_uuid(), 'host-1', 'fireflow-executor', '{version}', 'fireflow-executions', '{program}',
                now() - interval '1 hour', now() + interval '{expires}', '{state}')"
    )
}

#[tokio::test]
async fn workers_that_are_missing_differ_or_died_are_told() {
    let patient = Patient::new().await;
    let mine = env!("CARGO_PKG_VERSION");
    let none = patient.visit(&[]).await;
    none.has("workers", "warning", &["no live worker serves queue fireflow-executions", "systemctl start"]);
    none.is_well("leases");
    patient.sql(&worker("w1", "1.0.0", mine, "running", "10 minutes")).await;
    let one = patient.visit(&[]).await;
    one.has("workers", "ok", &["1 live worker", "w1"]);
    one.is_well("worker-versions");
    patient
        .has(&worker("w2", "1.0.0", "0.0.9", "running", "10 minutes"), "worker-versions", "note", &["0.0.9", "upgrade"])
        .await;
    patient
        .has(
            &worker("w3", "2.0.0", mine, "running", "10 minutes"),
            "worker-versions",
            "warning",
            &["1.0.0, 2.0.0", "newest registered"],
        )
        .await;
    patient
        .has(
            &worker("w4", "1.0.0", mine, "draining", "10 minutes"),
            "workers",
            "note",
            &["w4", "drains", "second SIGTERM"],
        )
        .await;
    patient
        .has(
            &worker("w5", "1.0.0", mine, "running", "-10 minutes"),
            "leases",
            "note",
            &["w5 on host-1 10 min ago", "back to the queue"],
        )
        .await;
    patient
        .has(
            &worker("w6", "1.0.0", mine, "stopped", "-3 days"),
            "leases",
            "note",
            &["1 row of workers that ended days ago: w6", "a live worker removes"],
        )
        .await;
}

#[tokio::test]
async fn a_version_that_nobody_runs_and_one_of_the_future_are_told() {
    let patient = Patient::new().await;
    patient.visit(&[]).await.is_well("latest-version");
    let version =
        "INSERT INTO dbos.application_versions (version_id, version_name, version_timestamp, application_name)
                   VALUES ('v', '9.9', (extract(epoch FROM now()) * 1000)::bigint + 7200000, 'fireflow-executor')";
    patient
        .has(version, "latest-version", "warning", &["9.9", "no live worker has", "setLatestApplicationVersion"])
        .await;
    patient.visit(&[]).await.has("latest-version", "warning", &["9.9", "in the future", "version_timestamp"]);
    // Another application's version is none of ours.
    patient.sql("UPDATE dbos.application_versions SET application_name = 'shop'").await;
    patient.visit(&[]).await.is_well("latest-version");
}

#[tokio::test]
async fn executions_that_took_their_worker_down_and_executors_of_old_sdks_are_told() {
    let patient = Patient::new().await;
    let healthy = patient.visit(&[]).await;
    healthy.is_well("crashes");
    healthy.is_well("old-sdks");
    let crash = |times: i32| {
        format!(
            "INSERT INTO fireflow_crashes (workflow_id, crashes, steps, attempts, worker_id, host, reason)
             VALUES ('X{times}', {times}, 0, {times}, 'w1', 'host-1', 'its process was gone')"
        )
    };
    patient
        .has(&crash(1), "crashes", "note", &["X1 (1 times, last on w1: its process was gone)", "recovery.max_crashes"])
        .await;
    patient.has(&crash(2), "crashes", "warning", &["more than once in a row", "X2", "executions cancel"]).await;

    let old = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, executor_id)
               VALUES ('X3', 'PENDING', 'executeFireFlow', 'fireflow-executions', 'node-4')";
    patient.has(old, "old-sdks", "warning", &["node-4", "queue fireflow-executions", "update their SDK"]).await;
}
