//! What a command says about each id, and its exit code.

use std::process::ExitCode;

use serde_json::json;

use super::list::word;
use crate::{
    cli::{access::Access, exit, output},
    sysdb::operator::{Bulk, Changed, OperatorError, Outcome},
};

/// One id, and how it went: done in these words, or not, and why not.
pub(super) struct Told {
    pub id: String,
    /// Stored status before.
    pub was: Option<String>,
    pub result: Result<String, String>,
}

impl Told {
    /// Of a change, which is called `done`; `stands` says what to do instead with one that has ended.
    pub fn of(changed: Changed, done: &str, stands: impl Fn(&str) -> String) -> Told {
        let Changed { id, was, outcome } = changed;
        let state = was.as_deref().unwrap_or_default();
        let result = match outcome {
            Outcome::Done => Ok(done.to_owned()),
            Outcome::Final => Err(format!("it is {}, which stands{}", word(state), stands(state))),
            Outcome::Changed => Err(format!("it is {} by now, and was left alone", word(state))),
            Outcome::Locked => Err("another session has its row locked; try again".into()),
            Outcome::Unknown => Err("there is no such execution".into()),
        };
        Told { id, was, result }
    }

    /// Of what came of many.
    pub fn of_all(bulk: Bulk, done: &str, stands: impl Fn(&str) -> String) -> (Vec<Told>, Option<OperatorError>) {
        (bulk.changed.into_iter().map(|changed| Told::of(changed, done, &stands)).collect(), bulk.failed)
    }
}

/// Tell each of them: on stdout what was done, on stderr what was not. Exit code 1 when something was not.
///
/// JSON: [{id, was, done, result, error}]
///
/// # Errors
/// What kept the others from being done, after these have been told.
pub(super) fn tell(all: &[Told], failed: Option<OperatorError>, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let rows: Vec<_> = all
            .iter()
            .map(|told| {
                let (result, error) = (told.result.as_ref().ok(), told.result.as_ref().err());
                json!({"id": told.id, "was": told.was, "done": result.is_some(), "result": result, "error": error})
            })
            .collect();
        output::json(&rows)?;
    } else {
        for told in all {
            match &told.result {
                Ok(done) => output::line(format!("{}  {done}", told.id)),
                Err(why) => output::note(format!("error: execution \"{}\": {why}", told.id)),
            }
        }
        if all.is_empty() && failed.is_none() {
            output::note("no executions fit; nothing was done");
        }
    }
    if let Some(failed) = failed {
        let done = all.iter().filter(|told| told.result.is_ok()).count();
        return Err(anyhow::Error::from(failed)
            .context(format!("{done} were done; of others it is not known, or they were not")));
    }
    let failed = all.iter().any(|told| told.result.is_err());
    Ok(if failed { ExitCode::from(exit::FAILURE) } else { ExitCode::SUCCESS })
}

/// Warn of those that go on only under a version of the application that no live worker has. What can't be looked up now isn't
/// warned of: the rest is done.
pub(super) async fn warn_of_versions(access: &Access, told: &[Told]) {
    let ids: Vec<String> = told.iter().filter(|told| told.result.is_ok()).map(|told| told.id.clone()).collect();
    for (version, count) in access.operator.unserved_versions(&ids).await.unwrap_or_default() {
        output::note(format!(
            "warning: {count} of them ask for application version \"{version}\", which no live worker has; they wait until one has it"
        ));
    }
}

/// The answer to a question was no.
pub(super) fn nothing_done() -> ExitCode {
    output::note("nothing was done");
    ExitCode::from(exit::FAILURE)
}
