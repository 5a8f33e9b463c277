//! What the system database should hold: a plain description of every operation's effect.

use std::collections::BTreeMap;

use fireflow_worker::sysdb::{Claimed, CommitError, Finish, Owner, Received, StepRecord, Write};

use crate::operation::Queue;
use crate::stage::{Case, LIMIT, ROWS};

/// All workflows of a case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub rows: [Option<Row>; ROWS],
}

/// A workflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub status: String,
    pub token: Option<String>,
    pub executor: Option<String>,
    pub queue: Option<String>,
    pub attempts: i64,
    pub started: bool,
    pub completed: bool,
    pub deadline: bool,
    pub inputs: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub steps: BTreeMap<i32, Step>,
    /// Offsets and values by key.
    pub streams: BTreeMap<String, Vec<(i64, String)>>,
    /// Oldest first.
    pub mail: Vec<Mail>,
}

/// A recorded step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub name: String,
    pub output: Option<String>,
    pub completed_at: i64,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    pub value: String,
    pub consumed_by: Option<i64>,
}

/// An operation with everything in it decided.
#[derive(Clone, Debug)]
pub enum Call {
    Enqueue { row: usize, queue: Queue, inputs: String },
    Postpone { row: usize, inputs: String },
    Claim { executor: usize, queue: Queue, slots: u32 },
    Commit { executor: usize, row: usize, owner: Owner, writes: Vec<Write>, valid: bool },
    Cancel(usize),
    Resume(usize),
    Delete(usize),
    Send { row: usize, value: String, at: i64 },
    PassDeadline(usize),
    CancelExpired(usize),
    ReleaseDelayed(usize),
    Recover { by: usize, dead: usize },
    Release { by: usize, owners: Vec<(usize, Owner)> },
    DeadLetter { by: usize, row: usize, owner: Owner },
}

/// What the caller was told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Whether it happened.
    Done(bool),
    /// How many.
    Count(u64),
    /// Which ones.
    Ids(Vec<String>),
    /// `None` when another claimer was there.
    Claimed(Option<Vec<Claimed>>),
    Committed(Result<Received, CommitError>),
}

impl Row {
    fn holds(&self, owner: &Owner) -> bool {
        self.status == "PENDING" && self.token.as_deref() == Some(owner.token.as_str())
    }

    fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "SUCCESS" | "ERROR")
    }

    fn is_active(&self) -> bool {
        matches!(self.status.as_str(), "ENQUEUED" | "PENDING" | "DELAYED")
    }

    fn requeue(&mut self) {
        self.status = "ENQUEUED".into();
        self.token = None;
        self.started = false;
    }

    /// Taken from its owner and its queue.
    fn park(&mut self, status: &str) {
        self.status = status.into();
        self.token = None;
        self.queue = None;
        self.started = false;
        self.completed = true;
    }

    /// A checkpoint: all of it, or nothing and the reason.
    fn commit(&mut self, owner: &Owner, writes: &[Write], valid: bool) -> Result<Option<String>, CommitError> {
        if !self.holds(owner) {
            return Err(CommitError::OwnershipLost);
        }
        if !valid {
            return Err(CommitError::Refused(String::new()));
        }
        let mut next = self.clone();
        let mut received = None;
        for write in writes {
            match write {
                Write::Step(StepRecord { function_id, name, output, completed_at, .. }) => {
                    let step = Step { name: name.clone(), output: output.clone(), completed_at: *completed_at };
                    let known = next.steps.entry(*function_id).or_insert(step);
                    if known.completed_at != *completed_at {
                        return Err(CommitError::Nondeterminism { function_id: *function_id });
                    }
                }
                Write::Append(append) => {
                    let stream = next.streams.entry(append.key.to_string()).or_default();
                    for value in &append.values {
                        stream.push((stream.len() as i64, value.clone()));
                    }
                }
                Write::Receive(receive) => {
                    let Some(mail) = next.mail.iter_mut().find(|mail| mail.consumed_by.is_none()) else { continue };
                    if next.steps.contains_key(&receive.function_id) {
                        return Err(CommitError::Refused(String::new()));
                    }
                    mail.consumed_by = Some(receive.function_id.into());
                    received = Some(mail.value.clone());
                    let output = received.clone();
                    let step = Step { name: "DBOS.recv".into(), output, completed_at: receive.completed_at };
                    next.steps.insert(receive.function_id, step);
                }
                Write::Finish(Finish { outcome, .. }) => {
                    next.status = if outcome.is_ok() { "SUCCESS" } else { "ERROR" }.into();
                    next.token = None;
                    next.completed = true;
                    next.output = outcome.as_ref().ok().cloned();
                    next.error = outcome.as_ref().err().cloned();
                }
                Write::Consume(_) | Write::Start(_) | Write::Application(_) => unreachable!("never drawn"),
            }
        }
        *self = next;
        Ok(received)
    }
}

