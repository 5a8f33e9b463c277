//! `doctor`: what is wrong, or will be, and what to do about it.
//!
//! Checks look at one thing each and never change anything. What they ask is in `sysdb/doctor`; here it is judged: a level, what
//! was found, and the next step. A check that can't look says so as a finding of its own, and the others go on.

mod finding;
mod queue;
mod schema;
mod server;
mod sessions;
mod tables;
mod workers;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;

use self::finding::{Finding, Level, many};
use super::output::Tone;
use super::{Global, exit, output};
use crate::{
    config::Settings,
    sysdb::{
        Standing, SysdbError,
        doctor::{Examiner, Subject, WorkerRow},
    },
    wire::Format,
    worker::{Database, SchemaError},
};

/// Time for one question, and where counts end.
const LIMIT: (Duration, i64) = (Duration::from_secs(5), 10_000);
/// The same for a thorough look.
const DEEP: (Duration, i64) = (Duration::from_secs(120), 1_000_000);
/// Connections of the doctor's own.
const CONNECTIONS: usize = 2;

/// Look for what is wrong, and tell what to do about it. Changes nothing.
///
/// Looks at schema, rights, server, sessions, tables, queues and workers, by the configuration that it is given: give it the
/// worker's own. It is bounded in time, and fit for a busy database. Exit code 0 when nothing is wrong (notes may be there), 1
/// for errors, 69 when the database can't be reached, 78 for a bad configuration.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Warnings count as errors: exit code 1
    #[arg(long)]
    strict: bool,
    /// Take more time and count further: up to two minutes a question
    #[arg(long)]
    deep: bool,
    /// What waits, runs or is held for longer is told
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Leave out what is well
    #[arg(long, short)]
    quiet: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// What a check gives.
type Found = Result<Vec<Finding>, SysdbError>;

/// What the checks look at.
struct Visit {
    settings: Settings,
    database: Database,
    examiner: Examiner,
    standing: Option<Standing>,
    workers: Vec<WorkerRow>,
}

impl Visit {
    /// The live workers of our application that take from this queue.
    fn serving(&self, queue: &str) -> Vec<&WorkerRow> {
        self.working().filter(|worker| worker.queues.iter().any(|name| name == queue)).collect()
    }

    /// Whether a live worker of our application takes anything.
    fn somebody_serves(&self) -> bool {
        self.working().next().is_some()
    }

    fn working(&self) -> impl Iterator<Item = &WorkerRow> {
        let application = &self.settings.worker.application_name;
        self.workers
            .iter()
            .filter(move |worker| worker.live && worker.state == "running" && worker.application == *application)
    }

    /// Application versions of our live workers.
    fn versions(&self) -> Vec<String> {
        let live = self
            .workers
            .iter()
            .filter(|worker| worker.live && worker.application == self.settings.worker.application_name);
        live.map(|worker| worker.version.clone()).collect()
    }

    fn patience(&self) -> humantime::FormattedDuration {
        humantime::format_duration(self.examiner.subject().patience)
    }

    fn patience_seconds(&self) -> f64 {
        self.examiner.subject().patience.as_secs_f64()
    }
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let began = Instant::now();
        let mut settings = global.settings(Vec::new())?;
        let configured = settings.database.pool_size;
        let (limit, cap) = if self.deep { DEEP } else { LIMIT };
        settings.database.pool_size = CONNECTIONS;
        settings.database.statement_timeout = limit.max(settings.database.statement_timeout);
        let database = Database::connect(&settings).await?;
        settings.database.pool_size = configured;
        let file =
            global.config.as_ref().map_or_else(|| "environment and defaults".into(), |file| file.display().to_string());
        let mut findings =
            vec![Finding::ok("configuration", format!("valid ({file})")), Finding::ok("database", "reached")];
        let subject = Subject {
            application: settings.worker.application_name.clone(),
            version: settings.worker.application_version.clone(),
            workflow: settings.execution.workflow_name.clone(),
            class: settings.execution.class_name.clone(),
            formats: Format::KNOWN.iter().map(|name| (*name).to_owned()).collect(),
            queues: settings.queue.iter().map(|queue| queue.name.clone()).collect(),
            patience: self.patience,
        };
        let examiner = Examiner::new(database.sysdb.clone(), database.prefix.clone(), subject, limit, cap);
        let visit = Visit { settings, database, examiner, standing: None, workers: Vec::new() };
        examine(visit, &mut findings).await?;
        self.tell(&findings, began.elapsed())
    }

    fn tell(&self, findings: &[Finding], took: Duration) -> anyhow::Result<ExitCode> {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let [well, notes, warnings, errors] = [Level::Ok, Level::Note, Level::Warning, Level::Error].map(count);
        let healthy = errors == 0 && (warnings == 0 || !self.strict);
        let shown = findings.iter().filter(|finding| !self.quiet || finding.level != Level::Ok);
        if self.json {
            output::json(&json!({
                "healthy": healthy, "errors": errors, "warnings": warnings, "notes": notes, "ok": well,
                "seconds": (took.as_secs_f64() * 10.0).round() / 10.0, "findings": shown.collect::<Vec<_>>(),
            }))?;
        } else {
            shown.for_each(show);
            let [errors, warnings, notes] = [(errors, "error"), (warnings, "warning"), (notes, "note")]
                .map(|(count, one)| many(i64::try_from(count).unwrap_or(i64::MAX), one));
            output::line(format!("{errors}, {warnings}, {notes}, {well} ok"));
        }
        Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILURE) })
    }
}

