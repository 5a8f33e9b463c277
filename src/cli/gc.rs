//! `gc`: remove executions that ended long ago, with all that belongs to them.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Global, output};
use crate::{
    sysdb::{
        SysdbError,
        retention::{Cursor, Removed, Retention, Walk},
        schema::grants::{Asked, Purpose},
    },
    worker::{Database, Shutdown},
};

/// Interrupted by a signal.
const INTERRUPTED: u8 = 130;
/// Whoever waits for a result may still ask for it, and clocks of clients may differ.
const YOUNGEST: Duration = Duration::from_secs(3600);
/// Batches that may fail in a row.
const PATIENCE: u32 = 6;
/// Generations of a family that go in one run; those after them go in the next one.
const GENERATIONS: u32 = 5;
/// Contents of flows that a dry run counts.
const COUNTED: i64 = 100_000;

/// Remove executions that ended long ago, with all that belongs to them.
///
/// Inputs, results, steps, streams, events and messages go with their workflow. Removes in small batches along an index, with
/// pauses, so that workers and clients don't feel it; safe to interrupt, to run again, and to run twice at once. What is active
/// never goes, nor a parent of what is, nor a child whose parent may still ask for it.
#[derive(Debug, Args)]
pub struct Gc {
    /// What ended longer ago goes, such as 30d; at least 1h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Show what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Ends that go; `parked` are those that were given up
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_value = "success,error,cancelled")]
    statuses: Vec<Ending>,
    /// Remove the rows of Fireflow's own table of executions as well, which its server shows
    #[arg(long)]
    executions: bool,
    /// Remove inputs, results and steps whose workflow is gone as well, whoever's they were
    #[arg(long)]
    orphans: bool,
    /// Executions of all applications in this database, not only of worker.application_name
    #[arg(long)]
    all_applications: bool,
    /// Executions that one statement looks at
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch_size: u32,
    /// Pause between statements; at least as long as the last one took
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = humantime::parse_duration)]
    pause: Duration,
    /// Stop after this time; the next run goes on
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_duration: Option<Duration>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ending {
    /// With a result
    Success,
    /// With an error
    Error,
    /// By a client, or by its deadline
    Cancelled,
    /// Given up after too many restarts or crashes
    Parked,
}

impl Ending {
    fn status(self) -> String {
        match self {
            Ending::Success => "SUCCESS",
            Ending::Error => "ERROR",
            Ending::Cancelled => "CANCELLED",
            Ending::Parked => "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
        }
        .to_owned()
    }
}

/// What a run did.
#[derive(Debug, Default, Serialize)]
struct Summary {
    dry_run: bool,
    /// All that was old enough was looked at.
    complete: bool,
    /// What ended before this time.
    before: String,
    /// Executions that went, by status.
    executions: BTreeMap<String, i64>,
    /// What went with them.
    #[serde(flatten)]
    removed: Removed,
    /// Rows of workflows that were gone already, by table.
    orphans: BTreeMap<&'static str, i64>,
    /// Contents of flows.
    flow_contents: i64,
    /// Executions that were looked at.
    looked_at: i64,
    batches: u64,
    seconds: f64,
}

impl Summary {
    fn count(&self) -> i64 {
        self.executions.values().sum()
    }
}

impl Gc {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        if self.older_than < YOUNGEST {
            bail!(
                "--older-than {}: at least {}, since clients may still ask for the result of what ended just now",
                humantime::format_duration(self.older_than),
                humantime::format_duration(YOUNGEST)
            );
        }
        let mut settings = global.settings(Vec::new())?;
        settings.database.pool_size = 2;
        let database = Database::connect(&settings).await?;
        let without: &[&str] = if self.executions { &[] } else { &["executions"] };
        let writes: Option<&[&str]> = if self.dry_run { Some(&[]) } else { None };
        database.ready_for(Asked { purpose: Purpose::Retention, writes, without }).await?;
        let ago = i64::try_from(self.older_than.as_millis()).context("--older-than: too long ago")?;
        let before = database.sysdb.before_now(ago).await?;
        let retention = Retention {
            application: (!self.all_applications).then(|| settings.worker.application_name.clone()),
            workflow: settings.execution.workflow_name.clone(),
            statuses: self.statuses.iter().map(|ending| ending.status()).collect(),
            before,
            executions: self.executions,
            dry_run: self.dry_run,
        };
        let mut round = Round::new(&self, database, retention)?;
        let outcome = round.all().await;
        let interrupted = round.shutdown.is_draining();
        let summary = round.end();
        // What was removed is told in any case.
        self.tell(&summary, interrupted)?;
        outcome?;
        Ok(if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
    }

