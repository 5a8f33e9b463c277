//! `queue show`

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value as Json, json};

use crate::{
    cli::{
        Global,
        access::Access,
        cells::{self, Cell},
        output::{self, Tone},
        watch::Watch,
    },
    config::{self, LimitSource},
    sysdb::{
        PartitionLimits, QueueLimits, RateLimit,
        operator::{QueueReport, Registered},
    },
};

/// Counts are bounded by this in the database.
const BOUND: i64 = 100_000;

/// Show what stands on queues, their limits and their pace.
///
/// By default all queues of the application.
///
/// JSON: [{name, paused: {since, by, reason, concurrency_before} or null, stopped, queued, delayed, running, oldest_at, oldest_age_ms,
/// started_last_minute, ended_last_minute, at_least, workers: {id: running}, limits: {registered, configured, in_force}, partition_count,
/// partitions: [{key, queued, running}]}]. Counts stop at 100000; what is delayed, started or ended is counted among as
/// many of all queues together, and `at_least` names those counts where that were not all. `stopped` is true where the limits in force let nothing be claimed.
#[derive(Debug, Args)]
pub struct Show {
    /// Names of queues
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: Watch,
}

impl Show {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::open(global).await?;
        let configured = access.queues();
        let (reports, _) = access.operator.queues(&self.names, &configured).await?;
        for report in &reports {
            if !is_known(report, &configured) {
                let (all, _) = access.operator.queues(&[], &configured).await?;
                let all: Vec<_> = all.into_iter().map(|report| report.name).collect();
                bail!("there is no queue \"{}\"; there are {}", report.name, all.join(", "));
            }
        }
        self.watch
            .show(async || {
                let (reports, now) = access.operator.queues(&self.names, &configured).await?;
                let settings = |name: &str| access.settings.queue.iter().find(|queue| queue.name == name);
                if self.json {
                    let all: Vec<_> =
                        reports.iter().map(|report| as_json(report, settings(&report.name), now)).collect();
                    return if self.watch.goes_on() { output::json_line(&all) } else { output::json_text(&all) };
                }
                let whole: Vec<_> = reports.iter().map(|report| text(report, settings(&report.name), now)).collect();
                Ok(if self.names.is_empty() && reports.len() > 1 {
                    table(&reports, settings, now)
                } else {
                    whole.join("\n")
                })
            })
            .await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether anybody knows it: it is configured, registered, paused, or has something on it.
pub(super) fn is_known(report: &QueueReport, configured: &[String]) -> bool {
    let QueueReport { registered, pause, queued, delayed, running, .. } = report;
    configured.contains(&report.name) || registered.is_some() || pause.is_some() || queued + delayed + running > 0
}

/// What claims go by: as the worker of this configuration does.
fn in_force(report: &QueueReport, settings: Option<&config::Queue>) -> Option<QueueLimits> {
    let registered = report.registered.as_ref().map(|registered| registered.limits.clone());
    let configured = settings.map(|queue| QueueLimits {
        concurrency: Some(queue.concurrency),
        worker_concurrency: Some(queue.worker_concurrency),
        rate: queue.rate_limit,
        partition: None,
        polling_interval: queue.polling_interval,
    });
    match settings {
        Some(queue) if queue.limits == LimitSource::Configured => configured,
        _ => registered.or(configured),
    }
}

fn is_stopped(report: &QueueReport, settings: Option<&config::Queue>) -> bool {
    report.pause.is_some() || in_force(report, settings).is_some_and(|limits| limits.is_paused())
}

fn state(report: &QueueReport, settings: Option<&config::Queue>) -> Cell {
    match (&report.pause, is_stopped(report, settings)) {
        (Some(_), _) => Cell::from("paused").toned(Some(Tone::Odd)),
        (None, true) => Cell::from("stopped").toned(Some(Tone::Odd)),
        (None, false) => Cell::from("open"),
    }
}

/// What is delayed, started and ended.
fn recent(report: &QueueReport) -> [String; 3] {
    let counts = [report.delayed, report.started, report.ended];
    std::array::from_fn(|kind| format!("{}{}", counts[kind], if report.at_least[kind] { "+" } else { "" }))
}

fn table<'s>(reports: &[QueueReport], settings: impl Fn(&str) -> Option<&'s config::Queue>, now: i64) -> String {
    let row = |report: &QueueReport| {
        let [delayed, started, ended] = recent(report);
        vec![
            Cell::new(&report.name, 48),
            state(report, settings(&report.name)),
            Cell::from(cells::count(report.queued, BOUND)),
            Cell::from(delayed),
            Cell::from(cells::count(report.running, BOUND)),
            Cell::or_dash(report.oldest.map(|oldest| cells::age(now, oldest)), 12),
            Cell::from(format!("{started}/min")),
            Cell::from(format!("{ended}/min")),
            Cell::from(report.workers.len()),
        ]
    };
    let header = ["QUEUE", "STATE", "QUEUED", "DELAYED", "RUNNING", "OLDEST", "STARTED", "ENDED", "WORKERS"];
    cells::table(&header, &reports.iter().map(row).collect::<Vec<_>>())
}

