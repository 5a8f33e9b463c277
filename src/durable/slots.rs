//! Worker slots. Holding a [`Slot`] is the permission to run; it is given back however the task ends.
//!
//! A process has so many of them in all, and each of its queues so many of its own. Where the queues could use more than
//! there are, each has a share by its weight. What a queue doesn't use of it is lent to the others, and comes back to it, as
//! their executions end, as soon as it wants it again. So none can starve another, and none runs idle while there is work.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The slots of one queue of a process.
#[derive(Clone)]
pub struct Slots {
    room: Arc<Mutex<Room>>,
    /// Which queue's.
    lane: usize,
}

/// How the slots of a queue are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many there may be at once.
    pub limit: u32,
    /// How many are taken.
    pub taken: u32,
    /// How many the queue could take now: what others use, or have a claim to, is not among them.
    pub free: u32,
    /// Who waits for one.
    pub waiting: usize,
}

/// All slots of a process.
struct Room {
    total: u32,
    lanes: Vec<Lane>,
}

/// A queue's part.
struct Lane {
    /// Most of its own.
    limit: u32,
    /// What it gets in any case, once it wants it.
    share: u32,
    taken: u32,
    /// Its last look found more than it could take.
    hungry: bool,
    /// Who waits for one, in the order of coming.
    waiters: VecDeque<oneshot::Sender<Slot>>,
}

impl Lane {
    /// What must be kept for it while others take.
    fn reserved(&self) -> u32 {
        let wants = self.hungry || !self.waiters.is_empty();
        if wants { self.share.min(self.limit).saturating_sub(self.taken) } else { 0 }
    }
}

impl Room {
    /// So many in all, and to each lane what its weight says.
    fn share(&mut self, total: u32, weights: impl Iterator<Item = u32> + Clone) {
        let all: u64 = weights.clone().map(u64::from).sum();
        self.total = total;
        for (lane, weight) in self.lanes.iter_mut().zip(weights) {
            let share = u64::from(total) * u64::from(weight) / all.max(1);
            lane.share = u32::try_from(share).unwrap_or(total).max(1);
        }
    }

    /// How many this lane may take now.
    fn allowed(&self, lane: usize) -> u32 {
        let free = self.total.saturating_sub(self.lanes.iter().map(|lane| lane.taken).sum());
        let others = self.lanes.iter().enumerate().filter(|(index, _)| *index != lane);
        let reserved: u32 = others.map(|(_, lane)| lane.reserved()).sum();
        let lane = &self.lanes[lane];
        let own = lane.share.saturating_sub(lane.taken).min(free);
        own.max(free.saturating_sub(reserved)).min(lane.limit.saturating_sub(lane.taken))
    }

    /// Give what is free to those who wait: to the lane that has least of its share first.
    fn grant(&mut self, room: &Arc<Mutex<Room>>) {
        loop {
            let waiting = (0..self.lanes.len()).filter(|lane| !self.lanes[*lane].waiters.is_empty());
            let fullness = |lane: &usize| {
                let lane = &self.lanes[*lane];
                f64::from(lane.taken) / f64::from(lane.share.max(1))
            };
            let next =
                waiting.filter(|lane| self.allowed(*lane) > 0).min_by(|a, b| fullness(a).total_cmp(&fullness(b)));
            let Some(lane) = next else { return };
            let Some(waiter) = self.lanes[lane].waiters.pop_front() else { return };
            let slot = Slot { slots: Slots { room: room.clone(), lane }, held: true, seat: None };
            match waiter.send(slot) {
                Ok(()) => self.lanes[lane].taken += 1,
                // Gone meanwhile. It was never counted, so it is not to be given back.
                Err(mut slot) => slot.held = false,
            }
        }
    }
}

impl Slots {
    /// So many, for one queue.
    pub fn new(size: u32) -> Slots {
        Slots { room: Slots::room(size, &[(size, 1)]), lane: 0 }
    }

    /// For several queues, each with a limit and a weight, and so many for all together.
    pub fn shared(total: u32, queues: &[(u32, u32)]) -> Vec<Slots> {
        let room = Slots::room(total, queues);
        (0..queues.len()).map(|lane| Slots { room: room.clone(), lane }).collect()
    }

    fn room(total: u32, queues: &[(u32, u32)]) -> Arc<Mutex<Room>> {
        let lane =
            |&(limit, _): &(u32, u32)| Lane { limit, share: 1, taken: 0, hungry: false, waiters: VecDeque::new() };
        let mut room = Room { total, lanes: queues.iter().map(lane).collect() };
        room.share(total, queues.iter().map(|(_, weight)| *weight));
        Arc::new(Mutex::new(room))
    }

