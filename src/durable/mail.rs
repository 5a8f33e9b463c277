//! One look at the message table for all workflows that wait, instead of one each.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
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
type Waiting = HashMap<(WorkflowId, String), Seat>;

/// The place of one who waits.
#[derive(Clone)]
struct Seat {
    wake: Arc<Notify>,
    /// It does nothing meanwhile.
    idle: Arc<AtomicBool>,
}

/// Wakes workflows that wait for a message. Cheap to clone.
#[derive(Clone, Default)]
pub struct MailRoom {
    waiting: Arc<Mutex<Waiting>>,
}

/// A workflow's place among those who wait; left on drop.
pub(super) struct Waiter {
    room: MailRoom,
    key: (WorkflowId, String),
    seat: Seat,
}

impl MailRoom {
    /// Wait for mail from now on: a message that comes after this call wakes the waiter. One that is `idle` does nothing
    /// else meanwhile.
    pub(super) fn enter(&self, id: &WorkflowId, topic: &str, idle: bool) -> Waiter {
        let key = (id.clone(), topic.to_owned());
        let seat = Seat { wake: Arc::new(Notify::new()), idle: Arc::new(AtomicBool::new(idle)) };
        self.lock().insert(key.clone(), seat.clone());
        Waiter { room: self.clone(), key, seat }
    }

    /// How many do nothing but wait.
    pub fn waiting(&self) -> usize {
        self.lock().values().filter(|seat| seat.idle.load(Relaxed)).count()
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
                        if let Some((id, topic)) = notification.payload.rsplit_once("::") {
                            self.wake_one(&(WorkflowId::new(id), topic.to_owned()));
                        }
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
                Ok(found) => found.iter().for_each(|key| self.wake_one(key)),
                Err(error) => tracing::debug!(%error, "can't look for messages"),
            }
        }
    }

    fn wake_one(&self, who: &(WorkflowId, String)) {
        if let Some(seat) = self.lock().get(who) {
            seat.wake.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Completes when there may be a message.
    pub async fn mail(&self) {
        self.seat.wake.notified().await;
    }

    /// Whether it does nothing else meanwhile.
    pub(super) fn set_idle(&self, idle: bool) {
        self.seat.idle.store(idle, Relaxed);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.room.lock();
        // A later life of the same workflow may have taken the place.
        if waiting.get(&self.key).is_some_and(|seat| Arc::ptr_eq(&seat.wake, &self.seat.wake)) {
            waiting.remove(&self.key);
        }
    }
}
