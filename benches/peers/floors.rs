//! The least that the same durable work costs: pgbench with the minimal statements of a claim, three steps and an end, on
//! the same tables, one workflow at a time and in batches of a hundred.

use std::{fs, time::Duration};

use super::{
    contender::Contender,
    process,
    report::{Figures, Report},
    server::Bench,
};

/// Each statement a transaction of its own. Rows are found by their ids, which the clients take from a sequence.
fn script(batch: usize) -> String {
    let ids = "SELECT 'floor-' || i AS id FROM generate_series(:first::bigint, :last::bigint) i";
    let step = |number: usize| {
        format!(
            "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, output, started_at_epoch_ms, completed_at_epoch_ms)
             SELECT id, {number}, 'step', '{{\"n\":1}}', 1, 1 FROM ({ids}) mine;\n"
        )
    };
    let claim = format!(
        "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'floor', owner_xid = 'x', started_at_epoch_ms = 1
          WHERE status = 'ENQUEUED' AND workflow_uuid IN ({ids});\n"
    );
    let end = format!(
        "WITH done AS (UPDATE dbos.workflow_status SET status = 'SUCCESS', completed_at = 1 WHERE workflow_uuid IN ({ids}) RETURNING workflow_uuid)
         INSERT INTO dbos.workflow_output (workflow_uuid, output) SELECT workflow_uuid, '{{\"n\":4}}' FROM done;\n"
    );
    let take = format!("SELECT nextval('floor') * {batch} AS last, nextval('floor') IS NULL AS none \\gset\n");
    let take = take.replace(", nextval('floor') IS NULL AS none", "");
    format!("{take}\\set first :last - {batch} + 1\n{claim}{}{}{}{end}", step(0), step(1), step(2))
        .replace("\n             ", " ")
        .replace("\n          ", " ")
        .replace("\n         ", " ")
}

pub async fn measure(bench: &Bench, scale: usize, report: &mut Report) {
    for (batch, clients) in [(1, 1), (1, 8), (100, 1), (100, 8)] {
        let name = "floors";
        let (url, sql) = bench.database(name).await;
        Contender::Ours.prepare(&url, &sql).await.unwrap();
        let rows = super::rows::Rows::like_patterns(&sql).await;
        rows.finished(&sql, 20_000 / scale).await;
        let count = (if batch == 1 { 8_000 } else { 80_000 }) / scale;
        rows.enqueue(&sql, "pattern-steps", "floor", count).await;
        for statement in ["CREATE SEQUENCE floor CACHE 1", "VACUUM ANALYZE", "CHECKPOINT"] {
            sql.batch_execute(statement).await.unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), script(batch)).unwrap();
        let before = process::family_cpu(bench.server());
        let transactions = count / batch / clients;
        let began = std::time::Instant::now();
        let mut command = bench.program("pgbench", name);
        command.args(["-n", "-M", "prepared", "-f"]).arg(file.path());
        command.args(["-c", &clients.to_string(), "-j", "1", "-t", &transactions.to_string()]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let took = began.elapsed().as_secs_f64();
        let done = (transactions * batch * clients) as f64;
        let ended: i64 = sql
            .query_one(
                "SELECT count(*) FROM dbos.workflow_status WHERE executor_id = 'floor' AND status = 'SUCCESS'",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(ended as f64, done, "the floor did the work");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut figures = Figures::default();
        figures.set("workflows/s", done / took);
        figures.set("PostgreSQL CPU ms", (process::family_cpu(bench.server()) - before) * 1e3 / done);
        report.add_named(&format!("pgbench, batches of {batch}, {clients} clients"), "floors", figures);
    }
}
