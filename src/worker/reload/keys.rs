//! Which settings may change while a worker runs, and how two configurations differ.

use std::fmt;

use serde_json::{Map, Value as Json};

use crate::config::Settings;

/// Whether a key can change while the worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// At once.
    Effect,
    /// With the next start.
    Restart,
}

use Takes::{Effect, Restart};

/// Every key. One that isn't here is taken to need a restart, and a test fails.
const KEYS: &[(&str, Takes)] = &[
    ("database.url", Restart),
    ("database.flows_url", Restart),
    // The files themselves are read again for each connection.
    ("database.password_file", Restart),
    ("database.flows_password_file", Restart),
    ("database.schema", Restart),
    ("database.table_prefix", Restart),
    ("database.pool_size", Restart),
    ("database.connect_timeout", Restart),
    ("database.statement_timeout", Restart),
    ("database.lock_timeout", Restart),
    ("database.keepalive", Restart),
    ("database.tcp_user_timeout", Restart),
    ("database.startup_wait", Restart),
    ("database.pooler", Restart),
    // Which queues there are. All else of a queue is found by its name.
    ("queue.name", Restart),
    ("queue.concurrency", Effect),
    ("queue.worker_concurrency", Effect),
    ("queue.rate_limit", Effect),
    ("queue.polling_interval", Effect),
    ("queue.limits", Effect),
    ("queue.weight", Effect),
    ("queue.notify_trigger", Effect), // only `migrate` reads it
    ("worker.id", Restart),
    ("worker.concurrency", Effect),
    ("worker.application_name", Restart),
    ("worker.application_version", Restart),
    ("worker.drain_timeout", Effect),
    ("worker.lease", Restart),
    ("execution.workflow_name", Restart),
    ("execution.class_name", Restart),
    ("execution.start", Restart),
    ("execution.start_timeout", Restart),
    ("execution.max_waiting", Effect),
    ("execution.max_recovery_attempts", Effect),
    ("execution.max_input", Restart),
    ("execution.flow_cache", Restart),
    ("execution.flow_version", Restart),
    ("recovery.max_crashes", Effect),
    ("recovery.adopt_executors", Effect),
    ("outbound.allow", Effect),
    ("outbound.deny", Effect),
    ("outbound.deny_private", Effect),
    ("outbound.proxy", Effect),
    ("outbound.ca_file", Effect),
    ("outbound.connect_timeout", Effect),
    ("outbound.timeout", Effect),
    ("outbound.max_redirects", Effect),
    ("outbound.allow_downgrade", Effect),
    ("outbound.max_request", Effect),
    ("outbound.max_response", Effect),
    ("outbound.max_response_headers", Effect),
    ("secrets.environment", Effect),
    ("secrets.folder", Effect),
    ("secrets.hosts", Effect),
    ("admin.enabled", Restart),
    ("admin.listen", Restart),
    // The file itself is read again for each request.
    ("admin.token_file", Restart),
    ("admin.allow_unauthenticated", Restart),
    ("log.level", Effect),
    ("log.format", Restart),
    ("trace.endpoint", Restart),
    ("trace.headers_file", Restart),
    ("trace.headers_variable", Restart),
    ("trace.sample_ratio", Restart),
    ("trace.service_name", Restart),
    ("trace.timeout", Restart),
];

/// Keys whose values may hold a password.
const HIDDEN: [&str; 4] = ["database.url", "database.flows_url", "outbound.proxy", "trace.endpoint"];

/// Longest value that is shown, in characters.
const SHOWN: usize = 200;

/// A key with its value before and after. Values that may hold a password are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, dotted: `queue.concurrency`; with several queues, `queue "name".concurrency`.
    pub key: String,
    /// The value before, for people.
    pub from: String,
    /// The value after, for people.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.key, self.from, self.to)
    }
}

/// The old settings, with those of the new ones that take effect at once.
pub(super) fn merged(old: &Settings, new: &Settings) -> Settings {
    let mut next = old.clone();
    for queue in next.queue.iter_mut() {
        if let Some(new) = new.queue.iter().find(|new| new.name == queue.name) {
            queue.clone_from(new);
        }
    }
    next.worker.concurrency = new.worker.concurrency;
    next.worker.drain_timeout = new.worker.drain_timeout;
    next.execution.max_waiting = new.execution.max_waiting;
    next.execution.max_recovery_attempts = new.execution.max_recovery_attempts;
    next.recovery = new.recovery.clone();
    next.outbound = new.outbound.clone();
    next.secrets = new.secrets.clone();
    next.log.level.clone_from(&new.log.level);
    next
}

