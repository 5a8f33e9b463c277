//! What the command line asks for. Runners of tests pass arguments of their own; they are understood as far as they matter.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Faults go on for so long when nothing else is asked for.
const SHORT: Duration = Duration::from_secs(25);
/// The name by which a filter picks this test.
const NAME: &str = "chaos";

/// What to do.
pub enum Task {
    /// Say which tests there are, as runners ask.
    List {
        /// Only those that are ignored, of which there are none.
        ignored: bool,
    },
    /// A filter left this one out.
    Nothing,
    /// Run.
    Run(Options),
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long faults go on.
    pub time: Duration,
    /// Whether that is longer than in a short run: with SDK clients, and at a calmer pace.
    pub long: bool,
    /// What faults and executions are drawn from. Schedules of the machine are not, so the same seed is a similar run.
    pub seed: u64,
    /// Worker processes, three at least.
    pub workers: usize,
    /// Keep the folder with logs and ledger also when all is well.
    pub keep: bool,
}

/// Read the command line; an error is for its reader.
pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Task, String> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    let mut options = Options { time: SHORT, long: false, seed, workers: 4, keep: false };
    let (mut list, mut ignored, mut exact) = (false, false, false);
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, glued) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (argument, None),
        };
        let mut value = || glued.clone().or_else(|| arguments.next()).ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--long" => {
                let text = value()?;
                options.time = humantime::parse_duration(&text).map_err(|error| format!("--long {text}: {error}"))?;
                options.long = true;
            }
            "--seed" => options.seed = number(&name, &value()?)?,
            "--workers" => options.workers = usize::try_from(number(&name, &value()?)?.max(3)).unwrap_or(3),
            "--keep" => options.keep = true,
            "--list" => list = true,
            "--ignored" => ignored = true,
            "--exact" => exact = true,
            "--skip" => skipped.push(value()?),
            // Of the usual harness, with a value.
            "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed" | "-Z" => _ = value()?,
            _ if name.starts_with('-') => {} // of the usual harness, without one: --nocapture, --quiet, …
            _ => filters.push(name),
        }
    }
    if list {
        return Ok(Task::List { ignored });
    }
    let meant = |text: &String| if exact { text == NAME } else { NAME.contains(text.as_str()) };
    let chosen = (filters.is_empty() || filters.iter().any(meant)) && !skipped.iter().any(meant) && !ignored;
    Ok(if chosen { Task::Run(options) } else { Task::Nothing })
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name} {text}: expected a number"))
}
