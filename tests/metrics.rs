//! Metrics of a real worker at work: which there are, that Prometheus's own parsers read them, that they tell the truth, and
//! that dashboard and alerts use none that isn't there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "metrics/labels.rs"]
mod labels;
#[path = "metrics/tools.rs"]
mod tools;

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use fireflow_worker::{
    config::Settings,
    metrics::Format,
    sysdb::{SystemDatabase, schema::SchemaName},
    worker::Worker,
};
use serde_json::{Value as Json, json};
use support::{
    bench::Bench,
    client::QUEUE,
    flows::{echo, gated, reporting},
    scrape::{LISTENING, Samples, address, get, scrape, until},
    worker::{WorkerProcess, program},
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// `name kind label label`, of each family of a scrape in the older format.
fn families(text: &str) -> BTreeSet<String> {
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap();
            kinds.insert(name, kind);
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let name = histogram.filter(|name| kinds.contains_key(name)).unwrap_or(name);
            let of = labels.entry(name).or_default();
            let inside = rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
            of.extend(
                inside.split(',').filter_map(|label| Some(label.split_once('=')?.0)).filter(|name| *name != "le"),
            );
        }
    }
    let line = |(name, kind): (&&str, &&str)| {
        let labels = labels.get(*name).unwrap_or_else(|| panic!("{name} has no samples"));
        labels.iter().fold(format!("{name} {kind}"), |line, label| format!("{line} {label}"))
    };
    kinds.iter().map(line).collect()
}

/// A worker that has run `count` executions to their end, and where it listens.
async fn worked(bench: &Bench, count: usize) -> (WorkerProcess, String) {
    let worker = bench.worker("measured", &LISTENING).await;
    let address = address(&worker).await;
    for number in 0..count {
        bench.client.enqueue(&format!("EX{number}"), "echo", json!({"text": "a"})).await;
    }
    for number in 0..count {
        bench.client.until(&format!("EX{number}"), "SUCCESS").await;
    }
    (worker, address)
}

