//! `queue pause` and `queue resume`

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        Global,
        access::{Access, whoami},
        cells,
        exit::{self, usage},
        output,
        trouble::Trouble,
    },
    sysdb::operator::Unpaused,
};

/// Pause between looks at what still runs.
const LOOK: Duration = Duration::from_millis(500);

/// Let no worker claim from a queue; what runs goes on.
///
/// Until `queue resume`: workers that run notice within about a second, those that start later
/// see it before their first claim. What runs goes on, and so do children of it on other queues; what was resumed or forked
/// onto DBOS's internal queue is not held.
///
/// Where the queue is registered in DBOS's table `queues`, its `concurrency` becomes 0, so that workers of other SDKs stop, too;
/// `queue resume` brings back what it was. An SDK program that registers the queue anew as it starts overwrites that for
/// workers of its kind; `queue show` warns then. JSON: {queue, paused, new, since, registered, running}.
#[derive(Debug, Args)]
pub struct Pause {
    /// Name of the queue
    #[arg(value_name = "NAME")]
    name: String,
    /// Why, for whoever looks later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until nothing of it runs any more
    #[arg(long)]
    wait: bool,
    /// Longest wait; the pause stays
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = cells::span)]
    wait_timeout: Duration,
    /// Also a queue that nobody knows yet
    #[arg(long)]
    force: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Pause {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::to_change(global, &["queues", "queue_pauses"]).await?;
        let configured = access.queues();
        let name = &self.name;
        if name.is_empty() || name.contains('\0') {
            return Err(usage("this can't be a queue's name"));
        }
        if name == crate::sysdb::INTERNAL_QUEUE {
            bail!("the queue \"{name}\" can't be paused: it is DBOS's own, which all applications share");
        }
        if !self.force && !configured.contains(name) && !access.operator.knows_queue(name).await? {
            bail!(
                "there is no queue \"{name}\"; `fireflow-worker queue show` lists them, --force pauses it all the same"
            );
        }
        let reason = self.reason.as_deref().map(|reason| cells::clip(reason, 500));
        let paused = access.operator.pause(name, &whoami(), reason.as_deref()).await?;
        let mut running = access.operator.running(name).await?;
        if !self.json {
            let pause = &paused.pause;
            output::line(match (paused.new, pause.registered) {
                (false, _) => format!("queue {name} was paused already"),
                (true, true) => format!("queue {name} is paused, and its registered concurrency is 0 meanwhile"),
                (true, false) => format!("queue {name} is paused"),
            });
        }
        let mut quiet = false;
        if self.wait {
            let until = tokio::time::Instant::now() + self.wait_timeout; // a thousand years at most
            let mut trouble = Trouble::default();
            // Claims that were under way when the pause came are seen by the second look.
            tokio::time::sleep(Duration::from_secs(2)).await;
            loop {
                let now = trouble.or(access.operator.running(name).await)?;
                running = now.unwrap_or(running);
                quiet = now == Some(0);
                if quiet || tokio::time::Instant::now() >= until {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        if self.json {
            output::json(&json!({
                "queue": name, "paused": true, "new": paused.new, "since": cells::iso(paused.pause.since),
                "registered": paused.pause.registered, "running": running,
            }))?;
        } else if running > 0 {
            output::note(format!("{running} of its executions still run"));
        }
        Ok(if self.wait && !quiet { ExitCode::from(exit::FAILURE) } else { ExitCode::SUCCESS })
    }
}

/// Let workers claim from a paused queue again.
///
/// Its registered concurrency is again what it was before the pause, unless
/// somebody has changed it since. Exit code 1 when it wasn't paused. JSON: {queue, paused, was_paused, concurrency, restored}.
#[derive(Debug, Args)]
pub struct Resume {
    /// Name of the queue
    #[arg(value_name = "NAME")]
    name: String,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Resume {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::to_change(global, &["queues", "queue_pauses"]).await?;
        let name = &self.name;
        let unpaused = access.operator.unpause(name).await?;
        if self.json {
            let (restored, concurrency) = match unpaused {
                Unpaused::Restored(concurrency) => (true, concurrency),
                _ => (false, None),
            };
            output::json(&json!({
                "queue": name, "paused": false, "was_paused": unpaused != Unpaused::WasNot, "concurrency": concurrency,
                "restored": restored,
            }))?;
        } else {
            match unpaused {
                Unpaused::WasNot => output::note(format!("error: queue \"{name}\" is not paused")),
                Unpaused::Resumed => output::line(format!("queue {name} goes on")),
                Unpaused::Restored(Some(0)) => {
                    output::line(format!(
                        "queue {name} goes on as before the pause: its registered concurrency is 0, which stops it"
                    ));
                }
                Unpaused::Restored(Some(limit)) => {
                    output::line(format!("queue {name} goes on, with its registered concurrency of {limit}"));
                }
                Unpaused::Restored(None) => {
                    output::line(format!("queue {name} goes on, without a registered concurrency, as before"));
                }
                Unpaused::Kept => {
                    output::line(format!(
                        "queue {name} goes on; its registration was changed meanwhile, and stays as it is"
                    ));
                }
            }
        }
        Ok(if unpaused == Unpaused::WasNot { ExitCode::from(exit::FAILURE) } else { ExitCode::SUCCESS })
    }
}