fn show(finding: &Finding) {
    let tone = match finding.level {
        Level::Ok => Tone::Good,
        Level::Note | Level::Warning => Tone::Odd,
        Level::Error => Tone::Bad,
    };
    let word = output::paint(&format!("{:<7}", finding.level.word()), tone);
    output::line(format!("{word}  {:<22}  {}", finding.check, finding.found));
    if let Some(advice) = &finding.advice {
        output::line(format!("         → {advice}"));
    }
}

/// All checks, one after the other: whoever looks for what is wrong should not add to the load.
async fn examine(mut visit: Visit, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    macro_rules! look {
        ($name:literal, $check:expr) => {
            add(findings, $name, $check.await)?
        };
    }
    look!("server", server::server(&visit));
    look!("insight", server::insight(&visit));
    look!("pooler", server::pooler(&visit));
    look!("tls", server::tls(&visit));
    look!("clock", server::clock(&visit));
    look!("durability", server::durability(&visit));
    look!("memory", server::memory(&visit));
    look!("defaults", server::defaults(&visit));
    look!("archiving", server::archiving(&visit));
    look!("transactions", sessions::transactions(&visit));
    look!("prepared-transactions", sessions::prepared(&visit));
    look!("replication-slots", sessions::slots(&visit));
    look!("locks", sessions::locks(&visit));

    look!("grants", schema::grants(&visit));
    if findings
        .iter()
        .any(|finding| finding.check == "grants" && finding.found.contains("lacks") && lacks_usage(finding))
    {
        return Ok(()); // without USAGE nothing more can be seen
    }
    visit.standing = visit.database.sysdb.standing().await.unwrap_or_default();
    match schema::schemas(&visit).await {
        Ok(found) => findings.extend(found),
        Err(SchemaError::Schema(error)) => add(findings, "system-schema", Err(Unseen::Other(error.to_string())))?,
        Err(error) => return Err(error.into()),
    }
    let usable = findings.iter().all(|finding| {
        !matches!(finding.check, "system-schema" | "tables") || matches!(finding.level, Level::Ok | Level::Note)
    });
    if !usable {
        return Ok(()); // there is nothing to look at yet
    }
    match visit.examiner.workers().await {
        Ok(workers) => visit.workers = workers,
        Err(error) => add(findings, "workers", Err(error))?,
    }
    look!("indexes", schema::indexes(&visit));
    look!("notify-trigger", schema::trigger(&visit));
    look!("connections", server::connections(&visit));
    look!("autovacuum", tables::autovacuum(&visit));
    look!("dead-rows", tables::dead_rows(&visit));
    look!("retention", tables::retention(&visit));
    look!("orphans", tables::orphans(&visit));
    look!("leftovers", tables::leftovers(&visit));
    look!("workers", workers::workers(&visit));
    look!("worker-versions", workers::worker_versions(&visit));
    look!("latest-version", workers::latest_version(&visit));
    look!("leases", workers::leases(&visit));
    look!("crashes", workers::crashes(&visit));
    look!("old-sdks", workers::old_sdks(&visit));
    look!("limits", queue::limits(&visit));
    look!("waiting", queue::waiting(&visit));
    look!("strangers", queue::strangers(&visit));
    look!("unserved-queues", queue::unserved(&visit));
    look!("delayed", queue::delayed(&visit));
    look!("deadlines", queue::deadlines(&visit));
    look!("stuck", queue::stuck(&visit));
    look!("parked", queue::parked(&visit));
    Ok(())
}

fn lacks_usage(finding: &Finding) -> bool {
    finding.advice.as_ref().is_some_and(|advice| advice.contains("GRANT USAGE"))
}

/// What a check couldn't look at.
enum Unseen {
    Database(SysdbError),
    Other(String),
}

impl From<SysdbError> for Unseen {
    fn from(error: SysdbError) -> Unseen {
        Unseen::Database(error)
    }
}

/// Add what a check found. One that can't look is a finding; only a database that has gone meanwhile ends the visit.
fn add(
    findings: &mut Vec<Finding>,
    check: &'static str,
    found: Result<Vec<Finding>, impl Into<Unseen>>,
) -> anyhow::Result<()> {
    let unseen = match found.map_err(Into::<Unseen>::into) {
        Ok(found) => {
            findings.extend(found);
            return Ok(());
        }
        Err(unseen) => unseen,
    };
    findings.push(match unseen {
        Unseen::Database(error) if error.is_away() => return Err(error.into()),
        Unseen::Database(error) => match error.code() {
            Some("57014") => Finding::warning(
                check,
                "can't tell: the question took too long, so there is much to read, or the server is overloaded",
                "fireflow-worker doctor --deep gives it more time",
            ),
            Some("55P03") => Finding::warning(
                check,
                format!("can't tell: {error}: somebody holds a lock on the table"),
                "see the checks `locks` and `transactions`; workers wait for the same lock",
            ),
            Some("42501") => Finding::warning(
                check,
                format!("can't tell: {error}"),
                "run the doctor as a role that may read this; the worker's own needs what the check `grants` lists",
            ),
            _ => Finding::warning(
                check,
                format!("can't tell: {error}"),
                "try again; if it stays, it is a fault of the doctor's: report it",
            ),
        },
        Unseen::Other(text) => Finding::error(check, text, "see docs/schema.md"),
    });
    Ok(())
}
