//! The measures. Rows are put on the queue in one transaction while the contender runs and is idle.

use std::time::{Duration, Instant};

use super::{
    contender::{Poll, Running},
    process,
    report::Figures,
    server::Stage,
};

/// How many run at once, and how it is looked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Full,
    Few,
    FewFast,
}

impl Load {
    pub const ALL: [Load; 3] = [Load::Full, Load::Few, Load::FewFast];

    pub fn name(self) -> &'static str {
        match self {
            Load::Full => "100 slots, 10 ms poll",
            Load::Few => "5 slots, defaults",
            Load::FewFast => "5 slots, 10 ms poll",
        }
    }

    fn slots(self) -> u32 {
        if self == Load::Full { 100 } else { 5 }
    }
}

/// Whether anything is on the queue or runs. A question that costs little, whatever waits.
async fn busy(stage: &Stage) -> bool {
    let any = "SELECT EXISTS (SELECT FROM unnest(ARRAY['bench', 'bench-1', 'bench-2', 'bench-3']) q(name), dbos.workflow_status
                               WHERE queue_name = q.name AND status IN ('ENQUEUED', 'PENDING'))";
    stage.sql.query_one(any, &[]).await.unwrap().get(0)
}

/// Until nothing is on the queue, asked for every so often.
pub async fn until_done(stage: &Stage, pause: Duration) {
    while busy(stage).await {
        tokio::time::sleep(pause).await;
    }
}

/// When the last of these ended. Times in rows are whole milliseconds.
pub async fn ended(stage: &Stage, prefix: &str) -> f64 {
    let last = "SELECT max(updated_at)::float8 FROM dbos.workflow_status WHERE workflow_uuid LIKE $1 || '-%'";
    stage.sql.query_one(last, &[&prefix]).await.unwrap().get::<_, f64>(0) + 0.5
}

/// Milliseconds of the machine's clock, which rows are stamped with as well.
pub fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64() * 1e3
}

/// So many that a run takes some seconds, by what is known of the contender's speed.
fn enough(stage: &Stage, load: Load, scale: usize) -> usize {
    use super::contender::Contender::{Ours, Python};
    let count = match (stage.contender, load) {
        (Ours, Load::Full) => 20_000,
        (Ours, _) => 5_000,
        (_, Load::Few) => 50,
        (Python, _) => 800,
        _ => 2_000,
    };
    (count / scale).max(20)
}

/// What a number of workflows cost, from before to after.
struct Meter {
    worker: f64,
    server: f64,
    commits: i64,
    wal: i64,
}

impl Meter {
    async fn read(stage: &Stage, fleet: &[Running]) -> Meter {
        let commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        let wal = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
        Meter {
            commits: stage.count(commits).await,
            wal: stage.count(wal).await,
            worker: fleet.iter().map(|running| process::cpu(running.pid(), true)).sum(),
            server: stage.server_cpu(),
        }
    }
}

pub async fn throughput(stage: &mut Stage, load: Load, scale: usize) -> Figures {
    let count = enough(stage, load, scale);
    let poll = if load == Load::Few { stage.contender.default_poll() } else { stage.contender.fastest_poll() };
    let mut runs = Vec::new();
    for round in 0..3 {
        let prefix = format!("{}-{round}", load.slots());
        runs.push(one_run(stage, (1, load.slots(), &["bench"]), poll, "pattern-steps", &prefix, count).await);
        clear(stage).await;
    }
    Figures::median(runs)
}

