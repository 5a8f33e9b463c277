//! The statements that are sent for each claim and each look, and for each batch of `gc`, ride indexes, whatever the tables hold:
//! as the server says that it ran them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use serde_json::Value as Json;
use support::{TestServer, bench::Bench, client::QUEUE, flows::echo, scrape, worker::program};

/// Rows that wait, and rows that have ended.
const FILL: &str = "
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, queue_name, application_name, priority, created_at,
       updated_at, inputs, serialization, executor_id, started_at_epoch_ms)
SELECT 'f' || n, CASE WHEN n % 5 = 0 THEN 'ENQUEUED' ELSE 'SUCCESS' END, 'executeFireFlow', 'ExecutionWorkflows', $1, NULL, n % 3,
       1000 + n, 1000 + n, '{\"positionalArgs\":[{\"executionId\":\"f' || n || '\",\"flowId\":\"echo\"}]}', 'portable_json',
       'gone', 1000 FROM generate_series(1, 30000) n";

/// All plans that the server has logged for statements with this text.
fn plans(log: &str, text: &str) -> Vec<Json> {
    let plans = log.split("plan:\n").skip(1).filter_map(|rest| {
        // The document is indented by a tab; the next line of the log is not.
        let document: String = rest.lines().take_while(|line| line.starts_with('\t')).collect();
        serde_json::from_str::<Json>(&document).ok()
    });
    plans.filter(|plan| plan["Query Text"].as_str().is_some_and(|query| query.contains(text))).collect()
}

/// Every node of a plan.
fn nodes<'p>(plan: &'p Json, found: &mut Vec<&'p Json>) {
    found.push(plan);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

fn check(plan: &Json, most_rows: f64) {
    let mut all = Vec::new();
    nodes(&plan["Plan"], &mut all);
    for node in &all {
        let (kind, rows) = (node["Node Type"].as_str().unwrap(), node["Actual Rows"].as_f64().unwrap());
        let on_workflows = node["Relation Name"] == "workflow_status";
        assert!(kind != "Seq Scan" || !on_workflows, "a sequential scan: {plan:#}");
        assert!(kind != "Bitmap Heap Scan" || !on_workflows || rows <= most_rows, "{rows} rows in a bitmap: {plan:#}");
        assert!(rows <= most_rows, "{kind} of {rows} rows: {plan:#}");
        let dropped = node["Rows Removed by Filter"].as_f64().unwrap_or(0.0);
        assert!(!on_workflows || dropped <= most_rows, "{kind} drops {dropped} rows: {plan:#}");
    }
}

/// Let the server log the plan of each statement on this database.
async fn explain(bench: &Bench) {
    let name = bench.database.name();
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_timing = off",
        "auto_explain.log_verbose = on",
        "auto_explain.log_format = 'json'",
    ] {
        bench.client.sql().batch_execute(&format!("ALTER DATABASE {name} SET {setting}")).await.unwrap();
    }
}

/// The server's log so far. All tests of this file write to it.
fn log() -> String {
    std::fs::read_to_string(TestServer::get().folder().join("server.log")).unwrap()
}

/// Most rows that a list looks through with one statement, and one to see where a group of the same time ends.
const WINDOW: f64 = 5001.0;

#[tokio::test]
async fn what_operators_ask_reads_a_bounded_number_of_rows() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let sql = bench.client.sql();
    // Few of what has an index of its own, and more than a look takes of all else.
    let fill = "
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, queue_name, priority, created_at, updated_at, executor_id,
       parent_workflow_id, started_at_epoch_ms, completed_at, queue_partition_key)