fn same(told: &Result<Received, CommitError>, right: &Result<Option<String>, CommitError>) -> bool {
    match (told, right) {
        (Ok(told), Ok(right)) => told.as_ref().map(|message| &message.value) == right.as_ref(),
        (Err(CommitError::OwnershipLost), Err(CommitError::OwnershipLost))
        | (Err(CommitError::Refused(_)), Err(CommitError::Refused(_))) => true,
        (Err(CommitError::Nondeterminism { function_id: told }), Err(CommitError::Nondeterminism { function_id })) => {
            told == function_id
        }
        _ => false,
    }
}

impl State {
    /// The states in which the call may leave this one, given what its caller was told; none, when that can't have been
    /// said. `alone`: nothing else went on, so nothing was locked and skipped.
    pub fn after(&self, case: &Case<'_>, call: &Call, answer: &Answer, alone: bool) -> Vec<State> {
        let mut next = self.clone();
        let right = match (call, answer) {
            (Call::Enqueue { row, queue, inputs }, Answer::Done(new)) => {
                *new == next.insert(*row, "ENQUEUED", case.queue(*queue), inputs)
            }
            (Call::Postpone { row, inputs }, Answer::Done(new)) => {
                *new == next.insert(*row, "DELAYED", case.queue(Queue::Plain), inputs)
            }
            (Call::Claim { queue, .. }, Answer::Claimed(None)) => !alone && *queue == Queue::Limited,
            (Call::Claim { executor, queue, slots }, Answer::Claimed(Some(claimed))) => {
                next.claim(case, *executor, *queue, *slots, claimed, alone)
            }
            (Call::Commit { row, owner, writes, valid, .. }, Answer::Committed(told)) => {
                let right = match &mut next.rows[*row] {
                    Some(row) => row.commit(owner, writes, *valid),
                    None => Err(CommitError::OwnershipLost),
                };
                same(told, &right)
            }
            (Call::Cancel(row), Answer::Done(done)) => {
                *done == next.change(*row, |row| !row.is_final(), |row| row.park("CANCELLED"))
            }
            (Call::Resume(row), Answer::Done(done)) => {
                let resume = |row: &mut Row| {
                    row.requeue();
                    (row.completed, row.deadline, row.attempts) = (false, false, 0);
                    row.queue = Some(case.queue(Queue::Internal));
                };
                *done == next.change(*row, |row| !row.is_final(), resume)
            }
            (Call::Delete(row), Answer::Done(done)) => *done == next.rows[*row].take().is_some(),
            (Call::Send { row, value, .. }, Answer::Done(done)) => {
                let mail = Mail { value: value.clone(), consumed_by: None };
                *done == next.change(*row, |_| true, |row| row.mail.push(mail))
            }
            (Call::PassDeadline(row), Answer::Done(done)) => {
                *done == next.change(*row, Row::is_active, |row| row.deadline = true)
            }
            (Call::CancelExpired(_), Answer::Count(count)) => {
                return next.sweep(*count, alone, |row| row.is_active() && row.deadline, |row| row.park("CANCELLED"));
            }
            (Call::ReleaseDelayed(_), Answer::Count(count)) => {
                return next.sweep(*count, alone, |row| row.status == "DELAYED", |row| row.status = "ENQUEUED".into());
            }
            (Call::Recover { dead, .. }, Answer::Ids(ids)) => {
                let dead = Some(case.executor(*dead));
                let lost = |row: &Row| row.status == "PENDING" && row.executor == dead;
                let mut told = ids.clone();
                told.sort();
                // Rows that somebody has locked are left for the next time.
                let right: Vec<String> = (0..ROWS)
                    .filter(|row| alone || told.contains(&case.id(*row)))
                    .filter(|row| next.change(*row, lost, Row::requeue))
                    .map(|row| case.id(row))
                    .collect();
                told == right
            }
            (Call::Release { owners, .. }, Answer::Count(count)) => {
                let release = |row: &mut Row| {
                    row.requeue();
                    row.attempts = (row.attempts - 1).max(0);
                };
                let released =
                    owners.iter().filter(|(row, owner)| next.change(*row, |row| row.holds(owner), release)).count();
                *count == released as u64
            }
            (Call::DeadLetter { row, owner, .. }, Answer::Done(done)) => {
                let park = |row: &mut Row| row.park("MAX_RECOVERY_ATTEMPTS_EXCEEDED");
                *done == next.change(*row, |row| row.holds(owner), park)
            }
            _ => false,
        };
        if right { vec![next] } else { Vec::new() }
    }

