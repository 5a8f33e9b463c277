//! `enqueue`: put an execution on the queue, as any DBOS client would, and wait for it if asked.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::{Global, cells, exit, flow, output};
use crate::{
    config::{Settings, Start},
    execution::{FlowsError, StoredFlow},
    sysdb::{Enqueued, NewWorkflow, Standing, SystemDatabase, WorkflowId, WorkflowView},
    wire::Format,
    worker::Database,
};

/// Pause between looks at an execution that is waited for.
const POLL: Duration = Duration::from_millis(100);

/// Put an execution of a flow on the queue.
#[derive(Debug, Args)]
pub struct Enqueue {
    /// Id of the flow, or its name where only one flow has it
    flow: String,
    /// Value for an input port; VALUE is JSON, or else a text; @FILE reads it from a file
    #[arg(long = "input", short, value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    /// Id of the execution; one that exists is not run again. Default: a new one
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Wait for the end and show the result; exit code 1 when it failed
    #[arg(long)]
    wait: bool,
    /// Longest wait; the execution goes on after it
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = cells::span)]
    wait_timeout: Duration,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Enqueue {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = global.settings(Vec::new())?;
        let inputs =
            self.inputs.iter().map(|input| read_input(input)).collect::<anyhow::Result<Map<String, Json>>>()?;
        let database = Database::connect(&settings).await?;
        let (flow, stored) = find(&settings, &database, &self.flow).await?;
        stored.flow.bind_inputs(&inputs)?; // a mistyped name is better told here than by a failed execution
        let id = WorkflowId::new(self.id.unwrap_or_else(execution_id));
        let enqueued = enqueue(&settings, &database.sysdb, &id, &flow, inputs).await?;
        if let Some(shortfall) = database.sysdb.standing().await?.and_then(Standing::shortfall) {
            output::note(format!("note: {shortfall}"));
        }
        if enqueued == Enqueued::Known {
            output::note(format!("note: execution {id} was there already, and keeps its first inputs"));
        }
        if !self.wait {
            match self.json {
                true => output::json(&json!({"id": id.as_str(), "flow": flow, "new": enqueued == Enqueued::New}))?,
                false => output::line(id.as_str()),
            }
            return Ok(ExitCode::SUCCESS);
        }
        let Some(view) = wait(&database.sysdb, &id, self.wait_timeout).await? else {
            let waited = humantime::format_duration(self.wait_timeout);
            bail!(
                "execution {id} has not ended within {waited}; it goes on. Does a worker serve the queue \"{}\"?",
                settings.queue.first().name
            );
        };
        let outcome = outcome(&view);
        if self.json {
            let (result, error) = match &outcome {
                Ok(result) => (result.clone(), Json::Null),
                Err(error) => (Json::Null, Json::from(error.as_str())),
            };
            output::json(
                &json!({"id": id.as_str(), "flow": flow, "status": view.status, "result": result, "error": error}),
            )?;
        } else {
            match &outcome {
                Ok(result) => output::line(serde_json::to_string_pretty(result)?),
                Err(error) => output::note(format!("error: execution {id} ended as {}: {error}", view.status)),
            }
        }
        Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILURE) })
    }
}

/// Enqueue an execution; where executions wait for a start signal, send it.
pub(super) async fn enqueue(
    settings: &Settings,
    sysdb: &SystemDatabase,
    id: &WorkflowId,
    flow: &str,
    inputs: Map<String, Json>,
) -> anyhow::Result<Enqueued> {
    let mut task =
        json!({"executionId": id.as_str(), "flowId": flow, "timestamp": jiff::Timestamp::now().as_millisecond()});
    if !inputs.is_empty() {
        task["inputs"] = Json::Object(inputs);
    }
    let new = NewWorkflow {
        id: id.clone(),
        name: &settings.execution.workflow_name,
        class: &settings.execution.class_name,
        queue: &settings.queue.first().name,
        application: &settings.worker.application_name,
        inputs: json!({"positionalArgs": [task]}).to_string(),
        timeout_ms: None,
        deduplication_id: Some(id.as_str()),
    };
    let enqueued = sysdb.enqueue(&new).await?;
    if enqueued == Enqueued::New && settings.execution.start == Start::Signal {
        sysdb.send(id, "START_SIGNAL", &json!("GO")).await?;
    }
    Ok(enqueued)
}