    /// Have another number of them for all queues together from now on, and other shares, by the queues' weights in their
    /// order. Nobody loses a slot.
    pub fn share(&self, total: u32, weights: &[u32]) {
        let mut room = self.lock();
        room.share(total, weights.iter().copied());
        room.grant(&self.room);
    }

    /// Have another number of them from now on. Nobody loses a slot: with fewer, those given back aren't given out again.
    pub fn resize(&self, limit: u32) {
        let mut room = self.lock();
        room.lanes[self.lane].limit = limit;
        room.grant(&self.room);
    }

    /// How many this queue can have at most.
    pub fn limit(&self) -> u32 {
        let room = self.lock();
        room.lanes[self.lane].limit.min(room.total)
    }

    /// Say whether there is more to do than there were slots for. While there is, others leave this queue its share.
    pub fn want_more(&self, hungry: bool) {
        let mut room = self.lock();
        room.lanes[self.lane].hungry = hungry;
        if !hungry {
            room.grant(&self.room);
        }
    }

    /// How they are used now.
    pub fn usage(&self) -> Usage {
        let room = self.lock();
        let lane = &room.lanes[self.lane];
        Usage {
            limit: lane.limit.min(room.total),
            taken: lane.taken,
            free: room.allowed(self.lane),
            waiting: lane.waiters.len(),
        }
    }

    /// Wait for a free slot, and take with it all others that are free for this queue at that moment.
    pub async fn take_free(&self) -> Vec<Slot> {
        let first = self.take().await;
        let mut room = self.lock();
        let more = room.allowed(self.lane);
        room.lanes[self.lane].taken += more;
        drop(room);
        let more = (0..more).map(|_| Slot { slots: self.clone(), held: true, seat: None });
        std::iter::once(first).chain(more).collect()
    }

