//! Checks that go beyond types: ranges, and keys that depend on each other.

use std::time::Duration;

use super::{Outbound, Problem, Queue, Secrets, Settings, Sources, Trace};

/// Longest name that fits the `varchar(255)` columns of the system schema.
const NAME_MAX: usize = 255;

/// Everything that is wrong, in the order of the sections.
pub(super) fn problems(settings: &Settings, sources: &Sources) -> Vec<Problem> {
    let mut check = Check { sources, found: Vec::new() };
    let Settings { database, queue, worker, execution, recovery, outbound, secrets, admin, log, trace } = settings;

    let urls = [("database.url", Some(&database.url)), ("database.flows_url", database.flows_url.as_ref())];
    for (key, url) in urls.into_iter().filter_map(|(key, url)| Some((key, url?))) {
        if let Err(error) = url.parse::<crate::postgres::DatabaseUrl>() {
            check.wrong(key, error.to_string());
        }
    }
    check.identifier("database.schema", &database.schema);
    check.identifier("database.table_prefix", &database.table_prefix);
    check.range("database.pool_size", database.pool_size as u64, 2, 1000);
    check.duration("database.connect_timeout", database.connect_timeout, "100ms", "10m");
    check.duration("database.statement_timeout", database.statement_timeout, "1s", "1h");
    check.duration("database.lock_timeout", database.lock_timeout, "10ms", "1m");
    check.duration("database.keepalive", database.keepalive, "1s", "1h");
    check.duration("database.tcp_user_timeout", database.tcp_user_timeout, "1s", "1h");
    check.duration("database.startup_wait", database.startup_wait, "0s", "24h");

    for (position, one) in queue.iter().enumerate() {
        let section = if queue.are_several() { format!("queue[{position}]") } else { "queue".to_owned() };
        check.queue(&section, one);
        let before = queue.iter().take(position).position(|earlier| earlier.name == one.name);
        check.that(before.is_none(), &format!("{section}.name"), || {
            format!("\"{}\" is queue[{}] already; each queue is listed once", one.name, before.unwrap_or_default())
        });
    }
    let (together, queues) = (queue.worker_concurrency(), queue.iter().count());
    if let Some(concurrency) = worker.concurrency {
        let least = u64::try_from(queues).unwrap_or(u64::MAX);
        check.that((least..=u64::from(together)).contains(&concurrency.into()), "worker.concurrency", || {
            format!(
                "{concurrency} is not allowed; {least} to {together}, for {queues} queues that may run {together} executions \
                 here (worker_concurrency)"
            )
        });
    }

    if let Some(id) = &worker.id {
        check.name("worker.id", id);
        check.that(id != "local", "worker.id", || {
            "\"local\" is what every DBOS process without an id calls itself; choose a name of your own".into()
        });
    }
    check.name("worker.application_version", &worker.application_version);
    let application = &worker.application_name;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    check.that(
        (3..=256).contains(&application.len()) && application.chars().all(legal),
        "worker.application_name",
        || format!("\"{application}\" is not allowed; 3 to 256 characters of a-z, 0-9, _ and -"),
    );
    check.duration("worker.drain_timeout", worker.drain_timeout, "0s", "24h");
    check.duration("worker.lease", worker.lease, "2s", "1h");

    check.name("execution.workflow_name", &execution.workflow_name);
    check.name("execution.class_name", &execution.class_name);
    check.duration("execution.start_timeout", execution.start_timeout, "1ms", "30days");
    check.range("execution.max_waiting", execution.max_waiting.into(), 1, 1_000_000);
    check.range("execution.max_recovery_attempts", execution.max_recovery_attempts.into(), 1, 1_000_000);
    check.range("execution.max_input", execution.max_input.as_u64(), 1024, crate::wire::MAX_PAYLOAD_BYTES as u64);
    check.range("execution.flow_cache", execution.flow_cache as u64, 0, 100_000);

    check.range("recovery.max_crashes", recovery.max_crashes.into(), 2, 1_000_000);
    let host = || gethostname::gethostname().to_string_lossy().into_owned(); // the default id
    let me = worker.id.clone().unwrap_or_else(host);
    for executor in &recovery.adopt_executors {
        check.name("recovery.adopt_executors", executor);
        check.that(*executor != me, "recovery.adopt_executors", || {
            format!("\"{executor}\" is this worker itself; what its own earlier life left is recovered anyway")
        });
    }

    check.outbound(outbound);
    check.secrets(secrets);

    check.that(!admin.allow_unauthenticated || admin.token_file.is_none(), "admin.allow_unauthenticated", || {
        "there is a token (admin.token_file), which would count for nothing; remove the one or the other".into()
    });

    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&log.level) {
        check.wrong(
            "log.level",
            format!("\"{}\": {error}; expected error, warn, info, debug, trace or directives", log.level),
        );
    }
    check.trace(trace);
    check.found
}

struct Check<'a> {
    sources: &'a Sources,
    found: Vec<Problem>,
}