#[tokio::test]
async fn the_list_of_metrics_is_the_golden_one_and_prometheus_reads_them() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let (worker, address) = worked(&bench, 3).await;
    until(&address, |samples| samples.has(&format!("fireflow_queue_depth{{queue=\"{QUEUE}\"}}"))).await;
    let plain = get(&address, "/metrics", "*/*").await;
    assert_eq!(plain.status, 200);
    assert!(plain.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", plain.head);
    let open = get(&address, "/metrics", OPENMETRICS).await;
    assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);

    let found: String = families(&plain.body).into_iter().map(|line| line + "\n").collect();
    if std::env::var_os("FIREFLOW_RECORD").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics/golden.txt"), &found).unwrap();
    }
    assert_eq!(found, file("tests/metrics/golden.txt"), "FIREFLOW_RECORD=1 writes the list anew");
    let documented = file("docs/operations/observability.md");
    for line in found.lines() {
        let name = line.split(' ').next().unwrap();
        assert!(documented.contains(&format!("`{name}`")), "docs/operations/observability.md doesn't explain {name}");
    }
    // No ids of executions, flows or nodes: series are few, and stay as many.
    assert!(!plain.body.contains("EX0") && !plain.body.contains("\"echo\""), "{}", plain.body);
    assert!(plain.body.lines().count() < 2000, "{} lines", plain.body.lines().count());

    for (format, text) in [("openmetrics", &open.body), ("prometheus", &plain.body)] {
        let Some(parsed) = tools::parse(format, text) else { continue };
        assert_eq!(parsed.len(), found.lines().count(), "{format}");
        for family in &parsed {
            assert_ne!(family["type"], "unknown", "{format}: {family}");
            assert!(!family["help"].as_str().unwrap().is_empty(), "{format}: {family}");
            assert!(!family["samples"].as_array().unwrap().is_empty(), "{format}: {family}");
        }
        let duration = parsed.iter().find(|family| family["name"] == "fireflow_execution_duration_seconds").unwrap();
        assert_eq!(duration["type"], "histogram");
        let wanted = json!({"queue": QUEUE, "outcome": "completed"});
        let count = duration["samples"]
            .as_array()
            .unwrap()
            .iter()
            .find(|sample| sample[0] == "fireflow_execution_duration_seconds_count" && sample[1] == wanted);
        assert_eq!(count.unwrap()[2], 3.0, "{format}");
    }
    if let Some(promtool) = tools::promtool() {
        let checked = tools::run(Command::new(promtool).args(["check", "metrics"]), &plain.body).unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stdout));
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn the_values_tell_what_the_worker_has_done() {
    let bench = Bench::with(|ledger| vec![echo("echo"), reporting("held", ledger)]).await;
    let (worker, address) = worked(&bench, 2).await;
    bench.client.enqueue("HELD", "held", gated("HELD")).await;
    bench.ledger.entered("HELD", 1).await;
    bench.client.enqueue("BROKEN", "no-such-flow", json!({})).await;
    bench.client.until("BROKEN", "ERROR").await;

    let queue = |name: &str, more: &str| format!("{name}{{queue=\"{QUEUE}\"{more}}}");
    let ended = |outcome: &str| queue("fireflow_executions_ended_total", &format!(",outcome=\"{outcome}\""));
    let now =
        until(&address, |now| now.get("fireflow_executions_running") == 1.0 && now.get(&ended("failed")) == 1.0).await;
    for (name, value) in [
        ("fireflow_phase{phase=\"running\"}", 1.0),
        ("fireflow_phase{phase=\"draining\"}", 0.0),
        ("fireflow_ready", 1.0),
        ("fireflow_database_up", 1.0),
        (&ended("completed"), 2.0),
        (&ended("lost"), 0.0),
        (&queue("fireflow_claimed_executions_total", ""), 4.0),
        (&queue("fireflow_slots_limit", ""), 5.0),
        (&queue("fireflow_queue_paused", ""), 0.0),
        ("fireflow_executions_recovered_total{cause=\"died\"}", 0.0),
        ("fireflow_trace_spans_dropped_total", 0.0),
        (&queue("fireflow_queue_wait_seconds_count", ""), 4.0),
        (&queue("fireflow_execution_duration_seconds_count", ",outcome=\"completed\""), 2.0),
        ("fireflow_nodes_total{category=\"basic-values\",outcome=\"completed\"}", 2.0),
        ("fireflow_step_duration_seconds_count{step=\"executeFlowAtomic\"}", 2.0),
        ("fireflow_lease_length_seconds", 30.0),
        ("fireflow_database_pool_limit{pool=\"work\"}", 6.0),
        ("fireflow_database_connections_opened_total{purpose=\"listen\"}", 1.0),
    ] {
        assert_eq!(now.get(name), value, "{name}");
    }
    // The dispatch loop holds what is free for the moment of a claim.
    let in_use = now.get(&queue("fireflow_slots_in_use", ""));
    assert!((1.0..=5.0).contains(&in_use), "{in_use}");
    let lease = now.get("fireflow_lease_remaining_seconds");
    assert!((10.0..=30.0).contains(&lease), "{lease}");
    let positive = [
        "fireflow_commit_batch_size_count".to_owned(),
        "fireflow_commit_duration_seconds_sum".to_owned(),
        "fireflow_checkpoint_wait_seconds_count".to_owned(),
        "fireflow_event_delay_seconds_count".to_owned(),
        "fireflow_database_pool_wait_seconds_count{pool=\"work\"}".to_owned(),
        "fireflow_database_connections_opened_total{purpose=\"lease\"}".to_owned(),
        "fireflow_lease_renewals_total{result=\"granted\"}".to_owned(),
        queue("fireflow_claims_total", ",result=\"rows\""),
        queue("fireflow_claims_total", ",result=\"empty\""),
        queue("fireflow_claim_duration_seconds_sum", ""),
        "process_cpu_seconds_total".to_owned(),
    ];
    for name in positive {
        assert!(now.get(&name) > 0.0, "{name}: {}", now.get(&name));
    }
    let resident = now.get("process_resident_memory_bytes");
    assert!((1e6..1e10).contains(&resident), "{resident}");

    bench.ledger.release("HELD");
    bench.client.until("HELD", "SUCCESS").await;
    let after = until(&address, |after| after.get(&ended("completed")) == 3.0).await;
    let timed = |samples: &Samples| -> f64 {
        let of_nodes = |name: &&String| name.starts_with("fireflow_node_duration_seconds_count");
        samples.0.keys().filter(of_nodes).map(|name| samples.get(name)).sum()
    };
    assert_eq!((timed(&now), timed(&after)), (0.0, 2.0), "requests are timed");
    assert!(after.get("process_cpu_seconds_total") >= now.get("process_cpu_seconds_total"));
    let pause = program(&bench.database.url()).args(["queue", "pause", QUEUE]).output().await.unwrap();
    assert!(pause.status.success(), "{pause:?}");
    until(&address, |now| now.get(&queue("fireflow_queue_paused", "")) == 1.0).await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_backlog_is_counted_up_to_its_limit_whatever_waits_there() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    // Nobody runs such workflows, so they stay; in two priorities, the older ones in the second.
    let fill = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, priority, created_at, updated_at)
                SELECT 'f' || n, 'ENQUEUED', 'somebody-else-s', $1, n % 2,
                       (extract(epoch FROM now()) * 1000)::bigint - 60000 - 60000 * (n % 2), 0 FROM generate_series(1, 30000) n";
    bench.client.execute(fill, &[&QUEUE]).await;
    let (worker, address) = worked(&bench, 1).await;
    let (depth, age) = (
        format!("fireflow_queue_depth{{queue=\"{QUEUE}\"}}"),
        format!("fireflow_queue_oldest_age_seconds{{queue=\"{QUEUE}\"}}"),
    );
    let now = until(&address, |now| now.has(&depth)).await;
    assert_eq!(now.get(&depth), 10_000.0);
    assert!((120.0..600.0).contains(&now.get(&age)), "{}", now.get(&age));
    bench.client.execute("DELETE FROM dbos.workflow_status WHERE name = 'somebody-else-s'", &[]).await;
    let now = until(&address, |now| now.get(&depth) == 0.0).await;
    assert_eq!(now.get(&age), 0.0);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_wanted_delay_is_no_wait_and_times_are_whatever_clients_write() {
    let bench = Bench::with(|_| Vec::new()).await;
    let sysdb = SystemDatabase::new(bench.database.pool().await, SchemaName::default());
    let oldest = async || sysdb.backlog(&[QUEUE.to_owned()]).await.unwrap()[0].oldest.as_secs();
    let fill = "INSERT INTO dbos.workflow_status
                       (workflow_uuid, status, name, queue_name, priority, created_at, updated_at, delay_until_epoch_ms)
                SELECT 'd' || n, 'ENQUEUED', 'somebody-else-s', $1, 0, now - age * 1000, 0, now - past * 1000
                  FROM (SELECT (extract(epoch FROM now()) * 1000)::bigint AS now) clock,
                       (VALUES (1, 3600, 10), (2, 7200, 20), (3, 600, NULL)) rows(n, age, past)";
    bench.client.execute(fill, &[&QUEUE]).await;
    // The third one is younger than the others, and has waited for longer.
    assert!((600..660).contains(&oldest().await), "{}", oldest().await);
    bench.client.execute("DELETE FROM dbos.workflow_status WHERE workflow_uuid = 'd3'", &[]).await;
    assert!((20..80).contains(&oldest().await), "{}", oldest().await);
    for (time, known) in [(i64::MAX, false), (i64::MIN, true)] {
        bench.client.execute("UPDATE dbos.workflow_status SET created_at = $1", &[&time]).await;
        assert_eq!(oldest().await > 0, known, "{time}");
    }
}

