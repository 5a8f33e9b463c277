//! Where events leave a run: in order, and no further ahead of their receiver than memory allows.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::flow::events::Event;

/// Bytes of events that may wait for their receiver, however many events that is; a larger one waits alone. Snapshots
/// hold whole values, so that a count alone is no limit.
const AHEAD_BYTES: usize = 64 << 20;

/// The sending half of a run's event channel. It is the channel's only sender, so that what is still in the channel
/// are the last events that it sent.
pub(super) struct Outlet {
    sender: mpsc::Sender<Event>,
    /// Sizes of the events that may still be in the channel, oldest first.
    sizes: VecDeque<usize>,
    waiting: usize,
}

impl Outlet {
    pub fn new(sender: mpsc::Sender<Event>) -> Outlet {
        Outlet { sender, sizes: VecDeque::new(), waiting: 0 }
    }

    /// Send an event, once there is room for it. Without a receiver it is lost.
    pub async fn send(&mut self, event: Event) {
        let size = event.data.len();
        self.forget_received();
        if self.waiting + size > AHEAD_BYTES && self.make_room(size).await.is_err() {
            return;
        }
        if self.sender.send(event).await.is_ok() {
            self.sizes.push_back(size);
            self.waiting += size;
        }
    }

    fn forget_received(&mut self) {
        self.keep_newest(self.sender.max_capacity() - self.sender.capacity());
    }

    fn keep_newest(&mut self, count: usize) {
        while self.sizes.len() > count {
            self.waiting -= self.sizes.pop_front().unwrap_or_default();
        }
    }

    /// Wait until the receiver has taken so many of the oldest events that the rest leaves room for `size` bytes.
    async fn make_room(&mut self, size: usize) -> Result<(), mpsc::error::SendError<()>> {
        let mut kept = 0;
        let mut bytes = size;
        for waiting in self.sizes.iter().rev() {
            bytes += waiting;
            if bytes > AHEAD_BYTES {
                break;
            }
            kept += 1;
        }
        let free = self.sender.max_capacity() - kept;
        drop(self.sender.reserve_many(free).await?);
        self.keep_newest(kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::EventKind;

    fn event(index: i64, megabytes: usize) -> Event {
        Event { index, kind: EventKind::NodeLog, timestamp: 0, data: " ".repeat(megabytes << 20) }
    }

    #[tokio::test]
    async fn large_events_wait_until_there_is_room_for_their_bytes() {
        let (sender, mut receiver) = mpsc::channel(16);
        let mut outlet = Outlet::new(sender);
        for index in 0..3 {
            outlet.send(event(index, 20)).await;
        }
        {
            let mut fourth = std::pin::pin!(outlet.send(event(3, 20)));
            assert!(futures_util::poll!(fourth.as_mut()).is_pending(), "80 MB are more than may wait");
            assert_eq!(receiver.recv().await.map(|event| event.index), Some(0));
            fourth.await;
        }
        {
            let mut huge = std::pin::pin!(outlet.send(event(4, 70)));
            for index in 1..=3 {
                assert!(futures_util::poll!(huge.as_mut()).is_pending(), "it waits alone");
                assert_eq!(receiver.recv().await.map(|event| event.index), Some(index));
            }
            huge.await;
        }
        drop(receiver);
        outlet.send(event(5, 70)).await; // nobody receives: no wait
    }
}
