//! Parents that wait for their children: one look at all of them, instead of one each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Control, DurableError, Slot};
use crate::sysdb::{SystemDatabase, WorkflowId, WorkflowView};

/// Pause between looks for children that end elsewhere; those that end in this process are told at once.
const POLL: Duration = Duration::from_millis(500);

/// Wakes parents when their children end. Cheap to clone.
#[derive(Clone)]
pub struct Family {
    sysdb: SystemDatabase,
    awaited: Arc<Mutex<HashMap<WorkflowId, Arc<Notify>>>>,
    started: watch::Sender<()>,
}

impl Family {
    /// On this database.
    pub fn new(sysdb: SystemDatabase) -> Family {
        Family { sysdb, awaited: Arc::default(), started: watch::Sender::new(()) }
    }

    /// Children were put on the queue here.
    pub fn has_started(&self) {
        self.started.send_replace(());
    }

    /// Changes whenever children were put on the queue here, so that nobody waits for the next look at it.
    pub fn started(&self) -> watch::Receiver<()> {
        self.started.subscribe()
    }

    /// A workflow of this process has ended.
    pub fn has_ended(&self, id: &WorkflowId) {
        if let Some(wake) = self.lock().get(id) {
            wake.notify_one();
        }
    }

    /// Serve until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = stop.cancelled() => return,
            }
            let awaited: Vec<WorkflowId> = self.lock().keys().cloned().collect();
            if awaited.is_empty() {
                continue;
            }
            match self.sysdb.ended(&awaited).await {
                Ok(ended) => ended.iter().for_each(|id| self.has_ended(id)),
                Err(error) => tracing::debug!(%error, "can't look for children that ended"),
            }
        }
    }

    /// How a child ended; waits for it, with the slot free meanwhile. `None` when the child is gone.
    pub(super) async fn end_of(
        &self,
        child: &WorkflowId,
        slot: &mut Slot,
        control: &Control,
    ) -> Result<Option<WorkflowView>, DurableError> {
        let wake = Arc::new(Notify::new());
        let _awaited = Awaited { family: self, child, wake: self.enter(child, &wake) }; // before the look
        slot.suspend();
        control.set_waiting(true);
        let view = loop {
            match self.sysdb.workflow(child).await {
                Ok(None) => break None,
                Ok(Some(view)) if view.has_ended() => break Some(view),
                Ok(Some(_)) => {}
                Err(error) => tracing::debug!(%error, "can't look after a child; trying again"),
            }
            tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep(POLL * 10) => {}
                stop = control.stopped() => return Err(DurableError::Stopped(stop)),
            }
        };
        control.set_waiting(false);
        tokio::select! {
            () = slot.resume() => Ok(view),
            stop = control.stopped() => Err(DurableError::Stopped(stop)),
        }
    }

    fn enter(&self, child: &WorkflowId, wake: &Arc<Notify>) -> Arc<Notify> {
        self.lock().insert(child.clone(), wake.clone());
        wake.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkflowId, Arc<Notify>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A parent's place; left on drop, unless a later life of the same parent has taken it.
struct Awaited<'a> {
    family: &'a Family,
    child: &'a WorkflowId,
    wake: Arc<Notify>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut awaited = self.family.lock();
        if awaited.get(self.child).is_some_and(|wake| Arc::ptr_eq(wake, &self.wake)) {
            awaited.remove(self.child);
        }
    }
}