impl Check<'_> {
    fn wrong(&mut self, key: &str, text: String) {
        self.found.push(Problem { source: self.sources.of(key), key: key.into(), text });
    }

    fn that(&mut self, holds: bool, key: &str, text: impl FnOnce() -> String) {
        if !holds {
            self.wrong(key, text());
        }
    }

    fn queue(&mut self, section: &str, queue: &Queue) {
        let key = |name: &str| format!("{section}.{name}");
        self.name(&key("name"), &queue.name);
        self.that(queue.name != crate::sysdb::INTERNAL_QUEUE, &key("name"), || {
            "is DBOS's internal queue, which is served anyway".into()
        });
        self.range(&key("concurrency"), queue.concurrency.into(), 1, 100_000);
        self.range(&key("worker_concurrency"), queue.worker_concurrency.into(), 1, 10_000);
        self.that(queue.worker_concurrency <= queue.concurrency, &key("worker_concurrency"), || {
            format!(
                "{} is more than {section}.concurrency ({}, over all workers); allowed: 1 to {}",
                queue.worker_concurrency, queue.concurrency, queue.concurrency
            )
        });
        if let Some(rate) = queue.rate_limit {
            self.range(&key("rate_limit"), rate.max.into(), 1, 1_000_000);
            self.duration(&key("rate_limit"), rate.period, "1ms", "30days");
        }
        self.duration(&key("polling_interval"), queue.polling_interval, "1ms", "10m");
        self.range(&key("weight"), queue.weight.into(), 1, 1000);
    }

    fn outbound(&mut self, outbound: &Outbound) {
        if let Some(proxy) = &outbound.proxy {
            let url = url::Url::parse(proxy).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            // The URL may hold a password, so it isn't shown.
            self.that(url.is_some(), "outbound.proxy", || {
                "is no URL that starts with http:// or https://, such as \"http://proxy.example.com:3128\"".into()
            });
        }
        self.duration("outbound.connect_timeout", outbound.connect_timeout, "10ms", "10m");
        self.duration("outbound.timeout", outbound.timeout, "100ms", "24h");
        self.range("outbound.max_redirects", outbound.max_redirects.into(), 0, 100);
        const GIB: u64 = 1 << 30;
        self.range("outbound.max_request", outbound.max_request.as_u64(), 1024, GIB);
        self.range("outbound.max_response", outbound.max_response.as_u64(), 1024, GIB);
        self.range("outbound.max_response_headers", outbound.max_response_headers.as_u64(), 1024, 1 << 20);
    }

    fn trace(&mut self, trace: &Trace) {
        if let Some(endpoint) = &trace.endpoint {
            let url = url::Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            // The URL may hold a token, so it isn't shown.
            self.that(url.is_some(), "trace.endpoint", || {
                "is no URL that starts with http:// or https://, such as \"http://127.0.0.1:4318\"".into()
            });
        }
        self.that((0.0..=1.0).contains(&trace.sample_ratio), "trace.sample_ratio", || {
            format!("{} is not allowed; 0 to 1", trace.sample_ratio)
        });
        self.name("trace.service_name", &trace.service_name);
        self.duration("trace.timeout", trace.timeout, "100ms", "1m");
    }

    fn secrets(&mut self, secrets: &Secrets) {
        for variable in &secrets.environment {
            let name = variable.strip_suffix('*').unwrap_or(variable);
            self.that(crate::nodes::secrets::is_name(name), "secrets.environment", || {
                format!("\"{variable}\" is not allowed; a variable's name, or a beginning and `*`, such as \"FLOW_*\"")
            });
        }
        for name in secrets.hosts.keys() {
            self.that(crate::nodes::secrets::is_name(name), &format!("secrets.hosts.{name}"), || {
                "no secret can have this name; letters, digits, `_` and `-`".into()
            });
        }
        self.that(secrets.hosts.is_empty() || secrets.any(), "secrets.hosts", || {
            "there are no secrets to send; set secrets.environment or secrets.folder".into()
        });
    }

    fn range(&mut self, key: &str, value: u64, low: u64, high: u64) {
        self.that((low..=high).contains(&value), key, || format!("{value} is not allowed; {low} to {high}"));
    }

    fn duration(&mut self, key: &str, value: Duration, low: &str, high: &str) {
        let bound = |text| humantime::parse_duration(text).unwrap_or_default();
        self.that((bound(low)..=bound(high)).contains(&value), key, || {
            format!("\"{}\" is not allowed; \"{low}\" to \"{high}\"", humantime::format_duration(value))
        });
    }

    fn name(&mut self, key: &str, value: &str) {
        let legal = !value.trim().is_empty() && value.len() <= NAME_MAX && !value.chars().any(char::is_control);
        self.that(legal, key, || {
            format!("\"{value}\" is not allowed; 1 to {NAME_MAX} bytes, not blank, no control characters")
        });
    }

    /// Part of a table's name: PostgreSQL cuts identifiers at 63 bytes, so ours stay well below.
    fn identifier(&mut self, key: &str, value: &str) {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let legal =
            value.len() <= 30 && value.starts_with(first) && value.chars().all(|c| first(c) || c.is_ascii_digit());
        self.that(legal, key, || {
            format!("\"{value}\" is not allowed; up to 30 characters of a-z, 0-9 and _, not a digit first")
        });
    }
}