    fn tell(&self, summary: &Summary, interrupted: bool) -> anyhow::Result<()> {
        if self.json {
            return output::json(summary);
        }
        let would = if self.dry_run { "would remove" } else { "removed" };
        let by: Vec<String> = summary.executions.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
        let count = summary.count();
        let noun = if count == 1 { "execution" } else { "executions" };
        output::line(format!("{would} {count} {noun}{by} that ended before {}", summary.before));
        let Removed { payloads, steps, stream_items, events, messages, application_rows } = summary.removed;
        let rows = [
            ("inputs and results", payloads),
            ("steps", steps),
            ("stream items", stream_items),
            ("events", events),
            ("messages", messages),
            ("application rows", application_rows),
            ("contents of flows", summary.flow_contents),
        ];
        let rows = rows.into_iter().chain(summary.orphans.iter().map(|(table, count)| (*table, *count)));
        for (what, count) in rows.filter(|(_, count)| *count > 0) {
            let orphaned = if summary.orphans.contains_key(what) { " without a workflow" } else { "" };
            output::line(format!("  {count} {what}{orphaned}"));
        }
        if !summary.complete {
            let why = if interrupted { "interrupted" } else { "its time was over" };
            output::line(format!("not complete: {why}; the next run goes on"));
        }
        Ok(())
    }
}

/// How many executions a statement looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    size: i64,
    most: i64,
}

impl Pace {
    fn new(most: i64) -> Pace {
        Pace { size: most, most }
    }

    /// Whoever was in the way has gone.
    fn went_well(&mut self) {
        self.size = self.size.saturating_mul(2).min(self.most);
    }

    /// Others were in the way, or it was too large; unless the database was away, which no size cures.
    fn failed(&mut self, away: bool) {
        if !away {
            self.size = (self.size / 2).max(1);
        }
    }
}

/// One run.
struct Round<'a> {
    options: &'a Gc,
    database: Database,
    retention: Retention,
    summary: Summary,
    began: Instant,
    pace: Pace,
    shutdown: Shutdown,
    bar: ProgressBar,
}

impl<'a> Round<'a> {
    fn new(options: &'a Gc, database: Database, retention: Retention) -> anyhow::Result<Round<'a>> {
        let shutdown = Shutdown::new();
        tokio::spawn(shutdown.obey_signals()?); // ends with the process
        let bar = if std::io::stderr().is_terminal() && !options.json {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let before = jiff::Timestamp::from_millisecond(retention.before).context("--older-than: too long ago")?;
        let summary = Summary { dry_run: options.dry_run, before: before.to_string(), ..Summary::default() };
        let pace = Pace::new(i64::from(options.batch_size));
        Ok(Round { options, database, retention, summary, began: Instant::now(), pace, shutdown, bar })
    }

    /// Everything, until the end, the time's end, or a signal.
    async fn all(&mut self) -> anyhow::Result<()> {
        for _ in 0..GENERATIONS {
            let before = self.summary.count();
            for walk in [Walk::Ended, Walk::Undated] {
                if !self.walk(walk).await? {
                    return Ok(());
                }
            }
            // A parent that went may have been all that kept its children. A dry run takes none away.
            if self.summary.count() == before || self.options.dry_run {
                break;
            }
        }
        if self.options.orphans {
            for table in self.database.sysdb.orphaned_tables().await? {
                if !self.orphans(table).await? {
                    return Ok(());
                }
            }
        }
        self.summary.complete = self.contents().await?;
        Ok(())
    }

    /// Whether it came to its end.
    async fn walk(&mut self, walk: Walk) -> anyhow::Result<bool> {
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let Some(batch) = self
                .patiently(async |round: &Round<'_>| {
                    let (sysdb, prefix) = (&round.database.sysdb, &round.database.prefix);
                    sysdb.remove_ended(&round.retention, prefix, walk, &at, round.pace.size).await
                })
                .await?
            else {
                return Ok(false);
            };
            self.summary.looked_at += batch.passed;
            for (status, count) in batch.workflows {
                *self.summary.executions.entry(status).or_default() += count;
            }
            let (sum, more) = (&mut self.summary.removed, batch.removed);
            sum.payloads += more.payloads;
            sum.steps += more.steps;
            sum.stream_items += more.stream_items;
            sum.events += more.events;
            sum.messages += more.messages;
            sum.application_rows += more.application_rows;
            cursor = batch.next;
        }
        Ok(true)
    }