/// In what they differ: what takes effect at once, and what needs a restart.
pub(super) fn changes(old: &Settings, new: &Settings) -> (Vec<Change>, Vec<Change>) {
    let (mut live, mut restart) = (Vec::new(), Vec::new());
    let names = |settings: &Settings| settings.queue.iter().map(|queue| queue.name.clone()).collect::<Vec<_>>();
    let (before, after) = (names(old), names(new));
    if before != after {
        let text = |names: &[String]| Json::from(names.join(", ")).to_string();
        restart.push(Change { key: "queue.name".into(), from: text(&before), to: text(&after) });
    }
    let several = old.queue.are_several() || new.queue.are_several();
    let mut tell = |shown: &str, key: &str, from: Option<&Json>, to: Option<&Json>| {
        let text = |value: Option<&Json>| match value {
            _ if HIDDEN.contains(&key) => "(not shown)".to_owned(),
            None | Some(Json::Null) => "(not set)".to_owned(),
            Some(value) => shorter(&value.to_string()),
        };
        let change = Change { key: shown.to_owned(), from: text(from), to: text(to) };
        match takes(key) {
            Effect => live.push(change),
            Restart => restart.push(change),
        }
    };
    for queue in old.queue.iter() {
        let Some(other) = new.queue.iter().find(|other| other.name == queue.name) else { continue };
        let shown = if several { format!("queue \"{}\"", queue.name) } else { "queue".to_owned() };
        differences(&tree(queue), &tree(other), "queue", &mut |key, from, to| {
            tell(&key.replacen("queue", &shown, 1), key, from, to);
        });
    }
    let rest = |settings: &Settings| {
        let mut tree = tree(settings);
        tree.as_object_mut().and_then(|sections| sections.remove("queue"));
        tree
    };
    differences(&rest(old), &rest(new), "", &mut |key, from, to| tell(key, key, from, to));
    (live, restart)
}

fn tree(settings: &impl serde::Serialize) -> Json {
    serde_json::to_value(settings).unwrap_or_default() // plain data with keys that are texts
}

fn takes(key: &str) -> Takes {
    KEYS.iter().find(|(known, _)| *known == key).map_or(Restart, |(_, takes)| *takes)
}

/// Call with each key that differs. A key of the list above is compared as a whole, whatever is in it.
fn differences(old: &Json, new: &Json, path: &str, tell: &mut impl FnMut(&str, Option<&Json>, Option<&Json>)) {
    let known = KEYS.iter().any(|(known, _)| *known == path);
    let (Json::Object(before), Json::Object(after), false) = (old, new, known) else {
        if old != new {
            tell(path, Some(old), Some(new));
        }
        return;
    };
    let (unset, empty) = (Json::Null, Json::Object(Map::new()));
    let absent = |key: &str| if KEYS.iter().any(|(known, _)| *known == key) { &unset } else { &empty };
    let added = after.keys().filter(|key| !before.contains_key(*key));
    for key in before.keys().chain(added) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let (old, new) = (before.get(key), after.get(key));
        differences(old.unwrap_or_else(|| absent(&path)), new.unwrap_or_else(|| absent(&path)), &path, tell);
    }
}

