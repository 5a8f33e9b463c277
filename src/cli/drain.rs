//! `drain`: ask workers to end, through the database.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde_json::json;

use super::{
    Global,
    access::{Access, whoami},
    cells,
    confirm::confirm,
    exit, output,
    trouble::Trouble,
};
use crate::sysdb::operator::{Drain as Asked, OperatorError, WorkerState};

/// Pause between looks at who drains.
const LOOK: Duration = Duration::from_millis(250);

/// Ask workers to finish what runs and end.
///
/// As SIGTERM does: they claim nothing more, let what runs finish within their drain time, and give the rest back. They notice within
/// about a second, wherever they run.
///
/// The request is for the process that runs now, and can't be taken back: whoever starts afterwards under the same id serves as
/// always. The process exits with 0, so whether it is started again is for its supervisor to say: systemd's Restart=on-failure
/// leaves it down, Restart=always and compose's restart: always or unless-stopped start it again, and so does a Kubernetes deployment.
/// Exit code 1 when there is no such worker, or with --wait when one didn't end well. JSON: [{worker, incarnation, end}];
/// `end` is null without --wait, otherwise stopped, replaced, died or waiting.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("who").required(true)))]
pub struct Drain {
    /// Id of the worker; `fireflow-worker workers` shows them
    #[arg(long, value_name = "ID", group = "who")]
    worker: Option<String>,
    /// All live workers of the application; asks before
    #[arg(long, group = "who")]
    all: bool,
    /// Don't ask
    #[arg(long, requires = "all")]
    yes: bool,
    /// Give back what runs at once, as at the second SIGTERM
    #[arg(long)]
    now: bool,
    /// Wait until they have ended
    #[arg(long)]
    wait: bool,
    /// Longest wait; they go on draining after it
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = cells::span)]
    wait_timeout: Duration,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// How a worker's life ended, or that it hasn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As it should.
    Stopped,
    /// Another life has begun under its id: its supervisor has started it again.
    Replaced,
    /// Its lease ended in the middle.
    Died,
    /// Not yet.
    Waiting,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            End::Stopped => "stopped",
            End::Replaced => "replaced",
            End::Died => "died",
            End::Waiting => "waiting",
        }
    }
}

impl Drain {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let access = Access::to_change(global, &["drain_requests"]).await?;
        if self.all && !confirm("Drain all live workers of the application", self.yes)? {
            output::note("nothing was done");
            return Ok(ExitCode::from(exit::FAILURE));
        }
        let asked = access.operator.drain(self.worker.as_deref(), self.now, &whoami()).await?;
        if asked.is_empty() {
            output::note("no worker lives");
        }
        if !self.json {
            for one in &asked {
                let word = if one.draining { "drains already" } else { "was asked to drain" };
                output::line(format!("{}  {word}", one.worker));
            }
        }
        let mut ends = vec![End::Waiting; asked.len()];
        if self.wait {
            let until = tokio::time::Instant::now() + self.wait_timeout; // a thousand years at most
            let mut trouble = Trouble::default();
            while ends.contains(&End::Waiting) && tokio::time::Instant::now() < until {
                tokio::time::sleep(LOOK).await;
                for (one, end) in asked.iter().zip(&mut ends).filter(|(_, end)| **end == End::Waiting) {
                    let Some(now) = trouble.or(look(&access, one).await)? else { continue };
                    *end = now;
                    if !self.json && *end != End::Waiting {
                        tell(one, *end);
                    }
                }
            }
            for (one, _) in asked.iter().zip(&ends).filter(|(_, end)| !self.json && **end == End::Waiting) {
                output::note(format!(
                    "{} has not ended within {}",
                    one.worker,
                    humantime::format_duration(self.wait_timeout)
                ));
            }
        }
        if self.json {
            let all = asked.iter().zip(&ends).map(|(one, end)| {
                let end = self.wait.then_some(end.word());
                json!({"worker": one.worker, "incarnation": one.incarnation.to_string(), "end": end})
            });
            output::json(&all.collect::<Vec<_>>())?;
        }
        let bad = self.wait && ends.iter().any(|end| matches!(end, End::Died | End::Waiting));
        Ok(if bad { ExitCode::from(exit::FAILURE) } else { ExitCode::SUCCESS })
    }
}

async fn look(access: &Access, one: &Asked) -> Result<End, OperatorError> {
    Ok(match access.operator.life(one).await? {
        None => End::Replaced,
        Some(WorkerState::Stopped) => End::Stopped,
        Some(WorkerState::Expired) => End::Died,
        Some(_) => End::Waiting,
    })
}

fn tell(one: &Asked, end: End) {
    match end {
        End::Stopped => output::line(format!("{}  has ended", one.worker)),
        End::Replaced => output::line(format!("{}  has ended, and was started again", one.worker)),
        End::Died => output::note(format!(
            "{}: its lease ended in the middle of the drain; what it had goes back to the queue",
            one.worker
        )),
        End::Waiting => {}
    }
}
