//! Live streams between nodes: an append-only buffer with a closed flag and any number of readers, each of which
//! reads from the first item on and waits at the end until there is more or the channel closes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Value;

/// A shared stream. Clones are the same stream.
#[derive(Clone, Debug, Default)]
pub struct Channel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Value>,
    closed: bool,
    error: Option<String>,
}

/// The channel was closed before the item was sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream is closed")]
pub struct Closed;

impl Channel {
    /// A channel that already holds items.
    pub fn with_items(items: Vec<Value>, closed: bool) -> Channel {
        let state = State { items, closed, error: None };
        Channel(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Append an item.
    pub fn send(&self, item: Value) -> Result<(), Closed> {
        {
            let mut state = self.state();
            if state.closed {
                return Err(Closed);
            }
            state.items.push(item);
        }
        self.0.changed.notify_waiters();
        Ok(())
    }

    /// Close the channel, with an error for readers to look at after the end, or without. Closing twice keeps the first.
    pub fn close(&self, error: Option<String>) {
        {
            let mut state = self.state();
            if !state.closed {
                state.closed = true;
                state.error = error;
            }
        }
        self.0.changed.notify_waiters();
    }

    /// The item at a position; waits for it, and is `None` once the channel has closed before it.
    pub async fn item(&self, position: usize) -> Option<Value> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable(); // before looking, or a send between look and wait is missed
            {
                let state = self.state();
                if let Some(item) = state.items.get(position) {
                    return Some(item.clone());
                }
                if state.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// The error that the channel was closed with.
    pub fn error(&self) -> Option<String> {
        self.state().error.clone()
    }

    /// The items so far, and whether the channel has closed.
    pub fn contents(&self) -> (Vec<Value>, bool) {
        let state = self.state();
        (state.items.clone(), state.closed)
    }

    /// The stored form: `{type: "stream", buffer, isClosed}`.
    pub fn snapshot(&self) -> serde_json::Value {
        let (items, closed) = self.contents();
        let buffer: Vec<_> = items.iter().map(Value::to_json).collect();
        serde_json::json!({"type": "stream", "buffer": buffer, "isClosed": closed})
    }

    /// Whether two handles are the same stream.
    pub fn same(&self, other: &Channel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
