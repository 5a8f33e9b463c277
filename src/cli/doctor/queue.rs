//! Checks of what waits and what runs.

use std::collections::BTreeMap;

use super::finding::{Finding, age, counted, list, many, or_ok};
use super::{Found, Visit};
use crate::config::{LimitSource, Queue};
use crate::sysdb::INTERNAL_QUEUE;
use crate::sysdb::doctor::{Group, PausedQueue, Registered};

/// What waits for too long although somebody could take it.
pub(super) async fn waiting(visit: &Visit) -> Found {
    let mut versions = visit.versions();
    versions.extend([String::new(), visit.settings.worker.application_version.clone()]);
    let mut found = Vec::new();
    for queue in visit.examiner.looked_at() {
        let waiting = visit.examiner.waiting(&queue, &versions).await?;
        if waiting.is_empty() {
            continue;
        }
        let text = format!(
            "{} waiting for up to {} on queue {queue}, such as {}",
            counted(&waiting, "execution"),
            age(waiting.oldest),
            list(&waiting.examples)
        );
        // Every worker of ours looks at the internal queue.
        let served = if queue == INTERNAL_QUEUE { visit.somebody_serves() } else { !visit.serving(&queue).is_empty() };
        let finding = if served {
            Finding::warning(
                "waiting",
                text,
                "the workers are full, or limits hold it back: fireflow-worker queue show tells which. Raise \
                 queue.worker_concurrency, start more workers, or raise queue.concurrency; if they are idle, see \
                 limits, latest-version, locks and transactions here",
            )
        } else {
            Finding::error(
                "waiting",
                format!("{text}, and no live worker serves it"),
                "start a worker; see the check `workers`",
            )
        };
        found.push(finding.of(&waiting).figure("queue", queue));
    }
    Ok(or_ok(found, "waiting", format!("nothing waits for longer than {}", visit.patience())))
}

/// What waits on our queues for somebody else, or for nobody.
pub(super) async fn strangers(visit: &Visit) -> Found {
    let mut versions = visit.versions();
    versions.extend([String::new(), visit.settings.worker.application_version.clone()]);
    let (groups, looked_at) = visit.examiner.strangers(&versions).await?;
    let mut found = judge_strangers(&groups, visit);
    if let Some(count) = looked_at {
        let more = Finding::note(
            "strangers",
            format!("{count} rows and more wait on our queues, and only {count} of them were looked at"),
            "fireflow-worker doctor --deep looks at more",
        );
        found.push(more.figure("count", count));
    }
    Ok(or_ok(found, "strangers", "all that waits on our queues is for workers like this one"))
}

fn judge_strangers(groups: &[Group], visit: &Visit) -> Vec<Finding> {
    let subject = visit.examiner.subject();
    groups
        .iter()
        .map(|group| {
            let who = format!("{} on queue {}", many(group.count, "row"), group.queue);
            let such = format!("the oldest for {}, such as {}", age(group.oldest), group.example);
            let known = |formats: &[String]| group.serialization.as_ref().is_none_or(|format| formats.contains(format));
            let finding = if !group.application.is_empty() && group.application != subject.application {
                Finding::warning(
                    "foreign-applications",
                    format!("{who} belong to application {}, {such}", group.application),
                    format!(
                        "whoever enqueues should name application {} (applicationName), or none; or run a worker of \
                         that worker.application_name",
                        subject.application
                    ),
                )
            } else if group.name != subject.workflow {
                Finding::warning(
                    "unknown-workflows",
                    format!("{who} are for the workflow {}, which no worker here knows, {such}", shown(&group.name)),
                    format!(
                        "if they are meant for another program, it should have a queue of its own; if for this one, \
                         the workflow is called {} (execution.workflow_name). fireflow-worker executions cancel ID \
                         takes one away",
                        subject.workflow
                    ),
                )
            } else if !group.class.is_empty() && group.class != subject.class || !group.config.is_empty() {
                Finding::warning(
                    "unknown-workflows",
                    format!(
                        "{who} are for the class {}{}, which no worker here has, {such}",
                        shown(&group.class),
                        if group.config.is_empty() {
                            String::new()
                        } else {
                            format!(" in the configuration {}", group.config)
                        }
                    ),
                    format!(
                        "the class is called {} (execution.class_name), or none; there are no configured instances",
                        subject.class
                    ),
                )
            } else if !known(&subject.formats) {
                Finding::warning(
                    "unknown-serialisations",
                    format!(
                        "{who} are serialised as {}, which no worker here reads, {such}",
                        group.serialization.as_deref().unwrap_or("nothing")
                    ),
                    format!("enqueue in one of {}; portable_json is read by all", subject.formats.join(", ")),
                )
            } else {
                Finding::warning(
                    "unknown-versions",
                    format!(
                        "{who} ask for application version {}, which no live worker has, {such}",
                        shown(&group.version)
                    ),
                    "start a worker of that worker.application_version until they are done, or let a client fork \
                     them to the version that runs; clients that name no version get the newest",
                )
            };
            finding
                .figure("queue", group.queue.clone())
                .figure("count", group.count)
                .figure("oldest_seconds", group.oldest.round())
                .figure("example", group.example.clone())
        })
        .collect()
}

