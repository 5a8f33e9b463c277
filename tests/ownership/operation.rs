//! What executors and clients do, as drawn at random.

use proptest::prelude::*;

use crate::stage::{EXECUTORS, ROWS};

/// A queue of the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    Plain,
    /// With a global limit.
    Limited,
    Internal,
}

/// What a checkpoint holds. Step numbers are few, so that they meet.
#[derive(Clone, Debug)]
pub enum Content {
    Step(i32),
    StepAndAppend(i32),
    Append(usize),
    Receive(i32),
    ReceiveAndAppend(i32),
    /// A step as it is recorded by now: a retried commit.
    Again(i32),
    Finish(bool),
    StepAndFinish(i32),
    Invalid(Invalid),
}

/// What the server refuses.
#[derive(Clone, Copy, Debug)]
pub enum Invalid {
    StepText,
    StreamText,
    StreamKey,
    Outcome,
}

/// A checkpoint through the writer of an executor, under one of the last tokens that a claim gave, its own or not.
#[derive(Clone, Debug)]
pub struct Commit {
    pub executor: usize,
    pub holding: usize,
    pub content: Content,
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Operation {
    Enqueue(usize, Queue),
    Postpone(usize),
    Claim { executor: usize, queue: Queue, slots: u32 },
    Commit(Commit),
    Cancel(usize),
    Resume(usize),
    Delete(usize),
    Send(usize),
    PassDeadline(usize),
    CancelExpired(usize),
    ReleaseDelayed(usize),
    Recover { by: usize, dead: usize },
    Release(usize, Vec<usize>),
    DeadLetter(usize, usize),
}

/// What happens next.
#[derive(Clone, Debug)]
pub enum Happening {
    Alone(Operation),
    /// Operations at the same moment.
    Together(Vec<Operation>),
    /// Checkpoints that one writer gets at the same moment.
    Batch(Vec<Commit>),
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => (0..5).prop_map(Content::Step),
        3 => (0..5).prop_map(Content::StepAndAppend),
        4 => (1..4usize).prop_map(Content::Append),
        3 => (0..5).prop_map(Content::Receive),
        2 => (0..5).prop_map(Content::ReceiveAndAppend),
        1 => (0..5).prop_map(Content::Again),
        1 => any::<bool>().prop_map(Content::Finish),
        1 => (0..5).prop_map(Content::StepAndFinish),
        1 => invalid().prop_map(Content::Invalid),
    ]
}

fn invalid() -> impl Strategy<Value = Invalid> {
    prop::sample::select(vec![Invalid::StepText, Invalid::StreamText, Invalid::StreamKey, Invalid::Outcome])
}

fn commit() -> impl Strategy<Value = Commit> {
    (0..EXECUTORS, 0..6usize, content()).prop_map(|(executor, holding, content)| Commit { executor, holding, content })
}

fn operation() -> impl Strategy<Value = Operation> {
    let (row, executor) = (|| 0..ROWS, || 0..EXECUTORS);
    let queue = prop::sample::select(vec![Queue::Plain, Queue::Limited, Queue::Limited, Queue::Internal]);
    let own = prop::sample::select(vec![Queue::Plain, Queue::Limited, Queue::Limited]);
    prop_oneof![
        6 => (row(), own).prop_map(|(row, queue)| Operation::Enqueue(row, queue)),
        1 => row().prop_map(Operation::Postpone),
        8 => (executor(), queue, 1..4u32)
            .prop_map(|(executor, queue, slots)| Operation::Claim { executor, queue, slots }),
        10 => commit().prop_map(Operation::Commit),
        1 => row().prop_map(Operation::Cancel),
        2 => row().prop_map(Operation::Resume),
        1 => row().prop_map(Operation::Delete),
        3 => row().prop_map(Operation::Send),
        1 => row().prop_map(Operation::PassDeadline),
        1 => executor().prop_map(Operation::CancelExpired),
        1 => executor().prop_map(Operation::ReleaseDelayed),
        2 => (executor(), executor()).prop_map(|(by, dead)| Operation::Recover { by, dead }),
        2 => (executor(), prop::collection::vec(0..6usize, 1..3))
            .prop_map(|(by, holdings)| Operation::Release(by, holdings)),
        1 => (executor(), 0..6usize).prop_map(|(by, holding)| Operation::DeadLetter(by, holding)),
    ]
}

/// One step of an interleaving.
pub fn step() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => operation().prop_map(Happening::Alone),
        3 => prop::collection::vec(operation(), 2).prop_map(Happening::Together),
        2 => prop::collection::vec(commit(), 2..6).prop_map(Happening::Batch),
    ]
}

/// All executors claim from the limited queue at the same moment; then everything is given back.
pub fn rush() -> impl Strategy<Value = Vec<Happening>> {
    prop::collection::vec(1..4u32, EXECUTORS).prop_map(|slots| {
        let claim = |(executor, slots)| Operation::Claim { executor, queue: Queue::Limited, slots };
        let claims = slots.into_iter().enumerate().map(claim).collect();
        let back = (0..EXECUTORS).map(|dead| Happening::Alone(Operation::Recover { by: dead, dead }));
        std::iter::once(Happening::Together(claims)).chain(back).collect()
    })
}

/// Rushes for a queue that holds everything.
pub fn rushes() -> impl Strategy<Value = Vec<Happening>> {
    let enqueue = (0..ROWS).map(|row| Happening::Alone(Operation::Enqueue(row, Queue::Limited)));
    let enqueue: Vec<Happening> = enqueue.collect();
    prop::collection::vec(rush(), 20).prop_map(move |rushes| [enqueue.clone(), rushes.concat()].concat())
}

/// Checkpoints of different workflows, and the place and kind of one that the server refuses.
pub fn neighbours() -> impl Strategy<Value = (usize, Invalid)> {
    (0..ROWS, invalid())
}
