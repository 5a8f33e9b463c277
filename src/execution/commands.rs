//! Commands to an execution while its flow runs: pause, resume, step, stop.
//!
//! They are messages on the topic `COMMAND`, and no steps: a run that is recovered doesn't meet them again. What a command
//! changes for good is the execution's row, `paused` or `running`, and it is consumed in the same transaction; only then
//! is it obeyed. So a worker that dies in between loses nothing: the next life begins as the row says. A stop is consumed
//! with the record of the end that it asks for.

use std::{convert::Infallible, time::Duration};

use serde_json::Value as Json;
use tokio::sync::watch;

use super::{ExecutionStore, Executor};
use crate::{
    durable::{DurableError, Inbox, Step, Stop, Workflow},
    flow::engine::{DebugState, Debugger},
    sysdb::{SystemDatabase, Unread},
    wire::Format,
};

/// Topic of the messages.
pub(super) const TOPIC: &str = "COMMAND";
/// Messages read at once.
const BATCH: u32 = 100;
/// No command is larger, in bytes.
const LARGEST: u32 = 64 << 10;
/// Pause before looking again when the database didn't answer.
const RETRY: Duration = Duration::from_secs(1);

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nodes that haven't begun wait.
    Pause,
    /// They go on.
    Resume,
    /// Those that wait now go on, and what comes after them waits.
    Step,
    /// The execution ends, for this reason.
    Stop(String),
}

impl Command {
    /// `{command, reason?}`, or the command alone.
    fn read(message: &Json) -> Option<Command> {
        let word = message.get("command").unwrap_or(message).as_str()?;
        match word.to_ascii_uppercase().as_str() {
            "PAUSE" => Some(Command::Pause),
            "RESUME" => Some(Command::Resume),
            "STEP" => Some(Command::Step),
            "STOP" => {
                let reason = message.get("reason").and_then(Json::as_str).filter(|reason| !reason.is_empty());
                Some(Command::Stop(reason.unwrap_or("stopped by a command").to_owned()))
            }
            _ => None,
        }
    }

    /// What a message on the topic says.
    ///
    /// # Errors
    /// Why it is no command.
    pub fn decode(unread: &Unread) -> Result<Command, String> {
        let message = unread.message.as_ref().ok_or_else(|| format!("it has more than {LARGEST} bytes"))?;
        let format = Format::of(message.serialization.as_deref(), Some(&message.value)).map_err(|e| e.to_string())?;
        let value = format.decode_value(&message.value).map_err(|error| error.to_string())?;
        let expected = "expected {\"command\": \"PAUSE\"}, or RESUME, STEP, STOP";
        Command::read(&value).ok_or_else(|| expected.to_owned())
    }
}

/// A run that begins.
pub(super) struct Life<'a> {
    pub workflow: &'a mut Workflow,
    /// The step that it is.
    pub step: &'a Step,
    pub debugger: &'a Debugger,
    /// An earlier life left it paused.
    pub paused: bool,
}

/// Reads an execution's commands, and keeps its row at what the debugger shows.
pub(super) struct Commands<'a> {
    sysdb: &'a SystemDatabase,
    executions: &'a ExecutionStore,
    /// The execution's id.
    execution: &'a str,
    workflow: &'a mut Workflow,
    inbox: Inbox,
    debugger: &'a Debugger,
    /// Its row says `paused`.
    shown: bool,
    /// The execution holds no slot, since nothing happens.
    rests: bool,
    /// There may be commands that were not read.
    look: bool,
}

