//! One look at the message table for all workflows that wait, instead of one each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, broadcast, broadcast::error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::{
    postgres::Event,
    sysdb::{SystemDatabase, WorkflowId},
};

/// Pause between looks while announcements arrive: they make looks prompt, this one makes them certain.
const POLL: Duration = Duration::from_secs(1);

/// Who waits, by workflow and topic.
type Waiting = HashMap<(WorkflowId, String), Arc<Notify>>;

/// Wakes workflows that wait for a message. Cheap to clone.
#[derive(Clone, Default)]
pub struct MailRoom {
    waiting: Arc<Mutex<Waiting>>,
}

/// A workflow's place among those who wait; left on drop.
pub(super) struct Waiter {
    room: MailRoom,
    key: (WorkflowId, String),
    wake: Arc<Notify>,
}

impl MailRoom {
    /// Wait for mail from now on: a message that comes after this call wakes the waiter.
    pub(super) fn enter(&self, id: &WorkflowId, topic: &str) -> Waiter {
        let key = (id.clone(), topic.to_owned());
        let wake = Arc::new(Notify::new());
        self.lock().insert(key.clone(), wake.clone());
        Waiter { room: self.clone(), key, wake }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Serve until `stop`: on each announcement (the payload is `workflow::topic`), and once a second.
    pub async fn run(
        self,
        sysdb: SystemDatabase,
        mut announcements: broadcast::Receiver<Event>,
        stop: CancellationToken,
    ) {
        let mut deaf = false;
        loop {
            tokio::select! {
                heard = announcements.recv(), if !deaf => match heard {
                    Ok(Event::Notified(notification)) => {
                        self.wake(|(id, topic)| *notification.payload == format!("{id}::{topic}"));
                        continue;
                    }
                    Ok(Event::Lost) => continue,
                    // Something may have been missed: look.
                    Ok(Event::Listening) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => deaf = true,
                },
                () = tokio::time::sleep(POLL) => {}
                () = stop.cancelled() => return,
            }
            let waiting: Vec<_> = self.lock().keys().cloned().collect();
            if waiting.is_empty() {
                continue;
            }
            match sysdb.with_mail(&waiting).await {
                Ok(found) => self.wake(|key| found.contains(key)),
                Err(error) => tracing::debug!(%error, "can't look for messages"),
            }
        }
    }

    fn wake(&self, who: impl Fn(&(WorkflowId, String)) -> bool) {
        for (key, wake) in self.lock().iter() {
            if who(key) {
                wake.notify_one();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Completes when there may be a message.
    pub async fn mail(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.room.lock().remove(&self.key);
    }
}
