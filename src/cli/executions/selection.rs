//! Which executions a command is about: ids, ids from stdin, or all that fit a filter.

use std::{collections::HashSet, io::BufRead as _};

use anyhow::{Context as _, bail};
use clap::Args;

use super::filter::Filters;
use crate::{
    cli::{access::Access, confirm::confirm, output},
    sysdb::{
        WorkflowId,
        operator::{Filter, Status},
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
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
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

impl Selection {
    /// The ids, each once. With a filter, those in one of these states unless it asks for others, after asking whether to
    /// `verb` them; `None` when the answer is no.
    ///
    /// # Errors
    /// Nobody to ask, ids that can't be read, a filter beside ids, a state in which this can't be done; and those of the database.
    pub async fn ids(&self, access: &Access, verb: &str, states: &[Status]) -> anyhow::Result<Option<Vec<String>>> {
        if !self.all {
            if !self.filters.are_none() {
                bail!("filters need --all; beside ids they mean nothing");
            }
            return self.named().map(Some);
        }
        let filter = self.filters.filter(states);
        if let Some(wrong) = filter.statuses.iter().find(|status| !states.contains(status)) {
            let possible: Vec<_> = states.iter().map(|status| status.word()).collect();
            bail!("--status {wrong}: can't {verb} what is {wrong}; it has to be one of {}", possible.join(", "));
        }
        let (ids, more) = collect(access, &filter).await?;
        if ids.is_empty() {
            return Ok(Some(ids));
        }
        let (count, kind) = (ids.len(), if ids.len() == 1 { "execution" } else { "executions" });
        let rest = if more { ", and there are more" } else { "" };
        let question = format!("{verb} {count} {kind}{rest}");
        let mut letters = question.chars();
        let question =
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>();
        let sure = confirm(&question, self.yes)?;
        if sure && more {
            output::note("there are more than these; the same again is for the next ones");
        }
        Ok(sure.then_some(ids))
    }

    fn named(&self) -> anyhow::Result<Vec<String>> {
        let mut seen = HashSet::new();
        let mut ids = Vec::new();
        let mut add = |id: &str| -> anyhow::Result<()> {
            if id.is_empty() || id.len() > LONGEST || id.contains('\0') {
                bail!("{:?} can't be an execution's id", id.chars().take(60).collect::<String>());
            }
            if seen.insert(id.to_owned()) {
                ids.push(id.to_owned());
            }
            Ok(())
        };
        for id in &self.ids {
            if id != "-" {
                add(id)?;
                continue;
            }
            for (place, line) in std::io::stdin().lock().lines().enumerate() {
                let line = line.context("can't read ids from stdin")?;
                if place >= FROM_STDIN {
                    bail!("stdin has more than {FROM_STDIN} lines; split it");
                }
                if !line.trim().is_empty() {
                    add(line.trim())?;
                }
            }
        }
        Ok(ids)
    }
}

async fn collect(access: &Access, filter: &Filter) -> anyhow::Result<(Vec<String>, bool)> {
    let (mut ids, mut after): (Vec<String>, Option<WorkflowId>) = (Vec::new(), None);
    loop {
        let page = access.operator.list(filter, after.as_ref(), 1000).await?;
        after = page.executions.last().map(|last| last.id.clone());
        ids.extend(page.executions.iter().map(|execution| execution.id.as_str().to_owned()));
        let more = page.more || page.looked_until.is_some();
        if !page.more || ids.len() >= MOST {
            ids.truncate(MOST);
            return Ok((ids, more));
        }
    }
}