fn text(report: &QueueReport, settings: Option<&config::Queue>, now: i64) -> String {
    let [delayed, started, ended] = recent(report);
    let mut fields = vec![("queue", cells::clip(&report.name, 300)), ("state", state(report, settings).painted())];
    let mut add = |name, value: Option<String>| fields.extend(value.map(|value| (name, cells::clip(&value, 300))));
    if let Some(pause) = &report.pause {
        let by = pause.by.as_deref().unwrap_or("somebody");
        let why = pause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        add("paused", Some(format!("{} by {by}{why}", cells::relative(now, pause.since))));
        add("then", pause.registered.then(|| format!("registered concurrency {} again", known(pause.concurrency))));
        let reopened = report.registered.as_ref().is_some_and(|registered| registered.limits.concurrency != Some(0));
        let warning =
            "its registration has been changed meanwhile: workers of other SDKs may claim from it; pause it again";
        add("warning", reopened.then(|| warning.to_owned()));
    }
    add("queued", Some(cells::count(report.queued, BOUND)));
    add("delayed", Some(delayed));
    add("running", Some(cells::count(report.running, BOUND)));
    add("oldest", report.oldest.map(|oldest| cells::age(now, oldest)));
    add("last minute", Some(format!("{started} started, {ended} ended")));
    let since = |registered: &Registered| format!(", changed {}", cells::relative(now, registered.updated_at));
    let registered = report.registered.as_ref();
    add("registered", Some(registered.map_or_else(|| "no".into(), |own| limits(&own.limits) + &since(own))));
    let configured = settings.map(|queue| {
        let rate = queue.rate_limit.map(|rate| format!(", {rate}")).unwrap_or_default();
        let rules = match queue.limits {
            LimitSource::Registered if registered.is_some() => " (the registered ones hold)",
            LimitSource::Configured if registered.is_some() => " (these hold here)",
            _ => "",
        };
        format!("{} at once, {} in a worker{rate}{rules}", queue.concurrency, queue.worker_concurrency)
    });
    add("configured", Some(configured.unwrap_or_else(|| "not in this configuration".into())));
    let mut text = cells::fields(&fields);
    if !report.workers.is_empty() {
        let rows = report.workers.iter().map(|(id, running)| vec![Cell::new(id, 60), Cell::from(running)]);
        text.push('\n');
        text.push_str(&cells::table(&["WORKER", "RUNNING"], &rows.collect::<Vec<_>>()));
    }
    if !report.partitions.is_empty() {
        let rows = report.partitions.iter().map(|partition| {
            let (queued, running) = (cells::count(partition.queued, BOUND), cells::count(partition.running, BOUND));
            vec![Cell::new(&partition.key, 60), Cell::from(queued), Cell::from(running)]
        });
        text.push('\n');
        text.push_str(&cells::table(&["PARTITION", "QUEUED", "RUNNING"], &rows.collect::<Vec<_>>()));
        let left = report.partition_count - i64::try_from(report.partitions.len()).unwrap_or(i64::MAX);
        if left > 0 {
            text.push_str(&format!("… and {left} more\n"));
        }
    }
    text
}

