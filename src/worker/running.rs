//! The executions of this process: their switches, and who was given back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    durable::{Control, Stop},
    sysdb::Owner,
};

/// All executions of this process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Running {
    state: Arc<Mutex<State>>,
    /// Changes whenever one ends.
    ended: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    controls: HashMap<Owner, Control>,
    handed_back: Vec<Owner>,
}

/// An execution's place among them; left on drop, however its task ends.
pub(super) struct Place {
    running: Running,
    owner: Owner,
}

impl Running {
    /// Changes whenever one ends.
    pub fn ended(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// A new execution, and its switch.
    pub fn enter(&self, owner: &Owner) -> (Place, Control) {
        let control = Control::default();
        self.lock().controls.insert(owner.clone(), control.clone());
        (Place { running: self.clone(), owner: owner.clone() }, control)
    }

    /// Who runs here.
    pub fn owners(&self) -> Vec<Owner> {
        self.lock().controls.keys().cloned().collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.lock().controls.len()
    }

    /// Stop one.
    pub fn stop(&self, owner: &Owner, reason: Stop) {
        if let Some(control) = self.lock().controls.get(owner) {
            control.stop(reason);
        }
    }

    /// Stop those that wait for a message.
    pub fn stop_waiting(&self, reason: &Stop) {
        for control in self.lock().controls.values().filter(|control| control.is_waiting()) {
            control.stop(reason.clone());
        }
    }

    /// Stop all.
    pub fn stop_all(&self, reason: &Stop) {
        for control in self.lock().controls.values() {
            control.stop(reason.clone());
        }
    }

    /// Those that stopped in order to be given back.
    pub fn handed_back(&self) -> Vec<Owner> {
        self.lock().handed_back.clone()
    }

    /// The first `count` of them have been given back.
    pub fn gave_back(&self, count: usize) {
        self.lock().handed_back.drain(..count);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// This one is to be given back to the queue.
    pub fn hand_back(&self) {
        self.running.lock().handed_back.push(self.owner.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.lock().controls.remove(&self.owner);
        self.running.ended.send_replace(());
    }
}
