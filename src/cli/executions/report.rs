//! What a command says about each id, and its exit code.

use std::process::ExitCode;

use serde_json::json;

use super::list::word;
use crate::{
    cli::{exit, output},
    sysdb::operator::{Changed, Outcome},
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
        let result = match outcome {
            Outcome::Done => Ok(done.to_owned()),
            Outcome::Final => {
                let was = was.as_deref().unwrap_or_default();
                Err(format!("it is {}, which stands{}", word(was), stands(was)))
            }
            Outcome::Unknown => Err("there is no such execution".into()),
        };
        Told { id, was, result }
    }
}

/// Tell each of them: on stdout what was done, on stderr what was not. Exit code 1 when something was not.
///
/// JSON: [{id, was, done, result, error}]
pub(super) fn tell(all: &[Told], json: bool) -> anyhow::Result<ExitCode> {
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
        if all.is_empty() {
            output::note("no executions fit; nothing was done");
        }
    }
    let failed = all.iter().any(|told| told.result.is_err());
    Ok(if failed { ExitCode::from(exit::FAILURE) } else { ExitCode::SUCCESS })
}

/// The answer to a question was no.
pub(super) fn nothing_done() -> ExitCode {
    output::note("nothing was done");
    ExitCode::from(exit::FAILURE)
}
