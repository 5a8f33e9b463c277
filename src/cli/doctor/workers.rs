//! Checks of the workers and of versions.

use std::collections::BTreeSet;

use super::finding::{Finding, Level, age, counted, list, many, or_ok};
use super::{Found, Visit};
use crate::sysdb::doctor::WorkerRow;

/// A stopped worker's row goes after a day, when a worker sweeps; so much later there was none.
const BURIED: f64 = 2.0 * 86_400.0;
/// A drain that takes longer than its time is stuck, in seconds beyond it.
const DRAINED: f64 = 120.0;
/// A registered version may be so much in the future before it is worth a word, in seconds.
const AHEAD: f64 = 60.0;

/// Whether somebody serves our queues.
pub(super) async fn workers(visit: &Visit) -> Found {
    let mut found = Vec::new();
    for queue in visit.settings.queue.iter() {
        let serving = visit.serving(&queue.name);
        let ids: Vec<String> = serving.iter().map(|worker| worker.id.clone()).collect();
        found.push(
            match ids.is_empty() {
                true => Finding::warning(
                    "workers",
                    format!("no live worker serves queue {}", queue.name),
                    "start one (systemctl start fireflow-worker, or the container); if it doesn't stay, its log \
                     says why, and its exit code too (docs/operations.md, exit codes)",
                ),
                false => Finding::ok(
                    "workers",
                    format!(
                        "{} on queue {}: {}",
                        many(i64::try_from(ids.len()).unwrap_or(i64::MAX), "live worker"),
                        queue.name,
                        list(&ids)
                    ),
                ),
            }
            .figure("queue", queue.name.clone())
            .figure("live", ids),
        );
    }
    let slow = visit.settings.worker.drain_timeout.as_secs_f64() + DRAINED;
    // Since when it drains isn't recorded; a worker that just started has other reasons.
    for worker in visit.workers.iter().filter(|worker| worker.live && worker.state == "draining" && worker.age > slow) {
        found.push(Finding::note(
            "workers",
            format!("worker {} on {} drains", worker.id, worker.host),
            "it ends when its executions do, or when its drain time is over; a second SIGTERM makes it give them \
             back at once",
        ));
    }
    Ok(found)
}

/// Whether workers are of one kind.
pub(super) async fn worker_versions(visit: &Visit) -> Found {
    Ok(or_ok(
        judge_versions(&visit.workers, visit),
        "worker-versions",
        "the live workers are of one version, and of this program's",
    ))
}

fn judge_versions(workers: &[WorkerRow], visit: &Visit) -> Vec<Finding> {
    let live =
        || workers.iter().filter(|worker| worker.live && worker.application == visit.settings.worker.application_name);
    let mut found = Vec::new();
    let programs: BTreeSet<String> = live().map(|worker| worker.program.clone()).collect();
    let mine = env!("CARGO_PKG_VERSION");
    if programs.len() > 1 || programs.iter().any(|program| program != mine) {
        let programs: Vec<String> = programs.into_iter().collect();
        found.push(
            Finding::note(
                "worker-versions",
                format!("live workers run fireflow-worker {}; this is {mine}", list(&programs)),
                "fine while an upgrade rolls; afterwards restart those that were left behind (docs/operations.md, \
                 upgrade)",
            )
            .figure("programs", programs),
        );
    }
    let versions: BTreeSet<String> = live().map(|worker| worker.version.clone()).collect();
    if versions.len() > 1 {
        let versions: Vec<String> = versions.into_iter().collect();
        found.push(
            Finding::warning(
                "worker-versions",
                format!("live workers have several application versions: {}", list(&versions)),
                "only workers of the newest registered one take executions that ask for no version; give all of \
                 them one worker.application_version, unless they really run different things",
            )
            .figure("versions", versions),
        );
    }
    found
}