/// One run of so many workflows, by so many processes with so many slots each, that share these queues.
pub async fn one_run(
    stage: &mut Stage,
    (processes, slots, queues): (usize, u32, &[&str]),
    poll: Poll,
    pattern: &str,
    prefix: &str,
    count: usize,
) -> Figures {
    stage.settle().await;
    let fleet = stage.fleet(processes, queues, slots, poll).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Enqueuing is not part of it.
    stage.rows.enqueue_on(&stage.sql, queues, pattern, prefix, count).await;
    stage.sql.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let began = now();
    let enqueued = Meter::read(stage, &fleet).await;
    until_done(stage, Duration::from_millis(100)).await;
    // The last one's own time of its end: asking often would cost more than it tells.
    let took = (ended(stage, prefix).await - began) / 1e3;
    tokio::time::sleep(Duration::from_millis(1_500)).await; // for statistics to come in
    let after = Meter::read(stage, &fleet).await;
    let each = count as f64;
    if std::env::args().any(|argument| argument == "--statements") {
        statements(stage, each).await;
    }
    // Rows in the order of their ends: how fast the second half went.
    let half =
        "SELECT COALESCE(extract(epoch FROM max(at) - percentile_disc(0.5) WITHIN GROUP (ORDER BY at)), 0)::float8
                  FROM (SELECT to_timestamp(updated_at / 1000.0) AS at FROM dbos.workflow_status
                         WHERE workflow_uuid LIKE $1 || '-%' AND status = 'SUCCESS') ended";
    let half: f64 = stage.sql.query_one(half, &[&prefix]).await.unwrap().get(0);
    let mut figures = Figures::default();
    figures.set("workflows/s", each / took);
    figures.set("second half/s", if half > 0.0 { each / 2.0 / half } else { 0.0 });
    figures.set("worker CPU ms", (after.worker - enqueued.worker) * 1e3 / each);
    figures.set("PostgreSQL CPU ms", (after.server - enqueued.server) * 1e3 / each);
    figures.set("commits", (after.commits - enqueued.commits) as f64 / each);
    figures.set("WAL bytes", (after.wal - enqueued.wal) as f64 / each);
    figures.set("peak MiB", process::memory(fleet[0].pid()).0);
    for running in fleet {
        running.kill().await;
    }
    figures
}

