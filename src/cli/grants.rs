//! `grants`: the rights that a role needs, as SQL.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{Global, output};
use crate::sysdb::schema::{
    app::Part,
    grants::{self, Purpose},
};

/// Write the rights that a role needs, as SQL.
///
/// GRANT statements for a role that is no owner of the tables. Connects to nothing; the owner runs them:
/// fireflow-worker grants fireflow_run | psql "$OWNER_URL"
#[derive(Debug, Args)]
pub struct Grants {
    /// The role, as it is named in the database
    role: String,
    /// What the role is for
    #[arg(long = "for", value_name = "PURPOSE", default_value = "worker")]
    purpose: Kind,
    /// The part for the database of database.flows_url
    #[arg(long)]
    flows: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// `run`
    Worker,
    /// Enqueue, send messages, read results
    Client,
    /// Store flows
    Author,
    /// Remove what ended long ago
    Gc,
    /// Look after executions, queues and workers
    Operator,
}

impl Grants {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let database = global.settings(Vec::new())?.database;
        if self.role.is_empty() || self.role.len() > 63 || self.role.chars().any(char::is_control) {
            anyhow::bail!("{:?} can't be a role's name: 1 to 63 bytes without control characters", self.role);
        }
        let purpose = match self.purpose {
            Kind::Worker => Purpose::Worker,
            Kind::Client => Purpose::Client,
            Kind::Author => Purpose::Author,
            Kind::Gc => Purpose::Retention,
            Kind::Operator => Purpose::Operator,
        };
        let part = match (database.flows_url.is_some(), self.flows) {
            (false, false) => Part::Both,
            (false, true) => {
                anyhow::bail!("there is no database.flows_url: flows are with the executions; leave out --flows")
            }
            (true, flows) => {
                if flows {
                    Part::Main
                } else {
                    Part::Executions
                }
            }
        };
        let sql =
            grants::statements(purpose, &database.schema.parse()?, &database.table_prefix.parse()?, part, &self.role);
        output::line(sql.trim_end());
        if part == Part::Executions {
            output::note(
                "note: flows are in another database (database.flows_url); --flows writes what is for that one",
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