fn shown(name: &str) -> String {
    if name.is_empty() { "without a name".into() } else { format!("\"{name}\"") }
}

/// Queues on which our executions wait and that nobody looks at.
pub(super) async fn unserved(visit: &Visit) -> Found {
    let configured = |name: &str| visit.settings.queue.iter().any(|queue| queue.name == name);
    let used = visit.examiner.queues_in_use().await?;
    let found = used
        .iter()
        .filter(|queue| queue.queue != INTERNAL_QUEUE && !configured(&queue.queue))
        .filter(|queue| visit.serving(&queue.queue).is_empty());
    let found = found.map(|queue| {
        Finding::warning(
            "unserved-queues",
            format!("{} on queue {}, which no live worker serves", many(queue.count, "execution"), queue.queue),
            "correct the queue's name where it is enqueued, or serve it: a section [[queue]] of that name",
        )
        .figure("queue", queue.queue.clone())
        .figure("count", queue.count)
    });
    Ok(or_ok(found.collect(), "unserved-queues", "no execution waits on a queue that nobody serves"))
}

/// Limits as registered, beside those of the configuration.
pub(super) async fn limits(visit: &Visit) -> Found {
    let registered = visit.examiner.registered().await?;
    let by_name: BTreeMap<&str, &Registered> = registered.iter().map(|queue| (queue.name.as_str(), queue)).collect();
    let paused = visit.examiner.paused().await?;
    let mut found = Vec::new();
    for queue in visit.settings.queue.iter() {
        if let Some(paused) = paused.iter().find(|paused| paused.name == queue.name) {
            found.push(tell_pause(paused));
            continue; // its registered limits are the pause's
        }
        if let Some(registered) = by_name.get(queue.name.as_str()) {
            found.extend(judge_limits(queue, registered, &visit.settings.worker.application_name));
        }
    }
    Ok(or_ok(found, "limits", "registered and configured limits agree"))
}

fn tell_pause(paused: &PausedQueue) -> Finding {
    let PausedQueue { name, by, reason, age: since } = paused;
    let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
    let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    Finding::warning(
        "limits",
        format!("queue {name} has been paused{by} for {}{why}: nothing is taken from it", age(*since)),
        format!("fireflow-worker queue resume {name}, when whoever paused it is done"),
    )
    .figure("queue", name.clone())
}