/// Leases that ended, and whose worker is still on the list.
pub(super) async fn leases(visit: &Visit) -> Found {
    let mut found = Vec::new();
    let died = |worker: &&WorkerRow| {
        !worker.live && worker.state != "stopped" && worker.ended > visit.settings.worker.lease.as_secs_f64()
    };
    let dead: Vec<String> = visit
        .workers
        .iter()
        .filter(died)
        .map(|worker| format!("{} on {} {} ago", worker.id, worker.host, age(worker.ended)))
        .collect();
    if !dead.is_empty() {
        found.push(
            Finding::note(
                "leases",
                format!(
                    "{} without saying so: {}",
                    if dead.len() == 1 { "a worker ended" } else { "workers ended" },
                    list(&dead)
                ),
                "look at its log, or its machine's (out of memory, power); what it left goes back to the queue by \
                 any live worker",
            )
            .figure("dead", dead),
        );
    }
    let old: Vec<String> = visit
        .workers
        .iter()
        .filter(|worker| !worker.live && worker.ended > BURIED)
        .map(|worker| worker.id.clone())
        .collect();
    if !old.is_empty() {
        found.push(
            Finding::note(
                "leases",
                format!(
                    "{} of workers that ended days ago: {}",
                    many(i64::try_from(old.len()).unwrap_or(i64::MAX), "row"),
                    list(&old)
                ),
                "a live worker removes them, unless executions are still PENDING for them (see the check `stuck`)",
            )
            .figure("old", old),
        );
    }
    Ok(or_ok(found, "leases", "no worker ended without saying so"))
}

/// Whether rows that ask for no version have somebody.
pub(super) async fn latest_version(visit: &Visit) -> Found {
    let mine = &visit.settings.worker.application_version;
    let Some(latest) = visit.examiner.latest_version().await? else {
        return Ok(vec![Finding::ok(
            "latest-version",
            "none is registered yet; workers of any version take what asks for none",
        )]);
    };
    let live = visit.versions();
    let mut found = Vec::new();
    if latest.name != *mine && !live.contains(&latest.name) {
        found.push(
            Finding::warning(
                "latest-version",
                format!(
                    "the newest registered application version is {}, which no live worker has: executions that ask \
                     for no version wait for one (configured here: {mine})",
                    latest.name
                ),
                "run workers of that worker.application_version, or make yours the newest one again (the SDKs' \
                 setLatestApplicationVersion does it)",
            )
            .figure("latest", latest.name.clone()),
        );
    }
    if latest.ahead > AHEAD {
        found.push(
            Finding::warning(
                "latest-version",
                format!(
                    "application version {} is registered for {} in the future: it stays the newest until then",
                    latest.name,
                    age(latest.ahead)
                ),
                "the clock of whoever registered it is wrong; set its version_timestamp in application_versions to \
                 now",
            )
            .figure("latest", latest.name.clone()),
        );
    }
    Ok(or_ok(found, "latest-version", format!("{} is the newest one", latest.name)))
}

/// Executions that took their worker down.
pub(super) async fn crashes(visit: &Visit) -> Found {
    let (suspects, all) = (visit.examiner.crashed(2).await?, visit.examiner.crashed(1).await?);
    let most = visit.settings.recovery.max_crashes;
    let (seen, level) = if suspects.is_empty() { (&all, Level::Note) } else { (&suspects, Level::Warning) };
    if seen.is_empty() {
        return Ok(vec![Finding::ok("crashes", "no execution was at work when its worker died")]);
    }
    let found = format!(
        "{} at work when a worker died{}: {}",
        counted(seen, "execution"),
        if level == Level::Warning { ", more than once in a row" } else { "" },
        list(&seen.examples)
    );
    let advice = format!(
        "look at the worker's log and memory at that time, and at what the flow does; at {most} times in a row it \
         is parked (recovery.max_crashes). fireflow-worker executions cancel ID ends it"
    );
    let finding = if level == Level::Warning {
        Finding::warning("crashes", found, advice)
    } else {
        Finding::note("crashes", found, advice)
    };
    Ok(vec![finding.of(seen)])
}

/// Executors of SDKs that take what isn't theirs.
pub(super) async fn old_sdks(visit: &Visit) -> Found {
    let mut found = Vec::new();
    for queue in visit.settings.queue.iter() {
        let executors = visit.examiner.tokenless_executors(&queue.name).await?;
        if !executors.is_empty() {
            found.push(
                Finding::warning(
                    "old-sdks",
                    format!(
                        "executors of DBOS SDKs before TypeScript 5.2 and Python 3.2 take from queue {}: {}",
                        queue.name,
                        list(&executors)
                    ),
                    "let them listen to other queues, or update their SDK: they take executions that they can't \
                     run, and what newer clients enqueue has no inputs for them",
                )
                .figure("queue", queue.name.clone())
                .figure("executors", executors),
            );
        }
    }
    Ok(or_ok(found, "old-sdks", "no executor of an older SDK took from our queues within the last hour"))
}
