//! What becomes of a claimed execution: it runs to its end here, or is parked.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;

use super::{
    report::{self, Ended},
    running::{Place, Running},
    status::Status,
};
use crate::{
    durable::{Control, Family, MailRoom, Slot, Stop, Workflow},
    execution::Executor,
    failpoint::failpoint,
    metrics::ParkReason,
    sysdb::{Checkpoint, Claimed, Finish, StepRecord, SystemDatabase, Write, WriterHandle},
    wire::{Failure, Format},
};

/// Pause before a question is asked again that the database didn't answer.
const AGAIN: Duration = Duration::from_millis(100);

/// What every execution needs.
pub(super) struct Starter {
    pub sysdb: SystemDatabase,
    pub executor: Executor,
    pub writer: WriterHandle,
    pub mail: MailRoom,
    pub family: Family,
    pub running: Running,
    pub status: Arc<Status>,
}

impl Starter {
    pub(super) async fn execute(&self, claimed: Claimed, slot: Slot, place: Place, control: Control) {
        let began = Instant::now();
        let ended = self.run(&claimed, slot, &place, control).await;
        ended.tell(&self.status, &claimed.queue, began.elapsed());
    }

    /// Run it to its end, here.
    async fn run(&self, claimed: &Claimed, slot: Slot, place: &Place, control: Control) -> Ended {
        let history = match self.history(claimed, &control).await {
            Ok(history) => history,
            Err(stop) => return stopped(&stop, place),
        };
        tracing::debug!(queue = claimed.queue, recorded_steps = history.len(), "execution begins");
        let mut workflow = Workflow::new(
            claimed.owner.clone(),
            history,
            slot,
            control,
            self.writer.clone(),
            self.mail.clone(),
            self.family.clone(),
        );
        let run = AssertUnwindSafe(self.executor.execute(claimed, &mut workflow)).catch_unwind();
        match run.await {
            Ok(Ok("completed")) => Ended::Completed,
            Ok(Ok("stopped")) => Ended::Stopped,
            Ok(Ok(_)) => Ended::Failed,
            Ok(Err(stop)) => stopped(&stop, place),
            Err(panic) => {
                self.panicked(claimed, &panic_text(panic)).await;
                Ended::Failed
            }
        }
    }

    async fn history(&self, claimed: &Claimed, control: &Control) -> Result<Vec<StepRecord>, Stop> {
        if !claimed.has_history {
            return Ok(Vec::new());
        }
        let id = &claimed.owner.id;
        loop {
            match self.sysdb.history(std::slice::from_ref(id)).await {
                Ok(mut found) => return Ok(found.remove(id).unwrap_or_default()),
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "can't read the recorded steps; trying again");
                }
                // The row goes back to the queue as stranded, and is parked when that doesn't help.
                Err(error) => {
                    tracing::error!(%error, "can't read the recorded steps");
                    return Err(Stop::Disowned);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                stop = control.stopped() => return Err(stop),
            }
        }
    }

    /// A bug of ours. The row must not stay PENDING while this worker lives, nor be tried again for ever.
    async fn panicked(&self, claimed: &Claimed, text: &str) {
        tracing::error!(text, "execution panicked; this is a bug in fireflow-worker");
        let failure = Failure::new("InternalError", format!("the worker panicked: {text}"));
        let format =
            Format::of(claimed.serialization.as_deref(), claimed.inputs.as_deref()).unwrap_or(Format::Portable);
        let error = format.encode_error(&failure, claimed.owner.id.as_str());
        let mut writes =
            vec![Write::Application(self.executor.executions.failed(claimed.owner.id.as_str(), &failure.message))];
        writes.push(Write::Application(self.executor.versions.unpin(claimed.owner.id.as_str())));
        writes.push(Write::Finish(Finish { outcome: Err(error), legacy: claimed.legacy }));
        let checkpoint = Checkpoint { owner: claimed.owner.clone(), writes: Arc::new(writes) };
        if let Err(error) = self.writer.commit(checkpoint).await {
            tracing::error!(%error, "can't record the panic");
        }
    }

    pub(super) async fn park(&self, claimed: &Claimed) {
        let text = format!("parked: it was claimed {} times (execution.max_recovery_attempts)", claimed.attempts - 1);
        let rows = [
            self.executor.executions.failed(claimed.owner.id.as_str(), &text),
            self.executor.versions.unpin(claimed.owner.id.as_str()),
        ];
        failpoint!(ClaimParking);
        let parked = self.sysdb.dead_letter(&claimed.owner, &rows).await;
        failpoint!(ClaimParked);
        match parked {
            Ok(_) => {
                let (execution, reason) = (claimed.owner.id.as_str(), ParkReason::Attempts);
                report::Parked { execution, why: text.trim_start_matches("parked: "), reason }.tell(&self.status);
                Ended::Parked.tell(&self.status, &claimed.queue, Duration::ZERO);
            }
            Err(error) => tracing::error!(%error, "can't park an execution that was started too often"),
        }
    }
}

fn stopped(stop: &Stop, place: &Place) -> Ended {
    match stop {
        Stop::HandBack => {
            place.hand_back();
            Ended::HandedBack
        }
        Stop::Lost(_) | Stop::Disowned | Stop::Abort(_) => Ended::Lost(stop.to_string()),
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned()),
    }
}
