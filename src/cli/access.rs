//! What the operators' commands begin with: the settings, the database, and its tables.

use super::Global;
use crate::{
    config::Settings,
    execution::Task,
    sysdb::{
        operator::Operator,
        schema::grants::{Asked, Purpose},
    },
    wire::Format,
    worker::Database,
};

/// A database whose tables are there.
pub(super) struct Access {
    pub settings: Settings,
    pub operator: Operator,
}

/// Tables that only the doctor reads, and commands that change them. A worker's role may read all others.
const UNREAD: [&str; 5] =
    ["application_versions", "workflow_events", "workflow_events_history", "flow_pins", "flow_versions"];

impl Access {
    /// Connect, and make sure that there is something to look at. Makes nothing.
    ///
    /// # Errors
    /// A bad configuration, a database that can't be reached, a schema that is missing or can't be used, rights that are missing.
    pub async fn open(global: &Global) -> anyhow::Result<Access> {
        Access::to_change(global, &[]).await
    }

    /// The same for a command that changes these tables. It is refused before it changes anything if the role may not.
    ///
    /// # Errors
    /// As [`Access::open`].
    pub async fn to_change(global: &Global, writes: &'static [&'static str]) -> anyhow::Result<Access> {
        let settings = global.settings(Vec::new())?;
        let database = Database::connect(&settings).await?;
        database.ready_for(Asked { purpose: Purpose::Operator, writes: Some(writes), without: &UNREAD }).await?;
        let operator = Operator::new(&database.sysdb, &database.prefix, &settings.worker.application_name);
        Ok(Access { settings, operator })
    }

    /// The queues of the configuration.
    pub fn queues(&self) -> Vec<String> {
        self.settings.queue.iter().map(|queue| queue.name.clone()).collect()
    }
}

/// Who runs this command, as far as the system says: for whoever wonders later.
pub(super) fn whoami() -> String {
    let user =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let host = gethostname::gethostname();
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
    format!("{}@{}", clean(user.as_deref().unwrap_or("unknown")), clean(&host.to_string_lossy()))
}

/// The flow that a task is about, of its stored inputs.
pub(super) fn flow_of(inputs: Option<&str>, serialization: Option<&str>) -> Option<String> {
    let inputs = inputs?;
    let arguments = Format::of(serialization, Some(inputs)).ok()?.decode_inputs(inputs).ok()?;
    Task::read(&arguments).ok()?.flow_id
}

/// The text of a stored error.
pub(super) fn error_text(error: &str, serialization: Option<&str>) -> String {
    match Format::of(serialization, Some(error)) {
        Ok(format) => format.decode_error(error).message,
        Err(error) => error.to_string(),
    }
}