/// Wait for the end of a workflow; `None` when the time is over.
pub(super) async fn wait(
    sysdb: &SystemDatabase,
    id: &WorkflowId,
    timeout: Duration,
) -> anyhow::Result<Option<WorkflowView>> {
    let until = tokio::time::Instant::now() + timeout;
    loop {
        match sysdb.workflow(id).await? {
            Some(view) if view.has_ended() => return Ok(Some(view)),
            _ if tokio::time::Instant::now() >= until => return Ok(None),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// A workflow's result, or the text of its error.
pub(super) fn outcome(view: &WorkflowView) -> Result<Json, String> {
    let format = |text: &str| Format::of(view.serialization.as_deref(), Some(text)).map_err(|error| error.to_string());
    match (view.status.as_str(), &view.output, &view.error) {
        ("SUCCESS", Some(output), _) => format(output)?.decode_value(output).map_err(|error| error.to_string()),
        ("SUCCESS", None, _) => Ok(Json::Null),
        ("ERROR", _, Some(error)) => Err(format(error)?.decode_error(error).message),
        (status, ..) => Err(status.to_ascii_lowercase().replace('_', " ")),
    }
}

/// A flow that is given by id or by name, and its id.
async fn find(settings: &Settings, database: &Database, flow: &str) -> anyhow::Result<(String, StoredFlow)> {
    let store = flow::store(settings, database);
    let unknown = match store.get(flow).await {
        Ok(stored) => return Ok((flow.to_owned(), stored)),
        Err(error @ FlowsError::Unknown(_)) => error,
        Err(error) => return Err(error.into()),
    };
    let named: Vec<_> = store.list().await?.into_iter().filter(|known| known.name == flow).collect();
    match named.as_slice() {
        [] => Err(unknown.into()),
        [one] => Ok((one.id.clone(), store.get(&one.id).await?)),
        several => {
            let ids = several.iter().map(|known| known.id.as_str()).collect::<Vec<_>>().join(", ");
            bail!("{} flows are named \"{flow}\"; give one of their ids: {ids}", several.len())
        }
    }
}

/// `NAME=VALUE`; the value is JSON, or else a text, and `@FILE` reads it from a file.
pub(super) fn read_input(input: &str) -> anyhow::Result<(String, Json)> {
    let Some((name, value)) = input.split_once('=') else { bail!("--input {input}: expected NAME=VALUE") };
    let value = match value.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("--input {name}: can't read {file}"))?,
        None => value.to_owned(),
    };
    let json = serde_json::from_str(&value).unwrap_or_else(|_| Json::from(value));
    Ok((name.to_owned(), json))
}

/// A new execution id: `EX` and 24 characters of an alphabet without look-alikes.
pub(super) fn execution_id() -> String {
    const ALPHABET: &[u8] = b"346789ABCDEFGHJKLMNPQRTUVWXYabcdefghijkmnpqrtwxyz";
    let random = (0..24).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]));
    std::iter::once("EX".to_owned()).chain(random.map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_json_or_else_text() {
        let read = |input| read_input(input).unwrap();
        assert_eq!(read("n=3"), ("n".into(), json!(3)));
        assert_eq!(read("o={\"a\": [1]}"), ("o".into(), json!({"a": [1]})));
        assert_eq!(read("name=Ada Lovelace"), ("name".into(), json!("Ada Lovelace")));
        assert_eq!(read("text=\"3\""), ("text".into(), json!("3")));
        assert_eq!(read("eq=a=b"), ("eq".into(), json!("a=b")));
        assert!(read_input("nothing").unwrap_err().to_string().contains("NAME=VALUE"));
        assert!(read_input("f=@/no/such/file").unwrap_err().to_string().contains("/no/such/file"));
    }
}
