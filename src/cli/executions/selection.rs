//! Which executions a command is about: ids, ids from stdin, or all that fit a filter.

use std::{
    collections::{BTreeMap, HashSet},
    io::BufRead as _,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{filter::Filters, list::word};
use crate::{
    cli::{access::Access, cells, confirm::confirm, exit::usage, output},
    sysdb::{
        WorkflowId,
        operator::{Filter, Looked, Status},
    },
};

/// Ids from stdin, at most.
const FROM_STDIN: usize = 100_000;
/// An id is no longer, in bytes.
const LONGEST: usize = 4096;
/// Executions that one command with a filter is about, at most.
const MOST: usize = 10_000;

/// Executions by id, or by a filter.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Ids of executions; - reads them from stdin, one a line
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all", value_parser = id)]
    ids: Vec<String>,
    /// All that fit the filters below; asks before, at most ten thousand at once
    #[arg(long)]
    all: bool,
    /// Don't ask
    #[arg(long, requires = "all")]
    yes: bool,
    #[command(flatten)]
    filters: Filters,
}

/// Those that a command is about.
pub(super) struct Selected {
    /// Each once.
    pub ids: Vec<String>,
    /// By a filter those in these states are meant, and not what is in another one by now. Empty for ids.
    pub only: Vec<Status>,
}

impl Selection {
    /// The ids. With a filter, those in one of these states unless it asks for others, after asking whether to
    /// `verb` them; `None` when the answer is no.
    ///
    /// # Errors
    /// Nobody to ask, ids that can't be read, a filter beside ids, a state in which this can't be done; none found, where not all
    /// was looked through; and those of the database.
    pub async fn ids(&self, access: &Access, verb: &str, states: &[Status]) -> anyhow::Result<Option<Selected>> {
        if !self.all {
            if !self.filters.are_none() {
                return Err(usage("filters need --all; beside ids they mean nothing"));
            }
            return Ok(Some(Selected { ids: self.named()?, only: Vec::new() }));
        }
        let filter = self.filters.filter(states)?;
        if let Some(wrong) = filter.statuses.iter().find(|status| !states.contains(status)) {
            let possible: Vec<_> = states.iter().map(|status| status.word()).collect();
            return Err(usage(format!(
                "--status {wrong}: can't {verb} what is {wrong}; it has to be one of {}",
                possible.join(", ")
            )));
        }
        let found = collect(access, &filter).await?;
        let selected = Selected { ids: found.ids, only: filter.statuses };
        if selected.ids.is_empty() {
            if let Some(Looked { at, .. }) = found.looked_until {
                // The next one begins with the millisecond in which this one ended.
                let (at, next) = (cells::iso(at), cells::iso(at.saturating_add(1)));
                bail!(
                    "none fit of those created since {at}, and nothing was done; --until {next} looks at earlier ones"
                );
            }
            return Ok(Some(selected));
        }
        let more = found.more || found.looked_until.is_some();
        let rest = if more { ", and there are more" } else { "" };
        let sure = confirm(&format!("{}{rest}", question(verb, &found.states)), self.yes)?;
        if sure && more {
            output::note("there are more than these; the same again is for the next ones");
        }
        Ok(sure.then_some(selected))
    }

    fn named(&self) -> anyhow::Result<Vec<String>> {
        let mut seen = HashSet::new();
        let mut ids = Vec::new();
        let mut add = |id: String| {
            if seen.insert(id.clone()) {
                ids.push(id);
            }
        };
        for given in &self.ids {
            if given != "-" {
                add(given.clone());
                continue;
            }
            for (place, line) in std::io::stdin().lock().lines().enumerate() {
                let line = line.context("can't read ids from stdin")?;
                if place >= FROM_STDIN {
                    bail!("stdin has more than {FROM_STDIN} lines; split it");
                }
                if !line.trim().is_empty() {
                    add(id(line.trim()).map_err(usage)?);
                }
            }
        }
        Ok(ids)
    }
}

/// An execution's id, as it can be.
pub(super) fn id(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > LONGEST || text.contains('\0') {
        return Err(format!("{:?} can't be an execution's id", text.chars().take(60).collect::<String>()));
    }
    Ok(text.to_owned())
}

/// What fits a filter.
#[derive(Default)]
struct Found {
    ids: Vec<String>,
    /// How many of them are in which stored state.
    states: BTreeMap<String, usize>,
    more: bool,
    looked_until: Option<Looked>,
}

async fn collect(access: &Access, filter: &Filter) -> anyhow::Result<Found> {
    let (mut found, mut after): (Found, Option<WorkflowId>) = (Found::default(), None);
    loop {
        let limit = (MOST - found.ids.len()).min(1000);
        let page = access.operator.list(filter, after.as_ref(), limit).await?;
        after = page.executions.last().map(|last| last.id.clone());
        for execution in page.executions {
            *found.states.entry(execution.status).or_default() += 1;
            found.ids.push(execution.id.as_str().to_owned());
        }
        (found.more, found.looked_until) = (page.more, page.looked_until);
        if !found.more || found.ids.len() >= MOST {
            return Ok(found);
        }
    }
}

/// What is asked before: with the states, since what failed and what somebody cancelled are not the same.
fn question(verb: &str, states: &BTreeMap<String, usize>) -> String {
    let count: usize = states.values().sum();
    let kind = if count == 1 { "execution" } else { "executions" };
    let mut letters = verb.chars();
    let verb: String = letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect();
    let mut states: Vec<_> = states.iter().map(|(state, count)| (word(state), *count)).collect();
    states.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match states.as_slice() {
        [(state, _)] => format!("{verb} {count} {state} {kind}"),
        several => {
            let parts: Vec<_> = several.iter().map(|(state, count)| format!("{count} {state}")).collect();
            format!("{verb} {count} {kind} ({})", parts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_what_is_among_them() {
        let states = |states: &[(&str, usize)]| states.iter().map(|(state, count)| ((*state).into(), *count)).collect();
        assert_eq!(question("cancel", &states(&[("ENQUEUED", 200)])), "Cancel 200 queued executions");
        assert_eq!(question("cancel", &states(&[("PENDING", 1)])), "Cancel 1 running execution");
        let mixed = states(&[("CANCELLED", 2), ("ERROR", 10), ("MAX_RECOVERY_ATTEMPTS_EXCEEDED", 1)]);
        assert_eq!(question("retry", &mixed), "Retry 13 executions (10 failed, 2 cancelled, 1 parked)");
    }

    #[test]
    fn an_id_is_a_text_of_some_length() {
        assert_eq!(id("EX1"), Ok("EX1".into()));
        for wrong in ["", "a\0b", &"x".repeat(5000)] {
            assert!(id(wrong).is_err_and(|error| error.ends_with("can't be an execution's id")));
        }
    }
}