/// A limit in words.
fn known(limit: Option<i32>) -> String {
    limit.map_or_else(|| "without limit".into(), |limit| limit.to_string())
}

fn limits(limits: &QueueLimits) -> String {
    let QueueLimits { concurrency, worker_concurrency, rate, partition, .. } = limits;
    let part = |concurrency: &Option<u32>, in_worker: &Option<u32>, rate: &Option<RateLimit>| {
        let mut parts = vec![concurrency.map_or_else(|| "no limit at once".into(), |limit| format!("{limit} at once"))];
        parts.extend(in_worker.map(|limit| format!("{limit} in a worker")));
        parts.extend(rate.map(|rate| rate.to_string()));
        parts.join(", ")
    };
    let mut text = part(concurrency, worker_concurrency, rate);
    if let Some(PartitionLimits { concurrency, worker_concurrency, rate }) = partition {
        text.push_str(&format!("; in a partition {}", part(concurrency, worker_concurrency, rate)));
    }
    text
}

fn limits_json(limits: &QueueLimits) -> Json {
    let part = |concurrency: Option<u32>, in_worker: Option<u32>, rate: Option<RateLimit>| {
        let rate = rate.map(|rate| json!({"max": rate.max, "period_ms": millis(rate.period)}));
        json!({"concurrency": concurrency, "worker_concurrency": in_worker, "rate_limit": rate})
    };
    let mut all = part(limits.concurrency, limits.worker_concurrency, limits.rate);
    all["polling_interval_ms"] = millis(limits.polling_interval).into();
    all["partition"] =
        limits.partition.as_ref().map_or(Json::Null, |own| part(own.concurrency, own.worker_concurrency, own.rate));
    all
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn as_json(report: &QueueReport, settings: Option<&config::Queue>, now: i64) -> Json {
    let paused = report.pause.as_ref().map(|pause| {
        json!({
            "since": cells::iso(pause.since), "by": pause.by, "reason": pause.reason,
            "concurrency_before": pause.registered.then_some(pause.concurrency).flatten(),
        })
    });
    let configured = settings.map(|queue| {
        json!({
            "concurrency": queue.concurrency, "worker_concurrency": queue.worker_concurrency,
            "rate_limit": queue.rate_limit.map(|rate| json!({"max": rate.max, "period_ms": millis(rate.period)})),
            "polling_interval_ms": millis(queue.polling_interval),
        })
    });
    let workers: Map<String, Json> =
        report.workers.iter().map(|(id, running)| (id.clone(), (*running).into())).collect();
    let partition =
        |one: &crate::sysdb::operator::Partition| json!({"key": one.key, "queued": one.queued, "running": one.running});
    let names = ["delayed", "started_last_minute", "ended_last_minute"].into_iter().zip(report.at_least);
    let at_least: Vec<&str> = names.filter_map(|(name, at_least)| at_least.then_some(name)).collect();
    json!({
        "name": report.name,
        "paused": paused,
        "stopped": is_stopped(report, settings),
        "queued": report.queued,
        "delayed": report.delayed,
        "running": report.running,
        "oldest_at": report.oldest.map(cells::iso),
        "oldest_age_ms": report.oldest.map(|oldest| now.saturating_sub(oldest).max(0)),
        "started_last_minute": report.started,
        "ended_last_minute": report.ended,
        "at_least": at_least,
        "workers": workers,
        "limits": {
            "registered": report.registered.as_ref().map(|registered| limits_json(&registered.limits)),
            "configured": configured,
            "in_force": in_force(report, settings).as_ref().map(limits_json),
        },
        "partition_count": report.partition_count,
        "partitions": report.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sysdb::operator::{Partition, Pause};

    fn report() -> QueueReport {
        let limits = QueueLimits {
            concurrency: Some(0),
            worker_concurrency: Some(4),
            rate: Some(RateLimit { max: 100, period: Duration::from_secs(60) }),
            partition: Some(PartitionLimits { concurrency: Some(1), worker_concurrency: None, rate: None }),
            polling_interval: Duration::from_secs(1),
        };
        QueueReport {
            name: "fireflow-executions".into(),
            registered: Some(Registered { limits, updated_at: 1_700_000_000_000 }),
            pause: Some(Pause {
                queue: "fireflow-executions".into(),
                since: 1_700_000_000_000,
                by: Some("ada@desk".into()),
                reason: Some("the vendor is down".into()),
                registered: true,
                concurrency: Some(20),
            }),
            queued: 100_000,
            delayed: 0,
            running: 3,
            oldest: Some(1_699_999_000_000),
            started: 12,
            ended: 9,
            at_least: [false, true, false],
            workers: vec![("worker-1".into(), 2), ("worker-2".into(), 1)],
            partitions: vec![Partition { key: "acme".into(), queued: 7, running: 1 }],
            partition_count: 30,
        }
    }

    #[test]
    fn a_queue_for_people() {
        let expected = "\
queue        fireflow-executions
state        paused
paused       1m ago by ada@desk: the vendor is down
then         registered concurrency 20 again
queued       100000+
delayed      0
running      3
oldest       18m
last minute  12+ started, 9 ended
registered   0 at once, 4 in a worker, 100 per 1m; in a partition 1 at once, changed 1m ago
configured   100 at once, 5 in a worker (the registered ones hold)

WORKER    RUNNING
worker-1  2
worker-2  1

PARTITION  QUEUED  RUNNING
acme       7       1
… and 29 more
";
        assert_eq!(text(&report(), Some(&config::Queue::default()), 1_700_000_090_000), expected);
        let mut reopened = report();
        if let Some(registered) = &mut reopened.registered {
            registered.limits.concurrency = Some(5);
        }
        assert!(text(&reopened, None, 0).contains("\nwarning      its registration has been changed"));
        let other = QueueReport {
            name: "mail".into(),
            registered: None,
            pause: None,
            queued: 0,
            running: 0,
            oldest: None,
            workers: vec![],
            at_least: [false; 3],
            ..report()
        };
        let expected = "\
QUEUE                STATE    QUEUED   DELAYED  RUNNING  OLDEST  STARTED  ENDED  WORKERS
fireflow-executions  paused   100000+  0        3        18m     12+/min  9/min  2
mail                 stopped  0        0        0        -       12/min   9/min  0
";
        let closed = config::Queue { name: "mail".into(), concurrency: 0, ..config::Queue::default() };
        assert_eq!(table(&[report(), other], |name| (name == "mail").then_some(&closed), 1_700_000_090_000), expected);
    }

    #[test]
    fn a_queue_for_scripts() {
        let shown = as_json(&report(), Some(&config::Queue::default()), 1_700_000_090_000);
        assert_eq!(shown["paused"]["concurrency_before"], 20);
        assert_eq!(shown["at_least"], json!(["started_last_minute"]));
        assert_eq!((&shown["stopped"], &shown["oldest_age_ms"]), (&json!(true), &json!(1_090_000)));
        assert_eq!(shown["workers"], json!({"worker-1": 2, "worker-2": 1}));
        assert_eq!(shown["limits"]["registered"], shown["limits"]["in_force"]);
        assert_eq!(shown["limits"]["configured"]["concurrency"], 100);
        assert_eq!(shown["limits"]["registered"]["rate_limit"], json!({"max": 100, "period_ms": 60_000}));
    }
}
