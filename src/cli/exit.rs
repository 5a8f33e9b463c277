//! Exit codes, and how an error is shown.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use crate::{
    admin,
    config::ConfigError,
    postgres,
    worker::{ConnectError, LeaseError, StartError, Stuck},
};

/// Refused, or failed.
pub(super) const FAILURE: u8 = 1;
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
    let _ = writeln!(std::io::stderr(), "{line}");
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
