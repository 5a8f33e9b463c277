//! The database as far as leases and ownership go: what the statements do, each at once, by a clock of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::mutation::Mutation;

/// Microseconds.
pub(super) type Time = u64;

/// Steps of an execution, its end included.
pub(super) const STEPS: usize = 3;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Enqueued,
    Pending { executor: usize, token: u64, since: Time },
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub status: Status,
    /// Steps that are recorded, by the id of the write.
    pub steps: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub incarnation: u64,
    pub expires: Time,
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    Acquire { id: usize, incarnation: u64, replace: Vec<u64> },
    Renew { id: usize, incarnation: u64 },
    RecoverOwn { id: usize, incarnation: u64 },
    RecoverDead { id: usize },
    Stranded { id: usize, tokens: Vec<u64> },
    Claim { id: usize, token: u64, most: usize },
    Write { row: usize, token: u64, step: usize, write: u64 },
    HandBack { rows: Vec<(usize, u64)> },
    Resign { id: usize, incarnation: u64 },
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Acquired,
    Held {
        incarnation: u64,
        left: Time,
    },
    Renewed,
    NotRenewed {
        taken_over: bool,
    },
    /// Rows, with the steps that are recorded.
    Claimed(Vec<(usize, usize)>),
    Written,
    NotOwned,
    Done,
}

/// What a statement did to others.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Rows that were taken from an executor, with the token that they had.
    pub taken: Vec<(usize, usize, u64)>,
    /// A row that has got a step.
    pub written: Option<usize>,
}

pub(super) struct Database {
    pub lease: Time,
    /// Its clock is so much ahead of true time.
    pub ahead: i64,
    pub leases: BTreeMap<usize, Lease>,
    pub rows: Vec<Row>,
    /// Incarnations that have ended for everybody to see.
    pub buried: BTreeSet<u64>,
    /// Whether its clock goes right.
    pub sound: bool,
    pub mutation: Option<Mutation>,
}

impl Database {
    pub fn now(&self, time: Time) -> Time {
        time.saturating_add_signed(self.ahead)
    }

    /// Whether a worker is alive for everybody else.
    pub fn lives(&self, id: usize, incarnation: u64, time: Time) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.incarnation == incarnation && lease.expires > self.now(time))
    }

    pub fn serve(&mut self, request: Request, time: Time) -> Result<(Reply, Effects), String> {
        let now = self.now(time);
        let without = |mutation| self.mutation == Some(mutation);
        let mut effects = Effects::default();
        let reply = match request {
            Request::Acquire { id, incarnation, replace } => match self.leases.get(&id).copied() {
                Some(held)
                    if held.expires > now
                        && !replace.contains(&held.incarnation)
                        && !without(Mutation::TakesALiveId) =>
                {
                    Reply::Held { incarnation: held.incarnation, left: held.expires - now }
                }
                _ => {
                    self.leases.insert(id, Lease { incarnation, expires: now + self.lease });
                    Reply::Acquired
                }
            },
            Request::Renew { id, incarnation } => {
                let by_id = without(Mutation::RenewalIgnoresIncarnation);
                let dead_too = without(Mutation::RenewalAfterExpiry);
                let lease = self.lease;
                match self.leases.get_mut(&id) {
                    Some(held) if held.incarnation != incarnation && !by_id => Reply::NotRenewed { taken_over: true },
                    Some(held) if held.expires <= now && !dead_too => Reply::NotRenewed { taken_over: false },
                    Some(held) => {
                        if self.sound && self.buried.contains(&held.incarnation) {
                            return Err(format!(
                                "the lease of worker {id} is renewed after others found that it had ended"
                            ));
                        }
                        held.expires = now + lease;
                        Reply::Renewed
                    }
                    None => Reply::NotRenewed { taken_over: true },
                }
            }
            Request::RecoverOwn { id, incarnation } => {
                let mine = self.leases.get(&id).is_some_and(|held| held.incarnation == incarnation);
                if mine || without(Mutation::RecoveryIgnoresIncarnation) {
                    self.recover(|executor, _, _| executor == id, &mut effects);
                }
                Reply::Done
            }
            Request::RecoverDead { id } => {
                let early = if without(Mutation::RecoveryOfTheLiving) { self.lease / 2 } else { 0 };
                let ended = |lease: &Lease| lease.expires <= now + early;
                let dead: Vec<usize> = self
                    .leases
                    .iter()
                    .filter(|(other, lease)| **other != id && ended(lease))
                    .map(|(id, _)| *id)
                    .collect();
                self.buried.extend(dead.iter().map(|id| self.leases[id].incarnation));
                if !without(Mutation::NoRecovery) {
                    self.recover(|executor, _, _| dead.contains(&executor), &mut effects);
                }
                Reply::Done
            }
            Request::Stranded { id, tokens } => {
                // The age of a claim after which its worker certainly knows of it.
                let settled = 2 * self.lease;
                if !without(Mutation::NothingStrands) {
                    let astray = |executor, token, since: Time| {
                        executor == id && !tokens.contains(&token) && since + settled < now
                    };
                    self.recover(astray, &mut effects);
                }
                Reply::Done
            }
            Request::Claim { id, token, most } => {
                let mut claimed = Vec::new();
                for (number, row) in self.rows.iter_mut().enumerate() {
                    if row.status == Status::Enqueued && claimed.len() < most {
                        row.status = Status::Pending { executor: id, token, since: now };
                        claimed.push((number, row.steps.len()));
                    }
                }
                Reply::Claimed(claimed)
            }
            Request::Write { row: number, token, step, write } => {
                let by_id = without(Mutation::WriteWithoutToken);
                let row = &mut self.rows[number];
                let owned = matches!(row.status, Status::Pending { token: owner, .. } if owner == token);
                if row.steps.get(step) == Some(&write) {
                    // The answer to the first try was lost; the server knows that it was committed.
                    Reply::Written
                } else if !owned && !by_id {
                    Reply::NotOwned
                } else if row.steps.len() != step || row.status == Status::Done {
                    return Err(format!(
                        "step {step} of row {number} is recorded, and is written again by another run"
                    ));
                } else {
                    row.steps.push(write);
                    if row.steps.len() == STEPS {
                        row.status = Status::Done;
                    }
                    effects.written = Some(number);
                    Reply::Written
                }
            }
            Request::HandBack { rows } => {
                let by_id = without(Mutation::ReleaseWithoutToken);
                for (number, token) in rows {
                    if let Status::Pending { executor, token: owner, .. } = self.rows[number].status
                        && (owner == token || by_id)
                    {
                        self.rows[number].status = Status::Enqueued;
                        if owner != token {
                            effects.taken.push((number, executor, owner));
                        }
                    }
                }
                Reply::Done
            }
            Request::Resign { id, incarnation } => {
                let by_id = without(Mutation::LeaseReleaseIgnoresIncarnation);
                if let Some(held) = self.leases.get_mut(&id)
                    && (held.incarnation == incarnation || by_id)
                {
                    held.expires = held.expires.min(now);
                    self.buried.insert(held.incarnation);
                }
                Reply::Done
            }
        };
        Ok((reply, effects))
    }

    fn recover(&mut self, lost: impl Fn(usize, u64, Time) -> bool, effects: &mut Effects) {
        for (number, row) in self.rows.iter_mut().enumerate() {
            if let Status::Pending { executor, token, since } = row.status
                && lost(executor, token, since)
            {
                row.status = Status::Enqueued;
                effects.taken.push((number, executor, token));
            }
        }
    }
}
