//! Exit codes, and how an error is shown.

use std::{io::IsTerminal as _, process::ExitCode};

use crate::{
    config::ConfigError,
    postgres,
    worker::{ConnectError, LeaseError, StartError},
};

/// Refused, or failed.
pub(super) const FAILURE: u8 = 1;
/// A panic.
pub(super) const BUG: u8 = 70;
const UNAVAILABLE: u8 = 69;
const HELD: u8 = 75;
const CONFIGURATION: u8 = 78;

/// Show an error on stderr, and give its exit code.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (begin, end) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    for line in text(error).lines() {
        eprint_line(&format!("{begin}error:{end} {line}"));
    }
    ExitCode::from(code(error))
}

#[expect(clippy::print_stderr, reason = "the last word of a command, when there may be no log")]
fn eprint_line(line: &str) {
    eprintln!("{line}");
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
        if cause.is::<postgres::Error>() || cause.is::<ConnectError>() {
            return UNAVAILABLE;
        }
        match cause.downcast_ref::<StartError>() {
            Some(StartError::Connect(_)) => return UNAVAILABLE,
            Some(StartError::Lease(LeaseError::Held { .. })) => return HELD,
            _ => {}
        }
    }
    FAILURE
}