/// The statements that took most of the server's time, to stderr: microseconds and calls a workflow.
async fn statements(stage: &Stage, each: f64) {
    let top = "SELECT total_exec_time * 1000, calls::float8, rows::float8, regexp_replace(query, '\\s+', ' ', 'g')
                 FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 16";
    for row in stage.sql.query(top, &[]).await.unwrap() {
        let (time, calls, rows, query): (f64, f64, f64, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
        let ends = query.char_indices().rev().nth(60).map_or(0, |(place, _)| place);
        let begins: String = query.chars().take(90).collect();
        eprintln!(
            "    {:7.1} µs {:6.3} calls {:6.3} rows  {begins} … {}",
            time / each,
            calls / each,
            rows / each,
            &query[ends..]
        );
    }
}

/// What was run goes, so that every run begins with the same history.
pub async fn clear(stage: &Stage) {
    for table in ["operation_outputs", "streams", "workflow_input", "workflow_output", "workflow_status"] {
        let there = "SELECT to_regclass('dbos.' || $1::text) IS NOT NULL";
        if stage.sql.query_one(there, &[&table]).await.unwrap().get(0) {
            let gone = format!(
                "DELETE FROM dbos.{table} WHERE workflow_uuid NOT LIKE 'history-%' AND workflow_uuid NOT LIKE 'pattern-%'"
            );
            stage.sql.batch_execute(&gone).await.unwrap();
        }
    }
    if stage.contender == super::contender::Contender::Ours {
        stage.sql.batch_execute("DELETE FROM fireflow_executions WHERE id NOT LIKE 'pattern-%'").await.unwrap();
    }
}

/// One at a time on an idle worker: from the enqueue's commit to the first step, and to its end. By the clock of the
/// machine, which all share, in milliseconds.
pub async fn latency(stage: &mut Stage, pattern: &str, poll: Poll, scale: usize) -> Figures {
    let running = stage.run(5, poll).await;
    tokio::time::sleep(stage.contender.settling(poll)).await;
    let (mut picked, mut ended) = (Vec::new(), Vec::new());
    let samples = (if poll.interval < Duration::from_millis(100) { 100 } else { 60 } / scale).max(10);
    for sample in 0..samples {
        let prefix = format!("one-{sample}");
        stage.rows.enqueue(&stage.sql, pattern, &prefix, 1).await;
        let committed = now();
        until_done(stage, Duration::from_millis(20)).await;
        let times =
            "SELECT (SELECT min(started_at_epoch_ms) FROM dbos.operation_outputs WHERE workflow_uuid = $1)::float8,
                            updated_at::float8 FROM dbos.workflow_status WHERE workflow_uuid = $1";
        let row = stage.sql.query_one(times, &[&format!("{prefix}-1")]).await.unwrap();
        // Times in rows are whole milliseconds.
        picked.push((row.get::<_, f64>(0) + 0.5 - committed).max(0.0));
        ended.push((row.get::<_, f64>(1) + 0.5 - committed).max(0.0));
        let pause = poll.interval.as_millis() as u64;
        tokio::time::sleep(Duration::from_millis(20 + rand::random_range(0..=pause.min(1_000)))).await;
    }
    running.kill().await;
    stage.unannounced().await;
    clear(stage).await;
    let mut figures = Figures::default();
    for (name, mut times) in [("pick-up", picked), ("SUCCESS", ended)] {
        times.sort_by(f64::total_cmp);
        for part in [50, 95, 99] {
            let place = (times.len() * part).div_ceil(100).saturating_sub(1);
            figures.set(&format!("{name} p{part} ms"), times[place]);
        }
    }
    figures
}

/// What a worker asks for that has nothing to do, in ten seconds.
pub async fn idle(stage: &mut Stage, poll: Poll) -> Figures {
    let running = stage.run(5, poll).await;
    tokio::time::sleep(stage.contender.settling(poll)).await;
    stage.sql.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    let before = process::cpu(running.pid(), true);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let calls =
        "SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";
    let seconds = began.elapsed().as_secs_f64();
    let calls = stage.count(calls).await;
    let mut figures = Figures::default();
    figures.set("statements/s", calls as f64 / seconds);
    figures.set("CPU %", (process::cpu(running.pid(), true) - before) / seconds * 100.0);
    figures.set("resident MiB", process::memory(running.pid()).1);
    running.kill().await;
    stage.unannounced().await;
    figures
}

/// From the start of the process to the first success, of a workflow that waits for it already.
pub async fn start(stage: &mut Stage) -> Figures {
    let mut times = Vec::new();
    for round in 0..5 {
        let prefix = format!("start-{round}");
        stage.rows.enqueue(&stage.sql, "pattern-steps", &prefix, 1).await;
        let began = now();
        let (contender, url) = (stage.contender, stage.url.clone());
        let started =
            tokio::spawn(async move { contender.start(&url, 5, contender.fastest_poll(), false).await.unwrap() });
        until_done(stage, Duration::from_millis(20)).await;
        times.push(ended(stage, &prefix).await - began);
        started.await.unwrap().kill().await;
    }
    clear(stage).await;
    times.sort_by(f64::total_cmp);
    Figures::of("start to SUCCESS ms", times[times.len() / 2])
}

/// A hundred in flight, each with a step of two seconds; killed in their middle, and started again.
pub async fn crash(stage: &mut Stage) -> Figures {
    let mut times = Vec::new();
    for round in 0..3 {
        let running = stage.run(100, stage.contender.fastest_poll()).await;
        stage.rows.enqueue(&stage.sql, "pattern-slow", &format!("slow-{round}"), 100).await;
        let pending = "SELECT count(*) FROM dbos.workflow_status WHERE queue_name = 'bench' AND status = 'PENDING'";
        while stage.count(pending).await < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        running.kill().await;
        let began = Instant::now();
        let running = stage.run(100, stage.contender.fastest_poll()).await;
        until_done(stage, Duration::from_millis(5)).await;
        times.push(began.elapsed().as_secs_f64());
        running.kill().await;
    }
    clear(stage).await;
    times.sort_by(f64::total_cmp);
    Figures::of("kill -9 to all done s", times[1])
}

/// As [`crash`], but nobody starts it again: another worker, which has been there, takes over. No SDK's process does.
pub async fn takeover(stage: &mut Stage) -> Figures {
    let mut times = Vec::new();
    for round in 0..3 {
        let poll = stage.contender.default_poll();
        let first = stage.contender.start_as("bench-first", "bench", &stage.url, 100, poll, false).await.unwrap();
        stage.rows.enqueue(&stage.sql, "pattern-slow", &format!("left-{round}"), 100).await;
        let pending = "SELECT count(*) FROM dbos.workflow_status WHERE queue_name = 'bench' AND status = 'PENDING'";
        while stage.count(pending).await < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let second = stage.contender.start_as("bench-second", "bench", &stage.url, 100, poll, false).await.unwrap();
        first.kill().await;
        let began = Instant::now();
        until_done(stage, Duration::from_millis(5)).await;
        times.push(began.elapsed().as_secs_f64());
        second.kill().await;
    }
    clear(stage).await;
    times.sort_by(f64::total_cmp);
    Figures::of("kill -9 to all done by another, lease 30 s, s", times[1])
}
