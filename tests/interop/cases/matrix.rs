//! A table of scenarios and clients.

use std::{io::Write as _, panic::AssertUnwindSafe};

use futures_util::FutureExt as _;

use crate::interop::setup::{Lang, version};

/// What a scenario came to with a client.
pub enum Cell {
    /// All of it held.
    Holds,
    /// It can't hold there, for this reason in a few words, which the scenario has checked.
    Cannot(&'static str),
    /// It did not hold.
    Failed(String),
}

impl Cell {
    /// Plays a scenario; when it panics, the others still have their turn.
    pub async fn of(scenario: impl Future<Output = Result<(), &'static str>>) -> Cell {
        match AssertUnwindSafe(scenario).catch_unwind().await {
            Ok(Ok(())) => Cell::Holds,
            Ok(Err(reason)) => Cell::Cannot(reason),
            Err(panic) => Cell::Failed(match panic.downcast_ref::<String>() {
                Some(message) => message.clone(),
                None => panic.downcast_ref::<&str>().copied().unwrap_or("a panic without a text").to_owned(),
            }),
        }
    }
}

/// Scenarios down, clients across.
pub struct Matrix<'m> {
    /// The heads of the columns.
    pub clients: &'m [Lang],
    /// The heads of the rows.
    pub scenarios: Vec<&'static str>,
    /// For each client a cell for each scenario.
    pub columns: Vec<Vec<Cell>>,
}

impl Matrix<'_> {
    /// Writes it to stderr, past the test harness, which would keep it to itself when all is well.
    pub fn print(&self) {
        self.print_for("");
    }

    /// As [`Matrix::print`], with what it is about.
    pub fn print_for(&self, subject: &str) {
        let heads: Vec<String> =
            self.clients.iter().map(|lang| format!("{:?} {}", lang.newest(), version(*lang))).collect();
        let mut text = format!("\n{subject:28}");
        for head in &heads {
            text += &format!("{head:20}");
        }
        for (number, scenario) in self.scenarios.iter().enumerate() {
            text += &format!("\n{scenario:28}");
            for column in &self.columns {
                let cell = match &column[number] {
                    Cell::Holds => "yes",
                    Cell::Failed(_) => "FAILED",
                    Cell::Cannot(reason) => reason,
                };
                text += &format!("{cell:20}");
            }
        }
        // A closed stderr is no reason to fail.
        let _ = std::io::stderr().write_all(format!("{text}\n\n").as_bytes());
    }

    /// What failed: the client, the scenario and how.
    pub fn failures(&self) -> Vec<(Lang, &'static str, &str)> {
        let mut failures = Vec::new();
        for (lang, column) in self.clients.iter().zip(&self.columns) {
            for (scenario, cell) in self.scenarios.iter().zip(column) {
                if let Cell::Failed(how) = cell {
                    failures.push((*lang, *scenario, how.as_str()));
                }
            }
        }
        failures
    }
}
