//! What the operators' commands begin with: the settings, the database, and its tables.

use anyhow::bail;

use super::Global;
use crate::{config::Settings, execution::Task, sysdb::operator::Operator, wire::Format, worker::Database};

/// A database whose tables are there.
pub(super) struct Access {
    pub settings: Settings,
    pub operator: Operator,
}

impl Access {
    /// Connect, and make sure that there is something to look at. Makes nothing.
    ///
    /// # Errors
    /// A bad configuration, a database that can't be reached, a schema that is missing or can't be used.
    pub async fn open(global: &Global) -> anyhow::Result<Access> {
        let settings = global.settings(Vec::new())?;
        let database = Database::connect(&settings).await?;
        let missing = database.plan_schemas().await?;
        if let Some(first) = missing.first() {
            bail!("the database isn't ready for this ({first}, …); `fireflow-worker migrate` makes what is missing");
        }
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
