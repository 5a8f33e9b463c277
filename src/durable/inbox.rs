//! Messages that are no steps of their workflow: it reads them while a step runs, and consumes them together with what
//! they change.

use super::mail::Waiter;

/// A workflow's messages of one topic, while a step runs. Closed on drop.
pub struct Inbox {
    pub(super) waiter: Waiter,
    /// The step that runs.
    pub(super) function_id: i32,
}

impl Inbox {
    /// Completes when there may be messages.
    pub async fn arrived(&self) {
        self.waiter.mail().await;
    }
}