    /// False when it was there.
    fn insert(&mut self, row: usize, status: &str, queue: String, inputs: &str) -> bool {
        let new = self.rows[row].is_none();
        self.rows[row].get_or_insert_with(|| Row {
            status: status.into(),
            queue: Some(queue),
            inputs: Some(inputs.into()),
            ..Row::default()
        });
        new
    }

    fn change(&mut self, row: usize, when: impl FnOnce(&Row) -> bool, change: impl FnOnce(&mut Row)) -> bool {
        match &mut self.rows[row] {
            Some(row) if when(row) => {
                change(row);
                true
            }
            _ => false,
        }
    }

    /// Rows that someone else holds may be skipped.
    fn sweep(&self, count: u64, alone: bool, when: fn(&Row) -> bool, change: fn(&mut Row)) -> Vec<State> {
        let due: Vec<usize> = (0..ROWS).filter(|row| self.rows[*row].as_ref().is_some_and(when)).collect();
        if alone && count != due.len() as u64 {
            return Vec::new();
        }
        let chosen = (0..1u32 << due.len()).filter(|set| u64::from(set.count_ones()) == count);
        let swept = chosen.map(|set| {
            let mut next = self.clone();
            for (place, row) in due.iter().enumerate() {
                if set & (1 << place) != 0 {
                    next.change(*row, |_| true, change);
                }
            }
            next
        });
        swept.collect()
    }

    fn claim(
        &mut self,
        case: &Case<'_>,
        executor: usize,
        queue: Queue,
        slots: u32,
        claimed: &[Claimed],
        alone: bool,
    ) -> bool {
        let name = Some(case.queue(queue));
        let of = |status: &str| {
            let rows = self.rows.iter().flatten();
            rows.filter(|row| row.status == status && row.queue == name).count()
        };
        let limit = if queue == Queue::Limited { LIMIT as usize } else { ROWS };
        let room = limit.saturating_sub(of("PENDING")).min(slots as usize);
        if claimed.len() > room || alone && claimed.len() != room.min(of("ENQUEUED")) {
            return false;
        }
        claimed.iter().all(|claimed| {
            let Some(row) = (0..ROWS).find(|row| case.id(*row) == claimed.owner.id.as_str()) else { return false };
            let Some(row) = &mut self.rows[row] else { return false };
            let right = row.status == "ENQUEUED"
                && row.queue == name
                && claimed.attempts == row.attempts + 1
                && claimed.inputs == row.inputs
                && (!alone || claimed.has_history != row.steps.is_empty());
            row.status = "PENDING".into();
            row.token = Some(claimed.owner.token.as_str().into());
            row.executor = Some(case.executor(executor));
            row.attempts += 1;
            row.started = true;
            right
        })
    }

    /// Whether the token is the row's now.
    pub fn holds(&self, row: usize, owner: &Owner) -> bool {
        self.rows[row].as_ref().is_some_and(|row| row.holds(owner))
    }
}