SELECT 'o' || n, CASE n % 1000 WHEN 0 THEN 'ERROR' WHEN 1 THEN 'PENDING' WHEN 2 THEN 'ENQUEUED' WHEN 3 THEN 'DELAYED' ELSE 'SUCCESS' END,
       'executeFireFlow', 'ExecutionWorkflows', $1, n % 3, 1000 + n, 1000 + n, 'gone', CASE WHEN n % 10000 = 7 THEN 'o7' END,
       1000 + n, CASE WHEN n % 1000 NOT IN (1, 2, 3) THEN 2000 + n END, CASE n % 1000 WHEN 2 THEN 'p' || n % 7 END
  FROM generate_series(1, 30000) n";
    sql.execute(fill, &[&QUEUE]).await.unwrap();
    // More of what waits, and of what is on no queue, than a look takes.
    let others = "
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, created_at, updated_at)
SELECT 'x' || n, CASE WHEN n <= 12000 THEN 'ENQUEUED' WHEN n <= 16000 THEN 'DELAYED' ELSE 'CANCELLED' END, 'work',
       CASE WHEN n <= 16000 THEN 'others' END, n - 20000, 500 FROM generate_series(1, 20000) n";
    sql.execute(others, &[]).await.unwrap();
    let flows = "INSERT INTO fireflow_executions (id, flow_id, owner_id) SELECT 'o' || n, 'flow-' || n % 1000, 'o' FROM generate_series(1, 30000) n";
    sql.execute(flows, &[]).await.unwrap();
    for table in ["dbos.workflow_status", "fireflow_executions"] {
        sql.batch_execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
    }
    explain(&bench).await;
    let before = log().len();
    let url = bench.database.url();
    let commands: [&[&str]; 17] = [
        &["executions", "list"],
        &["executions", "list", "--status", "failed,running"],
        &["executions", "list", "--status", "queued", "--queue", QUEUE],
        &["executions", "list", "--flow", "flow-7"],
        &["executions", "list", "--parent", "o7"],
        &["executions", "list", "--name", "none"],
        &["executions", "list", "--after", "o20000", "--status", "completed", "--worker", "gone"],
        &["executions", "show", "o7"],
        &["executions", "cancel", "o1001", "o1002"],
        &["executions", "resume", "o1001", "o1002"],
        &["executions", "fork", "o1000", "--from-step", "0"],
        &["executions", "retry", "o2000", "o3000"],
        &["executions", "cancel", "--tree", "o4001"],
        &["executions", "resume", "--tree", "o4001"],
        &["executions", "list", "--status", "delayed", "--queue", QUEUE],
        &["queue", "show", QUEUE],
        &["workers"],
    ];
    for command in commands {
        let output = program(&url).args(command).output().await.unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
    // Tests at the same time write to the same log, from whose database a plan is it doesn't say: the text tells.
    let log = log();
    let plans = plans(&log[before..], "workflow_status");
    let ours: Vec<&Json> =
        plans.iter().filter(|plan| !plan["Query Text"].as_str().unwrap().contains("transaction_read_only")).collect();
    assert!(ours.len() > 30, "{} plans", ours.len());
    ours.iter().for_each(|plan| check(plan, WINDOW));
}

