//! What must not grow: the time of a claim with what waits and what has ended, the statements of an idle worker with the
//! number of workers, and what is lost when several share a queue's limit.

use std::time::{Duration, Instant};

use super::{
    measure,
    report::{Figures, Report},
    server::{Stage, connect},
};

/// Executions over which a claim is measured, where so many wait.
const SAMPLE: usize = 1_000;

pub async fn measure(stage: &mut Stage, scale: usize, report: &mut Report) {
    for workers in [1, 10, 50] {
        report.add(stage.contender, &format!("{workers} idle workers"), idle(stage, workers).await);
    }
    for backlog in [1_000, 100_000, 2_000_000] {
        let backlog = (backlog / scale).max(1_000);
        // Twice, and some are left.
        let sample = SAMPLE.min(backlog / 4);
        stage.rows.enqueue(&stage.sql, "pattern-steps", "backlog", backlog).await;
        stage.settle().await;
        report.add(stage.contender, &format!("claims, {backlog} wait"), claims(stage, sample).await);
        // Nothing that ends from here on can be cleaned up: the index's front fills with dead entries.
        let old = connect(&stage.url).await;
        old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dbos.queues").await.unwrap();
        report.add(
            stage.contender,
            &format!("claims, {backlog} wait, under an old snapshot"),
            claims(stage, sample).await,
        );
        old.batch_execute("COMMIT").await.unwrap();
        stage.rows.keep_patterns(&stage.sql).await;
        measure::clear(stage).await;
    }
    let ended = 10_000_000 / scale;
    let fill = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, queue_name, application_name,
                       application_version, priority, created_at, updated_at, completed_at, recovery_attempts)
                SELECT 'ended-' || i, 'SUCCESS', 'executeFireFlow', 'ExecutionWorkflows', 'bench', 'bench', '1', 0, i, i, i, 1
                  FROM generate_series(1, $1::bigint) i";
    stage.sql.execute(fill, &[&i64::try_from(ended).unwrap()]).await.unwrap();
    stage.rows.enqueue(&stage.sql, "pattern-steps", "after", SAMPLE * 2).await;
    stage.settle().await;
    report.add(stage.contender, &format!("claims, {ended} have ended"), claims(stage, SAMPLE).await);
}

/// Milliseconds of the server for a claim, and for each row that it took, over some executions.
async fn claims(stage: &Stage, sample: usize) -> Figures {
    let ended = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND executor_id = 'bench'";
    let before = stage.count(ended).await;
    stage.sql.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let running = stage.run(20, stage.contender.default_poll()).await;
    let patience = Instant::now();
    while stage.count(ended).await < before + i64::try_from(sample).unwrap() {
        assert!(patience.elapsed() < Duration::from_secs(120), "claims go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.kill().await;
    let spent = "SELECT sum(total_exec_time) / sum(calls), sum(total_exec_time) / sum(rows) FROM pg_stat_statements
                  WHERE query LIKE '%AS has_history%' AND rows > 0";
    let row = stage.sql.query_one(spent, &[]).await.unwrap();
    let mut figures = Figures::of("claim ms", row.get(0));
    figures.set("a row ms", row.get(1));
    figures
}

/// Statements a second of each of so many workers that have nothing to do.
async fn idle(stage: &Stage, workers: usize) -> Figures {
    let fleet = stage.fleet(workers, &["bench"], 5, stage.contender.default_poll()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.sql.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let (began, cpu) = (Instant::now(), stage.server_cpu());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let calls =
        "SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";
    let (calls, seconds) = (stage.count(calls).await, began.elapsed().as_secs_f64());
    let mut figures = Figures::of("statements/s a worker", calls as f64 / seconds / workers as f64);
    figures.set("PostgreSQL CPU %", (stage.server_cpu() - cpu) / seconds * 100.0);
    for running in fleet {
        running.kill().await;
    }
    figures
}

/// The same slots in one process, in four under one limit over all of them, and in four with a queue for each: what sharing
/// costs, and what four processes do.
pub async fn fleets(stage: &mut Stage, scale: usize, report: &mut Report) {
    let four = ["bench", "bench-1", "bench-2", "bench-3"];
    for (name, processes, queues) in
        [("one worker", 1, &four[..1]), ("four workers", 4, &four[..1]), ("four workers, a queue each", 4, &four[..])]
    {
        let slots = 100 / u32::try_from(processes).unwrap();
        let poll = stage.contender.default_poll();
        let mut runs = Vec::new();
        for round in 0..3 {
            let prefix = format!("fleet{processes}-{}-{round}", queues.len());
            let fleet = (processes, slots, queues);
            runs.push(measure::one_run(stage, fleet, poll, "pattern-steps", &prefix, 20_000 / scale).await);
            measure::clear(stage).await;
        }
        report.add(stage.contender, &format!("100 slots, {name}"), Figures::median(runs));
    }
}