fn judge_limits(queue: &Queue, registered: &Registered, application: &str) -> Vec<Finding> {
    let name = &queue.name;
    let found = |finding: Finding| vec![finding.figure("queue", name.clone())];
    if let Some(owner) = registered.owner.as_ref().filter(|owner| *owner != application) {
        return found(Finding::error(
            "limits",
            format!(
                "queue {name} is registered by application {owner}: its limits don't hold here, and its executors \
                 take from it too"
            ),
            format!(
                "queue names are unique over all applications: choose another queue.name, or have {owner} give the \
                 name up"
            ),
        ));
    }
    let limits = &registered.limits;
    if queue.limits == LimitSource::Configured {
        return found(Finding::note(
            "limits",
            format!(
                "queue {name} is registered with limits, and queue.limits = \"configured\" makes workers like this \
                 one ignore them"
            ),
            "mind that SDK executors and a pause go by the registered ones; take queue.limits out to follow them",
        ));
    }
    if limits.is_paused() {
        return found(Finding::warning(
            "limits",
            format!("queue {name} is paused: a registered limit is 0, so nothing is taken from it"),
            format!("fireflow-worker queue resume {name}, when whoever paused it is done"),
        ));
    }
    let none = || "none".to_owned();
    let mut differ = Vec::new();
    if limits.concurrency != Some(queue.concurrency) {
        let registered = limits.concurrency.map_or_else(none, |limit| limit.to_string());
        differ.push(format!("concurrency {registered} instead of {}", queue.concurrency));
    }
    match limits.worker_concurrency {
        Some(limit) if limit < queue.worker_concurrency => {
            differ.push(format!("worker_concurrency {limit} instead of {}", queue.worker_concurrency));
        }
        Some(limit) if limit > queue.worker_concurrency => {
            differ.push(format!(
                "worker_concurrency {limit}, of which this configuration allows {}",
                queue.worker_concurrency
            ));
        }
        _ => {}
    }
    if limits.rate != queue.rate_limit {
        let shown = |rate: Option<crate::sysdb::RateLimit>| rate.map_or_else(none, |rate| rate.to_string());
        differ.push(format!("rate_limit {} instead of {}", shown(limits.rate), shown(queue.rate_limit)));
    }
    if differ.is_empty() {
        return Vec::new();
    }
    found(Finding::note(
        "limits",
        format!("queue {name} is registered with other limits than configured, and those hold: {}", differ.join(", ")),
        "let both say the same, or queue.limits = \"configured\" for workers that shall go by their own",
    ))
}

/// What nobody has released.
pub(super) async fn delayed(visit: &Visit) -> Found {
    let overdue = visit.examiner.overdue().await?;
    Ok(vec![if overdue.is_empty() {
        Finding::ok("delayed", "no delay is overdue")
    } else {
        Finding::warning(
            "delayed",
            format!(
                "{} DELAYED beyond the time, for up to {}: {}",
                counted(&overdue, "execution"),
                age(overdue.oldest),
                list(&overdue.examples)
            ),
            "a live worker of the application releases them within a second: start one, or see why it can't (locks, \
             grants)",
        )
        .of(&overdue)
    }])
}

/// What nobody has cancelled.
pub(super) async fn deadlines(visit: &Visit) -> Found {
    let expired = visit.examiner.expired_deadlines().await?;
    Ok(vec![if expired.is_empty() {
        Finding::ok("deadlines", "nothing goes on past its deadline")
    } else {
        Finding::warning(
            "deadlines",
            format!(
                "{} past the deadline for up to {}: {}",
                counted(&expired, "execution"),
                age(expired.oldest),
                list(&expired.examples)
            ),
            "a live worker of the application cancels them within a second: start one, or see why it can't (locks, \
             grants)",
        )
        .of(&expired)
    }])
}