    async fn orphans(&mut self, table: &'static str) -> anyhow::Result<bool> {
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let Some((gone, next)) = self
                .patiently(async |round: &Round<'_>| {
                    let Retention { before, dry_run, .. } = round.retention;
                    round.database.sysdb.remove_orphans(table, before, dry_run, &at, round.pace.size).await
                })
                .await?
            else {
                return Ok(false);
            };
            if gone > 0 {
                *self.summary.orphans.entry(table).or_default() += gone;
            }
            cursor = next;
        }
        Ok(true)
    }

    async fn contents(&mut self) -> anyhow::Result<bool> {
        loop {
            let Some((gone, most)) = self
                .patiently(async |round: &Round<'_>| {
                    let (sysdb, prefix) = (&round.database.sysdb, &round.database.prefix);
                    let most = if round.options.dry_run { COUNTED } else { round.pace.size };
                    Ok((sysdb.remove_contents(prefix, round.options.dry_run, most).await?, most))
                })
                .await?
            else {
                return Ok(false);
            };
            self.summary.flow_contents += gone;
            if gone < most || self.options.dry_run {
                return Ok(true);
            }
        }
    }

    /// One statement, and the pause before it; tried again with a smaller batch when others were in the way. `None` when the time
    /// is over.
    async fn patiently<T>(
        &mut self,
        statement: impl AsyncFn(&Round<'_>) -> Result<T, SysdbError>,
    ) -> anyhow::Result<Option<T>> {
        let mut failures = 0;
        loop {
            let over = self.options.max_duration.is_some_and(|most| self.began.elapsed() >= most);
            if over || self.shutdown.is_draining() {
                return Ok(None);
            }
            let asked = Instant::now();
            let answer = statement(&*self).await;
            let pause = asked.elapsed().max(self.options.pause);
            self.summary.batches += 1;
            self.bar.set_message(format!("{} executions, {} looked at", self.summary.count(), self.summary.looked_at));
            self.bar.tick();
            match answer {
                Ok(done) => {
                    self.pace.went_well();
                    self.rest(pause).await;
                    return Ok(Some(done));
                }
                Err(error) if error.is_transient() && failures < PATIENCE => {
                    failures += 1;
                    self.pace.failed(error.is_away() || matches!(error, SysdbError::Pool(_)));
                    tracing::debug!(%error, size = self.pace.size, "a batch failed, trying again");
                    self.rest(pause.max(Duration::from_millis(250)) * failures).await;
                }
                Err(error) => {
                    return Err(error)
                        .context("gc stopped; what it had removed stays removed, and the next run goes on");
                }
            }
        }
    }

    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.draining() => {}
        }
    }

    fn end(self) -> Summary {
        self.bar.finish_and_clear();
        Summary { seconds: (self.began.elapsed().as_secs_f64() * 10.0).round() / 10.0, ..self.summary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_while_others_are_in_the_way_and_grow_again() {
        let mut pace = Pace::new(500);
        let mut sizes = Vec::new();
        for failed in [Some(false), Some(false), Some(true), None, None, None] {
            match failed {
                Some(away) => pace.failed(away),
                None => pace.went_well(),
            }
            sizes.push(pace.size);
        }
        assert_eq!(sizes, [250, 125, 125, 250, 500, 500]);
        (0..20).for_each(|_| pace.failed(false));
        assert_eq!(pace.size, 1);
    }
}