    /// First come, first served.
    async fn take(&self) -> Slot {
        loop {
            let waiting = {
                let mut room = self.lock();
                if room.lanes[self.lane].waiters.is_empty() && room.allowed(self.lane) > 0 {
                    room.lanes[self.lane].taken += 1;
                    return Slot { slots: self.clone(), held: true, seat: None };
                }
                let (sender, receiver) = oneshot::channel();
                room.lanes[self.lane].waiters.push_back(sender);
                receiver
            };
            // A sender goes only with the room, which we hold; and a slot that comes after we left gives itself back.
            if let Ok(slot) = waiting.await {
                return slot;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One slot of a worker.
pub struct Slot {
    slots: Slots,
    held: bool,
    /// What it takes besides the slot, for a suspect.
    seat: Option<Seat>,
}

/// A place among the few that a process keeps for suspects: those that may take it down.
pub struct Seat {
    seats: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// One of them, if one is free.
    pub fn try_take(seats: &Arc<Semaphore>) -> Option<Seat> {
        let permit = seats.clone().try_acquire_owned().ok()?;
        Some(Seat { seats: seats.clone(), permit: Some(permit) })
    }
}

impl Slot {
    /// From now on it comes with this seat: both are given back together, and taken again together.
    pub fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// Give the seat back for good.
    pub fn stand_up(&mut self) {
        self.seat = None;
    }

    /// Give the slot back for the time of a wait.
    pub fn suspend(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.permit = None;
        }
        if std::mem::take(&mut self.held) {
            let mut room = self.slots.lock();
            room.lanes[self.slots.lane].taken -= 1;
            room.grant(&self.slots.room);
        }
    }

    /// Wait for a slot again. First come, first served, together with the dispatcher.
    pub async fn resume(&mut self) {
        if let Some(seat) = self.seat.as_mut().filter(|seat| seat.permit.is_none()) {
            seat.permit = seat.seats.clone().acquire_owned().await.ok(); // never closed
        }
        if !self.held {
            let mut taken = self.slots.take().await;
            self.held = std::mem::take(&mut taken.held);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.suspend();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn fewer_slots_take_nobody_s_and_more_are_there_at_once() {
        let slots = Slots::new(4);
        let room = Slots { lane: 0, room: Slots::room(8, &[(4, 1)]) };
        let mut taken = room.take_free().await;
        assert_eq!(taken.len(), 4);
        room.resize(2);
        room.resize(1);
        room.resize(3); // one beyond is taken
        drop(taken.pop());
        assert!(room.take_free().now_or_never().is_none(), "the surplus vanishes");
        drop(taken.pop());
        assert_eq!(room.take_free().await.len(), 1);
        room.resize(5);
        assert_eq!(room.take_free().await.len(), 3, "two are still taken");
        drop(taken);
        assert_eq!(room.take_free().await.len(), 5);
        assert_eq!(slots.take_free().await.len(), 4);
    }

    #[tokio::test]
    async fn who_left_while_waiting_keeps_nobody_from_it() {
        let slots = Slots::new(1);
        let mut slot = slots.take_free().await.pop().unwrap();
        assert!(slots.take_free().now_or_never().is_none());
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take_free().await.len() }
        });
        tokio::task::yield_now().await;
        slot.suspend();
        assert_eq!(waiting.await.unwrap(), 1);
        // A slot that was sent to somebody who never looked comes back.
        let slot = slots.take_free().await;
        let mut late = Box::pin(slots.take_free());
        assert!(late.as_mut().now_or_never().is_none());
        drop(slot);
        drop(late);
        assert_eq!(slots.take_free().await.len(), 1);
    }

    #[tokio::test]
    async fn a_seat_is_free_while_who_has_it_waits() {
        let (slots, seats) = (Slots::new(2), Arc::new(Semaphore::new(1)));
        let mut taken = slots.take_free().await;
        let (mut second, mut first) = (taken.pop().unwrap(), taken.pop().unwrap());
        first.sit(Seat::try_take(&seats).unwrap());
        assert!(Seat::try_take(&seats).is_none());
        first.suspend();
        second.sit(Seat::try_take(&seats).unwrap());
        assert!(first.resume().now_or_never().is_none(), "there is a slot, but no seat");
        drop(second);
        first.resume().await;
        assert!(Seat::try_take(&seats).is_none());
        drop(first);
        assert!(Seat::try_take(&seats).is_some());
    }

    #[tokio::test]
    async fn a_share_is_lent_while_nobody_wants_it_and_comes_back() {
        let queues = Slots::shared(4, &[(4, 1), (4, 1)]);
        let (flooded, quiet) = (&queues[0], &queues[1]);
        let mut running = flooded.take_free().await;
        assert_eq!(running.len(), 4, "nobody else wants any");
        flooded.want_more(true);
        let mut waiting = Box::pin(quiet.take_free());
        assert!(waiting.as_mut().now_or_never().is_none());
        // All are taken, though neither queue is at its limit.
        assert_eq!(quiet.usage(), Usage { limit: 4, taken: 0, free: 0, waiting: 1 });
        assert_eq!(flooded.usage(), Usage { limit: 4, taken: 4, free: 0, waiting: 0 });
        drop(running.pop());
        let mut quiets = waiting.await;
        assert_eq!(quiets.len(), 1);
        quiet.want_more(true);
        drop(running.pop());
        assert!(flooded.take_free().now_or_never().is_none(), "kept for the other, up to its share");
        quiets.extend(quiet.take_free().await);
        assert_eq!(quiets.len(), 2);
        drop(running.pop());
        assert!(quiet.take_free().now_or_never().is_none(), "and no more than that");
        assert_eq!(flooded.take_free().await.len(), 1);
    }

    #[tokio::test]
    async fn the_total_and_the_shares_change_and_nobody_loses_a_slot() {
        let queues = Slots::shared(4, &[(8, 1), (8, 1)]);
        queues.iter().for_each(|queue| queue.want_more(true));
        let mut first = queues[0].take_free().await;
        let second = queues[1].take_free().await;
        assert_eq!((first.len(), second.len()), (2, 2));
        let mut waiting = Box::pin(queues[1].take_free());
        assert!(waiting.as_mut().now_or_never().is_none());
        queues[0].share(8, &[1, 3]);
        assert_eq!(waiting.await.len(), 4, "three quarters of eight");
        assert!(queues[0].take_free().now_or_never().is_none());
        queues[0].share(1, &[1, 1]);
        assert_eq!(first.len(), 2);
        first.pop();
        assert!(queues[0].take_free().now_or_never().is_none(), "there are more than one still");
    }

    #[tokio::test]
    async fn shares_follow_the_weights_and_never_exceed_a_queue_s_own_limit() {
        let queues = Slots::shared(8, &[(8, 3), (8, 1), (1, 4)]);
        queues.iter().for_each(|queue| queue.want_more(true));
        let mut taken = Vec::new();
        for queue in &queues {
            taken.push(queue.take_free().await);
        }
        // The third has a share of four and a limit of one: what it can't use is free for all.
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [6, 1, 1]);
    }
}