fn shorter(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    /// The reference, with its optional keys.
    const REFERENCE: &str = include_str!("../../../config/worker.toml");

    /// Every key with another value than the reference has.
    const OTHER: &str = r#"
[database]
url = "postgres://me:hush@other:5432/fireflow"
flows_url = "postgres://me:hush@other:5432/flows"
password_file = "/other-password"
flows_password_file = "/other-flows-password"
schema = "other"
table_prefix = "other_"
pool_size = 7
connect_timeout = "11s"
statement_timeout = "2m"
lock_timeout = "3s"
keepalive = "6s"
tcp_user_timeout = "11s"
startup_wait = "2m"
pooler = "none"
[queue]
name = "fireflow-executions"
concurrency = 101
worker_concurrency = 6
rate_limit = "7 per 1s"
polling_interval = "300ms"
notify_trigger = true
limits = "configured"
weight = 2
[worker]
id = "worker-2"
concurrency = 4
application_name = "other"
application_version = "2.0.0"
drain_timeout = "31s"
lease = "31s"
[execution]
workflow_name = "other"
class_name = "Others"
start = "signal"
start_timeout = "6m"
max_waiting = 1001
max_recovery_attempts = 101
max_input = "17MiB"
flow_cache = 129
flow_version = "strict"
[recovery]
max_crashes = 4
adopt_executors = ["gone"]
[outbound]
allow = ["a.example"]
deny = ["b.example"]
deny_private = true
proxy = "http://me:hush@proxy.example:3128"
ca_file = "/other.crt"
connect_timeout = "11s"
timeout = "11m"
max_redirects = 21
allow_downgrade = true
max_request = "65MiB"
max_response = "65MiB"
max_response_headers = "65KiB"
[secrets]
environment = ["A"]
folder = "/other"
[secrets.hosts]
A = ["a.example"]
[admin]
enabled = false
listen = "127.0.0.1:7421"
allow_unauthenticated = true
[log]
level = "debug"
format = "json"
[trace]
endpoint = "http://me:hush@other:4318"
headers_file = "/other-headers"
headers_variable = "OTHER"
sample_ratio = 0.5
service_name = "other"
timeout = "6s"
"#;

    fn settings(text: &str) -> Settings {
        load_text(Some(("test.toml".as_ref(), text)), [], Vec::new()).unwrap().0
    }

    fn reference() -> Settings {
        let optional = |line: &str| {
            let rest = line.strip_prefix("# ")?;
            let (key, _) = rest.split_once(" = ")?;
            key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| rest.to_owned())
        };
        let lines: Vec<String> = REFERENCE.lines().map(|line| optional(line).unwrap_or_else(|| line.into())).collect();
        settings(&lines.join("\n"))
    }

    fn keys(changes: &[Change]) -> Vec<&str> {
        changes.iter().map(|change| change.key.as_str()).collect()
    }

    #[test]
    fn every_key_is_either_taken_over_or_named() {
        let (old, new) = (reference(), settings(OTHER));
        let mut found = Vec::new();
        differences(&tree(&old), &tree(&new), "", &mut |key, _, _| found.push(key.to_owned()));
        let mut listed: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
        listed.retain(|key| *key != "queue.name"); // that queue is another one
        found.sort();
        listed.sort_unstable();
        assert_eq!(found, listed, "a key is missing in KEYS, or in this test's other configuration");

        // All keys of the settings, whether or not they differ.
        let mut all = Vec::new();
        differences(&tree(&reference()), &Json::Object(Map::new()), "", &mut |key, _, _| all.push(key.to_owned()));
        all.sort();
        let mut known: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
        known.sort_unstable();
        assert_eq!(all, known, "a key of the settings is missing in KEYS");

        let (live, restart) = changes(&old, &new);
        let expected = |takes: Takes| KEYS.iter().filter(|(key, is)| *is == takes && *key != "queue.name").count();
        assert_eq!((live.len(), restart.len()), (expected(Effect), expected(Restart)));
        // What is said to be taken over is, and nothing else.
        let next = merged(&old, &new);
        assert_eq!(keys(&changes(&old, &next).0), keys(&live));
        assert_eq!(keys(&changes(&next, &new).1), keys(&restart));
        assert_eq!((changes(&old, &next).1, changes(&next, &new).0), (vec![], vec![]));
    }

    #[test]
    fn values_are_shown_unless_they_may_hold_a_password() {
        let (live, restart) = changes(&reference(), &settings(OTHER));
        let all: Vec<String> = live.iter().chain(&restart).map(Change::to_string).collect();
        for text in [
            "queue.concurrency: 100 -> 101",
            "worker.lease: \"30s\" -> \"31s\"",
            "outbound.allow: [] -> [\"a.example\"]",
            "database.url: (not shown) -> (not shown)",
        ] {
            assert!(all.iter().any(|change| change == text), "{text} is missing in {all:#?}");
        }
        assert!(!all.concat().contains("hush"));
        let (live, _) = changes(&settings(""), &settings("[worker]\nconcurrency = 3"));
        assert_eq!(live[0].to_string(), "worker.concurrency: (not set) -> 3");
    }

    #[test]
    fn queues_are_compared_by_name() {
        let old = settings("[[queue]]\nname = \"a\"\n[[queue]]\nname = \"b\"");
        let new = settings("[[queue]]\nname = \"b\"\nweight = 3\n[[queue]]\nname = \"c\"\nweight = 9");
        let (live, restart) = changes(&old, &new);
        assert_eq!((keys(&live), keys(&restart)), (vec!["queue \"b\".weight"], vec!["queue.name"]));
        assert_eq!(restart[0].to_string(), "queue.name: \"a, b\" -> \"b, c\"");
        let next = merged(&old, &new);
        let queues: Vec<_> = next.queue.iter().map(|queue| (queue.name.as_str(), queue.weight)).collect();
        assert_eq!(queues, [("a", 1), ("b", 3)]);
    }
}