impl<'a> Commands<'a> {
    /// For the run that begins in this step. `paused`: an earlier life left it so.
    pub fn new(executor: &'a Executor, execution: &'a str, life: Life<'a>) -> Commands<'a> {
        let Life { workflow, step, debugger, paused } = life;
        Commands {
            sysdb: &executor.sysdb,
            executions: &executor.executions,
            execution,
            inbox: workflow.inbox(step, TOPIC),
            workflow,
            debugger,
            shown: paused,
            rests: false,
            look: false,
        }
    }

    /// Obey what is there before the run begins, so that it holds from the first node on.
    pub async fn look_first(&mut self) -> Result<(), DurableError> {
        self.look = !self.read().await?;
        Ok(())
    }

    /// Obey until this is dropped, or nothing can be written any more.
    pub async fn obey(mut self) -> Result<Infallible, DurableError> {
        let mut state = self.debugger.state();
        loop {
            let mut failed = false;
            if self.look {
                failed = !self.read().await?;
            }
            self.show(&mut state).await?;
            self.look = tokio::select! {
                () = self.inbox.arrived() => true,
                Ok(()) = state.changed() => failed,
                () = tokio::time::sleep(RETRY), if failed => true,
            };
        }
    }

    /// Consume and obey what is there; false when the database didn't answer.
    async fn read(&mut self) -> Result<bool, DurableError> {
        loop {
            let id = &self.workflow.owner().id;
            let unread = match self.sysdb.unread(id, TOPIC, BATCH, LARGEST).await {
                Ok(unread) => unread,
                Err(error) => {
                    tracing::debug!(%error, "can't look for commands; trying again");
                    return Ok(false);
                }
            };
            if unread.is_empty() {
                return Ok(true);
            }
            let mut commands = Vec::new();
            for one in &unread {
                match Command::decode(one) {
                    Ok(command) => commands.push(command),
                    Err(error) => tracing::warn!(error, "a message on the topic {TOPIC} is no command; it is ignored"),
                }
            }
            let messages = unread.into_iter().map(|unread| unread.id).collect();
            let stop = commands.iter().find_map(|command| match command {
                Command::Stop(reason) => Some(reason.clone()),
                _ => None,
            });
            if let Some(reason) = stop {
                tracing::info!(reason, "execution is stopped by a command");
                self.workflow.consume_next(&self.inbox, messages);
                self.workflow.control().stop(Stop::Abort(reason));
                return Ok(true);
            }
            let paused = commands.iter().rev().find_map(|command| match command {
                Command::Pause => Some(true),
                Command::Resume => Some(false),
                _ => None,
            });
            let rows = paused.into_iter().map(|paused| self.row(paused)).collect();
            self.workflow.consume(&self.inbox, messages, rows).await?;
            self.shown = paused.unwrap_or(self.shown);
            for command in commands {
                self.order(command).await?;
            }
        }
    }

    async fn order(&mut self, command: Command) -> Result<(), DurableError> {
        tracing::info!(?command, "execution has a command");
        if command == Command::Pause {
            self.debugger.pause();
            return Ok(());
        }
        // Nodes run only with a slot.
        if std::mem::take(&mut self.rests) {
            self.workflow.wake(&self.inbox).await?;
        }
        match command {
            Command::Step => self.debugger.step(),
            _ => self.debugger.resume(),
        }
        Ok(())
    }

    /// Let the row say what the run does, and give the slot back while it does nothing.
    async fn show(&mut self, state: &mut watch::Receiver<DebugState>) -> Result<(), DurableError> {
        let state = state.borrow_and_update().clone();
        if state.orders < self.debugger.orders() {
            return Ok(()); // it has yet to look at what was ordered
        }
        if state.paused != self.shown {
            self.workflow.write_rows(vec![self.row(state.paused)]).await?;
            self.shown = state.paused;
        }
        if state.is_at_rest() && !self.rests {
            tracing::info!(held = state.held.join(", "), "execution is paused");
            self.workflow.rest(&self.inbox);
            self.rests = true;
        }
        Ok(())
    }

    fn row(&self, paused: bool) -> crate::sysdb::ApplicationWrite {
        if paused { self.executions.paused(self.execution) } else { self.executions.resumed(self.execution) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sysdb::Message;

    #[test]
    fn commands_are_known_in_every_format_and_anything_else_is_not() {
        let unread = |value: &str, serialization: Option<&str>| Unread {
            id: "1".into(),
            message: Some(Message { value: value.into(), serialization: serialization.map(str::to_owned) }),
        };
        let envelope = r#"{"json":{"command":"PAUSE","reason":"x"},"__dbos_serializer":"superjson"}"#;
        assert_eq!(Command::decode(&unread(envelope, None)), Ok(Command::Pause));
        assert_eq!(Command::decode(&unread(r#"{"command":"step"}"#, Some("portable_json"))), Ok(Command::Step));
        assert_eq!(Command::read(&json!("RESUME")), Some(Command::Resume));
        assert_eq!(Command::read(&json!({"command": "STOP", "reason": "why"})), Some(Command::Stop("why".into())));
        for (value, format) in
            [("{", Some("portable_json")), (r#"{"command":"GO"}"#, None), ("[]", None), ("1", Some("rot13"))]
        {
            assert!(Command::decode(&unread(value, format)).is_err(), "{value}");
        }
        assert!(Command::decode(&Unread { id: "1".into(), message: None }).unwrap_err().contains("bytes"));
    }
}
