//! Exit codes, and how an error is shown.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use super::output;
use crate::{
    admin,
    config::ConfigError,
    postgres,
    sysdb::{SysdbError, operator::OperatorError},
    worker::{ConnectError, LeaseError, StartError, Stuck},
};

/// Refused, or failed.
pub(super) const FAILURE: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// `executions tail`: the execution was cancelled.
pub(super) const CANCELLED: u8 = 3;
/// `executions tail`: the execution was parked.
pub(super) const PARKED: u8 = 4;
/// A panic.
pub(super) const BUG: u8 = 70;
const UNAVAILABLE: u8 = 69;
const HELD: u8 = 75;
/// The lease ended under executions that could not be stopped.
const STUCK: i32 = 71;
const CONFIGURATION: u8 = 78;

/// End the process at once, from any thread: executions can't be stopped, and others may run them by now.
pub(super) fn stuck(stuck: &Stuck) {
    let line = format!("{stuck}; this process ends at once");
    // Whatever keeps the executions may also keep the log.
    let told = std::thread::Builder::new().name("last-words".into()).spawn(move || tracing::error!("{line}"));
    if let Ok(told) = told {
        for _ in 0..100 {
            if told.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    std::process::exit(STUCK);
}

/// Arguments that don't go together, or mean nothing here: what only shows after they were read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Wrong usage.
pub(super) fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Show an error on stderr, and give its exit code.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (begin, end) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    for line in text(error).lines() {
        eprint_line(&format!("{begin}error:{end} {line}"));
    }
    ExitCode::from(code(error))
}

/// The last word of a command, when there may be no log. Nor may there be a stderr, and then it is said to nobody.
fn eprint_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", output::shown(line, std::io::stderr().is_terminal()));
}

/// The error and what caused it, without saying anything twice.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ConfigError>() {
            return CONFIGURATION;
        }
        if cause.is::<Usage>() {
            return USAGE;
        }
        // A transparent error is not in the chain itself.
        let database = match cause.downcast_ref::<OperatorError>() {
            Some(OperatorError::Database(error)) => Some(error),
            _ => cause.downcast_ref::<SysdbError>(),
        };
        if database.is_some_and(|error| error.is_away() && !error.is_read_only()) {
            return UNAVAILABLE;
        }
        let connect = |configuration| if configuration { CONFIGURATION } else { UNAVAILABLE };
        if let Some(error) = cause.downcast_ref::<postgres::Error>() {
            return connect(error.is_configuration());
        }
        if let Some(error) = cause.downcast_ref::<ConnectError>() {
            return connect(error.is_configuration());
        }
        if cause.downcast_ref::<admin::ListenError>().is_some_and(admin::ListenError::is_configuration) {
            return CONFIGURATION;
        }
        match cause.downcast_ref::<StartError>() {
            Some(StartError::Connect(error)) => return connect(error.is_configuration()),
            Some(StartError::Trace(_)) => return CONFIGURATION,
            Some(StartError::Lease(LeaseError::Held { .. })) => return HELD,
            _ => {}
        }
    }
    FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_tells_whether_the_database_or_the_user_was_at_fault() {
        let away = || SysdbError::Pool(deadpool_postgres::PoolError::Closed);
        assert_eq!(code(&away().into()), UNAVAILABLE);
        assert_eq!(code(&anyhow::Error::from(OperatorError::from(away())).context("5 were done")), UNAVAILABLE);
        assert_eq!(code(&OperatorError::NoWorker("w".into()).into()), FAILURE);
        assert_eq!(code(&usage("filters need --all")), USAGE);
    }
}