#[tokio::test]
async fn a_scrape_waits_for_no_database_and_says_that_it_is_away() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let settings = [LISTENING.as_slice(), &[("worker.lease", "1h"), ("database.connect_timeout", "1s")]].concat();
    let worker = bench.worker("measured", &settings).await;
    let address = address(&worker).await;
    let depth = format!("fireflow_queue_depth{{queue=\"{QUEUE}\"}}");
    let before = until(&address, |now| now.has(&depth)).await;
    assert_eq!((before.get("fireflow_database_up"), before.get("fireflow_database_outages_total")), (1.0, 0.0));
    let name = bench.database.name();
    let admin = support::TestServer::get().url("postgres");
    let (admin, connection) = tokio_postgres::connect(&admin, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await.unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    admin.query(terminate, &[&name]).await.unwrap();
    let away = until(&address, |now| now.get("fireflow_database_up") == 0.0).await;
    assert!(away.get("fireflow_database_outages_total") >= 1.0);
    assert_eq!(away.get("fireflow_ready"), 0.0);
    let began = Instant::now();
    let away = scrape(&address).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!away.has(&depth), "nothing is known of the queue");
    assert!(away.get("fireflow_lease_remaining_seconds") > 0.0);
    until(&address, |now| now.get("fireflow_database_connection_failures_total{purpose=\"work\"}") > 0.0).await;
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    until(&address, |now| now.get("fireflow_database_up") == 1.0 && now.has(&depth)).await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_a_reload_changes_is_told_as_well() {
    let mut settings = Settings::default();
    settings.worker.drain_timeout = Duration::from_secs(7);
    let worker = Worker::new(settings.clone());
    let told = async || {
        let text = worker.status().metrics_text(Format::Prometheus).await;
        Samples::of(&text).get("fireflow_drain_timeout_seconds")
    };
    assert_eq!(told().await, 7.0);
    settings.worker.drain_timeout = Duration::from_secs(90);
    worker.reloader().reload(settings).await.unwrap();
    assert_eq!(told().await, 90.0);
}

