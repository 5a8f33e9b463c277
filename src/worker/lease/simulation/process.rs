//! A worker's process: its clock, its lease, and what runs in it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::clock::{Answer, LeaseClock, Order, margin};
use super::super::moment::Moment;
use super::database::Time;
use super::mutation::Mutation;

/// A million is a clock that goes right.
const RIGHT: u64 = 1_000_000;

/// The clock of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// How fast it runs, in millionths.
    pub rate: u64,
    /// What it has jumped, or stood still.
    pub ahead: i64,
}

impl Machine {
    pub fn now(self, time: Time) -> Moment {
        let local = (time * self.rate / RIGHT).saturating_add_signed(self.ahead);
        Moment::of_nanoseconds(local * 1000)
    }

    /// The true time that passes while this clock counts so much.
    pub fn lasts(self, local: Duration) -> Time {
        u64::try_from(local.as_micros()).expect("simulated times are short") * RIGHT / self.rate + 1
    }
}

/// The real state machine, or a mutation of it.
#[derive(Clone)]
pub(super) struct Belief {
    clock: LeaseClock,
    lease: Duration,
    mutation: Option<Mutation>,
    /// When a lease without a margin would end.
    end: Moment,
}

impl Belief {
    pub fn new(lease: Duration, asked: Moment, answered: Moment, mutation: Option<Mutation>) -> Belief {
        let asked = if mutation == Some(Mutation::CountedFromTheAnswer) { answered } else { asked };
        Belief { clock: LeaseClock::new(lease, asked), lease, mutation, end: asked + lease }
    }

    pub fn order(&mut self, now: Moment) -> Order {
        match self.clock.order(now) {
            Order::Stop(_) if self.mutation == Some(Mutation::NoMargin) && now < self.end => Order::Wait(self.end),
            order => order,
        }
    }

    pub fn answered(&mut self, asked: Moment, now: Moment, answer: Answer) {
        match self.mutation {
            Some(Mutation::CountedFromTheAnswer) if answer == Answer::Granted => {
                self.clock.answered(now, now, answer);
            }
            Some(Mutation::LateAnswerCounts) if answer == Answer::Granted && !self.clock.may_work(now) => {
                self.clock = LeaseClock::new(self.lease, now);
            }
            _ => {
                if answer == Answer::Granted {
                    self.end = self.end.max(asked + self.lease);
                }
                self.clock.answered(asked, now, answer);
            }
        }
    }

    pub fn may_work(&self, now: Moment) -> bool {
        if self.mutation == Some(Mutation::NoMargin) { now < self.end } else { self.clock.may_work(now) }
    }

    /// Whether everything must have stopped.
    pub fn is_over(&self, now: Moment) -> bool {
        self.clock.stopped_by().is_some_and(|by| now >= by)
    }

    /// Time for executions to stop in.
    pub fn grace(&self) -> Duration {
        margin(self.lease)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Down,
    Acquiring,
    Recovering,
    Serving,
    Draining,
    /// The lease is lost; what runs is about to stop.
    Stopping,
}

/// An execution in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub token: u64,
    /// The step that comes next, and the id of its write.
    pub step: usize,
    pub write: u64,
}

pub(super) struct Process {
    /// The worker's id.
    pub id: usize,
    pub machine: Machine,
    pub phase: Phase,
    /// Which process of this place it is: events of earlier ones are void.
    pub epoch: u32,
    pub paused: bool,
    pub incarnation: u64,
    /// Earlier lives of this process, and of processes that are certainly gone: who has the lease as one of them may be replaced.
    pub before: Vec<u64>,
    /// Questions for a lease, and answers.
    pub asks: u64,
    /// Whose lease it has waited for.
    pub waited_for: Option<u64>,
    pub belief: Option<Belief>,
    pub running: BTreeMap<usize, Run>,
    /// Told to drain.
    pub draining: bool,
}

impl Process {
    pub fn may_work(&self, time: Time) -> bool {
        let served = matches!(self.phase, Phase::Recovering | Phase::Serving | Phase::Draining);
        served && self.belief.as_ref().is_some_and(|belief| belief.may_work(self.machine.now(time)))
    }
}