/// What is PENDING for somebody who isn't there.
pub(super) async fn stuck(visit: &Visit) -> Found {
    let held = visit.examiner.held().await?;
    let someone =
        visit.workers.iter().any(|worker| worker.live && worker.application == visit.settings.worker.application_name);
    let patience = visit.settings.worker.lease.as_secs_f64() + 15.0;
    let mut found = Vec::new();
    for held in held {
        let what = format!(
            "{} PENDING for {}",
            many(held.count, "execution"),
            if held.executor.is_empty() { "no executor".into() } else { format!("executor {}", held.executor) }
        );
        let such = format!("claimed up to {} ago, such as {}", age(held.oldest), held.example);
        let adopted = visit.settings.recovery.adopt_executors.contains(&held.executor);
        let finding = if held.registered && held.oldest < patience {
            continue; // a worker takes care of it within its lease and some seconds
        } else if held.registered && !someone {
            Finding::error(
                "stuck",
                format!("{what}, a worker whose lease has ended, {such}; and no live worker gives them back"),
                "start a worker: any worker of the application gives them back to the queue",
            )
        } else if held.registered {
            Finding::warning(
                "stuck",
                format!("{what}, a worker whose lease has ended, {such}; live workers should have given them back"),
                "look at the workers' log for rows that the database refuses, and at locks and grants here",
            )
        } else if held.oldest < visit.patience_seconds() {
            continue; // another SDK's process that is at work
        } else if adopted {
            Finding::warning(
                "stuck",
                format!("{what}, which recovery.adopt_executors names, {such}"),
                "start a worker with this configuration: it gives them back to the queue, as far as it can run them",
            )
        } else {
            Finding::warning(
                "stuck",
                format!("{what}, which is no worker of this kind, {such}"),
                "if that process works on them, all is well. If it is gone for good, name it in \
                 recovery.adopt_executors, or resume the executions one by one",
            )
        };
        let finding = finding.figure("executor", held.executor.clone()).figure("count", held.count);
        found.push(finding.figure("oldest_seconds", held.oldest.round()).figure("example", held.example.clone()));
    }
    Ok(or_ok(found, "stuck", "whatever runs belongs to an executor that lives"))
}

/// What was given up.
pub(super) async fn parked(visit: &Visit) -> Found {
    let parked = visit.examiner.parked().await?;
    Ok(vec![if parked.is_empty() {
        Finding::ok("parked", "no execution is parked")
    } else {
        Finding::warning(
            "parked",
            format!(
                "{} parked (MAX_RECOVERY_ATTEMPTS_EXCEEDED): {}",
                counted(&parked, "execution"),
                list(&parked.examples)
            ),
            "fireflow-worker executions show ID has the reason; when it is cured, executions resume ID gives it a \
             fresh start. fireflow-worker gc --statuses parked removes old ones",
        )
        .of(&parked)
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;
    use crate::sysdb::QueueColumns;

    #[test]
    fn registered_limits_are_compared_with_the_configured_ones() {
        let queue = Queue::default();
        let columns =
            QueueColumns { concurrency: [Some(100), Some(5)], polling_interval: 1.0, ..QueueColumns::default() };
        let registered = |owner: Option<&str>, columns: QueueColumns| Registered {
            name: queue.name.clone(),
            owner: owner.map(str::to_owned),
            limits: columns.limits(),
        };
        let judge = |queue: &Queue, registered: Registered| {
            judge_limits(queue, &registered, "fireflow-executor").pop().map(|finding| (finding.level, finding.found))
        };
        assert_eq!(judge(&queue, registered(None, columns)), None);
        assert_eq!(judge(&queue, registered(Some("fireflow-executor"), columns)), None);
        let (level, found) = judge(&queue, registered(Some("shop"), columns)).unwrap();
        assert!(level == Level::Error && found.contains("application shop"), "{found}");
        let less = QueueColumns { concurrency: [None, Some(2)], ..columns };
        let (level, found) = judge(&queue, registered(None, less)).unwrap();
        assert_eq!(level, Level::Note);
        assert!(found.ends_with("concurrency none instead of 100, worker_concurrency 2 instead of 5"), "{found}");
        let paused = QueueColumns { concurrency: [Some(0), None], ..columns };
        assert_eq!(judge(&queue, registered(None, paused)).unwrap().0, Level::Warning);
        let own = Queue { limits: LimitSource::Configured, ..Queue::default() };
        assert_eq!(judge(&own, registered(None, paused)).unwrap().0, Level::Note);
    }
}