#[tokio::test]
async fn a_drain_is_told_until_the_end() {
    let bench = Bench::with(|ledger| vec![reporting("held", ledger)]).await;
    let worker = bench.worker("measured", &LISTENING).await;
    let address = address(&worker).await;
    bench.client.enqueue("HELD", "held", gated("HELD")).await;
    bench.ledger.entered("HELD", 1).await;
    worker.signal(rustix::process::Signal::TERM);
    let draining = until(&address, |now| now.get("fireflow_phase{phase=\"draining\"}") == 1.0).await;
    assert_eq!((draining.get("fireflow_ready"), draining.get("fireflow_drain_timeout_seconds")), (0.0, 30.0));
    let since = draining.get("fireflow_phase_start_time_seconds");
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    assert!((now - 60.0..=now).contains(&since), "{since} and {now}");
    bench.ledger.release("HELD");
    assert!(worker.stop().await.success());
}

fn expressions(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Json::String(text) if key == "expr" || key == "query" || key == "definition" => {
                        found.push(text.clone())
                    }
                    value => expressions(value, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn dashboard_and_alerts_use_no_metric_and_no_label_that_isn_t_there() {
    let known = labels::known(&file("tests/metrics/golden.txt"));
    let alerts = file("ops/prometheus/alerts.yaml");
    // From `expr:` to the next key.
    let rules = alerts.split("expr:").skip(1);
    let rules: Vec<&str> =
        rules.map(|rule| rule.split("for:").next().unwrap().split("labels:").next().unwrap()).collect();
    assert!(rules.len() > 20, "{rules:?}");
    for rule in rules {
        assert_eq!(labels::wrong(rule, &known), [""; 0], "in alerts.yaml: {rule}");
    }

    let dashboard: Json = serde_json::from_str(&file("ops/grafana/fireflow-worker.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for expression in found {
        assert_eq!(labels::wrong(&expression, &known), [""; 0], "in the dashboard: {expression}");
    }
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} is there twice", panel["id"]);
        assert!(
            panel["type"] == "row" || panel["description"].as_str().is_some_and(|about| !about.is_empty()),
            "{panel}"
        );
    }

    // Each alert has its place in the guide.
    let guide = file("docs/operations/observability.md");
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 15);
    // And a case in which it is told.
    let cases = file("ops/prometheus/alerts.test.yaml");
    let fires: BTreeSet<&str> = cases
        .split("alertname: ")
        .skip(1)
        .filter(|case| case.lines().nth(1).is_some_and(|line| line.trim() == "exp_alerts:"))
        .filter_map(|case| case.lines().next())
        .collect();
    for name in names {
        assert!(fires.contains(name), "alerts.test.yaml has no case in which {name} is told");
        assert!(guide.contains(&format!("### {name}\n")), "docs/operations/observability.md has no section {name}");
        assert!(alerts.contains(&format!("observability.md#{}\n", name.to_lowercase())), "{name} has no runbook");
    }
}

#[test]
fn promtool_takes_the_alerts_and_their_cases() {
    let Some(promtool) = tools::promtool() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/prometheus");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let ended = tools::run(Command::new(&promtool).args(arguments).current_dir(&folder), "").unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        assert!(ended.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
    }
    // Every expression of the dashboard is one.
    let dashboard: Json = serde_json::from_str(&file("ops/grafana/fireflow-worker.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let rules: String = found
        .iter()
        .filter(|expression| !expression.contains("label_values") && *expression != "prometheus")
        .enumerate()
        .map(|(number, expression)| {
            let expression = expression.replace("$__rate_interval", "5m");
            format!("      - record: panel:{number}\n        expr: {}\n", Json::from(expression))
        })
        .collect();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), format!("groups:\n  - name: panels\n    rules:\n{rules}")).unwrap();
    let ended =
        tools::run(Command::new(&promtool).args(["check", "rules", "--lint=none"]).arg(file.path()), "").unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    assert!(ended.status.success(), "{}\n{rules}", String::from_utf8_lossy(&said));
}

#[test]
fn samples_are_read_by_their_labels() {
    let samples = Samples::of("# TYPE a gauge\na{b=\"c d\"} 1.5\n");
    assert_eq!(samples.get("a{b=\"c d\"}"), 1.5);
}