#[tokio::test]
async fn claims_and_looks_ride_indexes_and_touch_no_more_rows_than_they_take() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let sql = bench.client.sql();
    sql.execute(FILL, &[&QUEUE]).await.unwrap();
    sql.batch_execute("VACUUM ANALYZE dbos.workflow_status").await.unwrap();
    explain(&bench).await;
    let mut settings = scrape::LISTENING.to_vec();
    settings.extend([("queue.worker_concurrency", "20"), ("queue.polling_interval", "10ms"), ("log.level", "info")]);
    let began = std::time::Instant::now();
    let worker = bench.worker("planned", &settings).await;
    let address = scrape::address(&worker).await;
    let depth = format!("fireflow_queue_depth{{queue=\"{QUEUE}\"}}");
    scrape::until(&address, |now| now.has(&depth)).await;
    let done = "SELECT count(*) / 1000 FROM dbos.workflow_status WHERE executor_id = 'planned' AND status = 'SUCCESS'";
    while sql.query_one(done, &[]).await.unwrap().get::<_, i64>(0) < 1 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let seconds = began.elapsed().as_secs();
    worker.stop().await;
    let log = log();
    let claims = plans(&log, "AS has_history");
    let of_queue: Vec<&Json> =
        claims.iter().filter(|plan| plan["Query Text"].as_str().unwrap().contains("NOWAIT")).collect();
    assert!(of_queue.len() > 5, "{} claims of {}", of_queue.len(), claims.len());
    // A generic plan comes after the fifth.
    claims.iter().for_each(|plan| check(plan, 100.0));
    let limits = plans(&log, "AS within");
    assert!(limits.len() > 5, "{}", limits.len());
    limits.iter().for_each(|plan| check(plan, 100.0));
    let looks = plans(&log, "transaction_read_only");
    assert!(!looks.is_empty());
    looks.iter().for_each(|plan| check(plan, 100.0));
    // One row is asked for by a limit, which the planner can't answer by gathering all that wait, as it may do for EXISTS.
    for look in &looks {
        let mut all = Vec::new();
        nodes(&look["Plan"], &mut all);
        let limited = |node: &&&Json| {
            let below = node["Plans"].as_array().into_iter().flatten();
            node["Node Type"] == "Limit" && below.into_iter().any(|child| child["Relation Name"] == "workflow_status")
        };
        assert!(all.iter().any(|node| limited(&node)), "{look:#}");
        assert!(!look.to_string().contains("hashed SubPlan"), "{look:#}");
    }
    // While claims fill all slots, there is a look a second, whatever the polling interval. Some come before the first claim.
    assert!((looks.len() as u64) < 12 + 2 * seconds, "{} looks in {seconds} s", looks.len());

    // The last offset of a stream is asked for once a batch, not for each of its values.
    let appends = plans(&log, "first_value(last)");
    let (mut asked, mut appended) = (0.0, 0.0);
    for plan in &appends {
        let mut all = Vec::new();
        nodes(&plan["Plan"], &mut all);
        let of = |kind: &str| all.iter().filter(|node| node["Node Type"] == kind).copied().collect::<Vec<_>>();
        appended += of("WindowAgg").iter().map(|node| node["Actual Rows"].as_f64().unwrap()).sum::<f64>();
        let scans = all.iter().filter(|node| node["Relation Name"] == "streams" && node["Node Type"] != "ModifyTable");
        // Loops of what wasn't run are zero.
        asked += scans.map(|node| node["Actual Loops"].as_f64().unwrap()).sum::<f64>();
    }
    assert!(appended >= 5000.0, "{appended} values in {} statements", appends.len());
    assert!(asked * 2.0 < appended, "{asked} questions for {appended} values");
    // What is counted is counted by the index alone, up to its limit.
    let backlogs = plans(&log, "AS oldest");
    assert!(!backlogs.is_empty());
    backlogs.iter().for_each(|plan| check(plan, 10_000.0));
}

/// Others' old executions, with ours in between, and steps and messages of all.
const OLD: &str = "
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, application_name, parent_workflow_id, created_at, completed_at)
SELECT 'g' || n, 'SUCCESS', 'executeFireFlow', CASE WHEN n % 15 = 0 THEN 'fireflow-executor' ELSE 'shop' END,
       CASE WHEN n % 2 = 0 THEN 'g' || n + 1 END, 1000 + n, 1000 + n / 3 FROM generate_series(1, 30000) n;
INSERT INTO dbos.operation_outputs (workflow_uuid, function_id) SELECT 'g' || n, m FROM generate_series(1, 30000) n, generate_series(1, 2) m;
INSERT INTO dbos.workflow_input (workflow_uuid, inputs) SELECT 'g' || n, '' FROM generate_series(1, 30000) n;
INSERT INTO dbos.notifications (destination_uuid, topic, message) SELECT 'g' || n, 't', '' FROM generate_series(1, 30000, 9) n;
VACUUM ANALYZE";

#[tokio::test]
async fn a_batch_of_gc_touches_no_more_rows_than_it_passes() {
    let bench = Bench::with(|_| vec![]).await;
    for statement in OLD.split(';') {
        bench.client.sql().batch_execute(statement).await.unwrap();
    }
    explain(&bench).await;
    let mut gc = program(&bench.database.url());
    gc.args(["gc", "--older-than", "30d", "--batch-size", "100", "--pause", "0ms", "--max-duration", "5s"]);
    let ended = gc.output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let log = std::fs::read_to_string(TestServer::get().folder().join("server.log")).unwrap();
    let batches = plans(&log, "of_outputs");
    assert!(batches.len() > 10, "{}", batches.len());
    // Each of a hundred passed rows, and what belongs to those that go.
    batches.iter().for_each(|plan| check(plan, 400.0));
}
