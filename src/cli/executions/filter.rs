//! The filters that lists and bulk commands take.

use clap::Args;

use crate::{
    cli::{cells, exit::usage},
    sysdb::operator::{Filter, Status},
};

/// Which executions.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Filters {
    /// Status: queued, delayed, running, completed, failed, cancelled or parked, or DBOS's own name; several with commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<Status>,
    /// On this queue; what was cancelled or parked is on none
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Of this flow's id, once begun
    #[arg(long, value_name = "ID")]
    flow: Option<String>,
    /// Created then or later: a duration before now (2h), a day, or a time in ISO 8601
    #[arg(long, value_name = "TIME", value_parser = cells::time)]
    since: Option<i64>,
    /// Created before: as --since
    #[arg(long, value_name = "TIME", value_parser = cells::time)]
    until: Option<i64>,
    /// Taken last by this worker
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// Of this workflow's name; executeFireFlow is that of flows
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Children of this execution
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
}

impl Filters {
    /// For the database. With these states, where none is asked for.
    ///
    /// # Errors
    /// A time from which on nothing can fit.
    pub fn filter(&self, or_status: &[Status]) -> anyhow::Result<Filter> {
        let Filters { status, queue, flow, since, until, worker, name, parent } = self.clone();
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(usage(format!("--since {} is not before --until {}", cells::iso(since), cells::iso(until))));
        }
        let statuses = if status.is_empty() { or_status.to_vec() } else { status };
        Ok(Filter { statuses, queue, flow, worker, name, parent, since, until })
    }

    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        let Filters { status, queue, flow, since, until, worker, name, parent } = self;
        let texts = [queue, flow, worker, name, parent];
        status.is_empty() && texts.iter().all(|text| text.is_none()) && since.is_none() && until.is_none()
    }
}
