//! Many operations in flight at a time on few rows. What each caller was told has to fit what the rows say in the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use fireflow_worker::sysdb::{CommitError, Owner, Write};
use futures_util::future::join_all;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::{Answer, Call, State};
use crate::operation::{Content, Invalid, Queue};
use crate::play::{perform, writes};
use crate::stage::{Case, EXECUTORS, LIMIT, ROWS, Stage};

const TASKS: u64 = 8;
const OPERATIONS: usize = 100;

type Told = (Call, Answer);

/// The claims that were told so far, to all tasks: each uses the tokens of all.
type Holdings = RefCell<Vec<(usize, Owner)>>;

/// Tasks with random operations on the same four rows.
pub async fn collide(stage: &Stage, seed: u64) -> Result<(), TestCaseError> {
    let case = stage.case();
    for row in 0..ROWS {
        let queue = if row == 0 { Queue::Plain } else { Queue::Limited };
        perform(&case, &Call::Enqueue { row, queue, inputs: format!("{row}") }).await;
        case.age(row).await;
    }
    let holdings = Holdings::default();
    let tasks = (0..TASKS).map(|task| work(&case, &holdings, StdRng::seed_from_u64(seed.wrapping_add(task))));
    let mut told = Vec::new();
    for task in join_all(tasks).await {
        told.push(task?);
    }
    let state = case.snapshot().await;
    check_claims(&case, &state, &told)?;
    for row in 0..ROWS {
        check_row(&state, row, &told)?;
    }
    stays(&case, &state, &holdings.take()).await
}

async fn work(case: &Case<'_>, holdings: &Holdings, mut random: StdRng) -> Result<Vec<Told>, TestCaseError> {
    let mut told = Vec::new();
    for _ in 0..OPERATIONS {
        let call = draw(case, &holdings.borrow(), &mut random);
        let Some(call) = call else { continue };
        let answer = perform(case, &call).await;
        if let Answer::Claimed(Some(claimed)) = &answer {
            let pending = case.pending().await;
            prop_assert!(pending <= i64::from(LIMIT), "{} rows are PENDING at a time", pending);
            for claimed in claimed {
                holdings.borrow_mut().push((place(case, &claimed.owner), claimed.owner.clone()));
            }
        }
        told.push((call, answer));
    }
    Ok(told)
}

fn place(case: &Case<'_>, owner: &Owner) -> usize {
    (0..ROWS).find(|row| case.id(*row) == owner.id.as_str()).unwrap()
}

fn draw(case: &Case<'_>, holdings: &[(usize, Owner)], random: &mut StdRng) -> Option<Call> {
    let executor = random.random_range(0..EXECUTORS);
    let row = random.random_range(0..ROWS);
    let holding = holdings.len().checked_sub(random.random_range(1..=8)).map(|place| holdings[place].clone());
    Some(match random.random_range(0..100) {
        0..25 => {
            let queue = [Queue::Plain, Queue::Limited, Queue::Limited, Queue::Internal][random.random_range(0..4)];
            Call::Claim { executor, queue, slots: random.random_range(1..4) }
        }
        25..34 => Call::Send { row, value: format!("\"{}\"", case.unique()), at: case.unique() },
        34..36 => Call::Cancel(row),
        36..40 => Call::Resume(row),
        40..44 => Call::Recover { by: executor, dead: random.random_range(0..EXECUTORS) },
        44..50 => Call::Release { by: executor, owners: vec![holding?] },
        50 => {
            let (row, owner) = holding?;
            Call::DeadLetter { by: executor, row, owner }
        }
        _ => {
            let number = random.random_range(0..40);
            let content = match random.random_range(0..60) {
                0..15 => Content::Step(number),
                15..25 => Content::StepAndAppend(number),
                25..40 => Content::Append(2),
                40..50 => Content::Receive(number),
                50..58 => Content::ReceiveAndAppend(number),
                58 => Content::Invalid(Invalid::StreamText),
                _ => Content::Finish(random.random()),
            };
            let (row, owner) = holding?;
            let (writes, valid) = writes(case, &content, |_| None);
            Call::Commit { executor, row, owner, writes, valid }
        }
    })
}

/// No token twice; where the count was never reset, it is claims less hand-overs.
fn check_claims(case: &Case<'_>, state: &State, told: &[Vec<Told>]) -> Result<(), TestCaseError> {
    let mut tokens = BTreeSet::new();
    let mut attempts = [Some(0i64); ROWS];
    for (call, answer) in told.iter().flatten() {
        match (call, answer) {
            (Call::Claim { .. }, Answer::Claimed(Some(claimed))) => {
                for claimed in claimed {
                    let row = place(case, &claimed.owner);
                    prop_assert!(tokens.insert((row, claimed.owner.token.as_str())), "a token twice");
                    attempts[row] = attempts[row].map(|count| count + 1);
                }
            }
            (Call::Release { owners, .. }, Answer::Count(1)) => {
                attempts[owners[0].0] = attempts[owners[0].0].map(|count| count - 1);
            }
            (Call::Resume(row), Answer::Done(true)) => attempts[*row] = None,
            _ => {}
        }
    }
    for (row, attempts) in state.rows.iter().zip(attempts) {
        let counted = row.as_ref().map(|row| row.attempts);
        prop_assert!(attempts.is_none() || attempts == counted, "{:?} attempts, {:?} counted", attempts, counted);
    }
    Ok(())
}

/// What was acknowledged is there, once and in order; nothing else is.
fn check_row(state: &State, number: usize, told: &[Vec<Told>]) -> Result<(), TestCaseError> {
    let row = state.rows[number].as_ref().unwrap();
    let mut steps = BTreeMap::new();
    let mut streams: BTreeMap<String, BTreeMap<String, &str>> = BTreeMap::new();
    let mut letters = BTreeMap::new();
    let mut sent = BTreeSet::new();
    let mut outcomes = Vec::new();
    for task in told {
        for (call, answer) in task {
            match (call, answer) {
                (Call::Send { row, value, .. }, Answer::Done(true)) if *row == number => {
                    sent.insert(value.clone());
                }
                (Call::Commit { row, owner, writes, valid, .. }, Answer::Committed(Ok(received))) if *row == number => {
                    prop_assert!(*valid);
                    for write in writes {
                        match write {
                            Write::Step(step) => {
                                let twice = steps.insert(step.function_id, step.completed_at);
                                prop_assert!(twice.is_none(), "step {} acknowledged twice", step.function_id);
                            }
                            Write::Append(append) => {
                                let stream = streams.entry(append.key.to_string()).or_default();
                                stream.extend(append.values.iter().map(|value| (value.clone(), owner.token.as_str())));
                            }
                            Write::Receive(receive) => {
                                if let Some(message) = received {
                                    let twice = letters.insert(message.value.clone(), i64::from(receive.function_id));
                                    prop_assert!(twice.is_none(), "{} received twice", message.value);
                                    let twice = steps.insert(receive.function_id, receive.completed_at);
                                    prop_assert!(twice.is_none(), "step {} acknowledged twice", receive.function_id);
                                }
                            }
                            Write::Finish(finish) => outcomes.push(finish.outcome.clone()),
                            Write::Consume(_) | Write::Start(_) | Write::Application(_) => unreachable!("never drawn"),
                        }
                    }
                }
                (Call::Commit { row, .. }, Answer::Committed(Err(CommitError::Closed))) if *row == number => {
                    return Err(TestCaseError::fail("the writer ended"));
                }
                (Call::Commit { writes, valid: true, .. }, Answer::Committed(Err(CommitError::Refused(reason)))) => {
                    // Only a receive may meet its number.
                    let receives = writes.iter().any(|write| matches!(write, Write::Receive(_)));
                    prop_assert!(receives, "{}: {:?}", reason, writes);
                }
                _ => {}
            }
        }
        check_order(row, number, task)?;
    }
    let recorded: BTreeMap<i32, i64> = row.steps.iter().map(|(number, step)| (*number, step.completed_at)).collect();
    prop_assert_eq!(recorded, steps);
    for (key, stream) in &row.streams {
        let dense = stream.iter().enumerate().all(|(place, (offset, _))| place as i64 == *offset);
        prop_assert!(dense, "{:?}", stream);
        let acknowledged = streams.remove(key).unwrap_or_default();
        let values: BTreeSet<&String> = stream.iter().map(|(_, value)| value).collect();
        prop_assert_eq!(values.len(), stream.len(), "a value twice: {:?}", stream);
        prop_assert_eq!(values, acknowledged.keys().collect::<BTreeSet<_>>());
        // An owner that was followed by another one never comes back.
        let mut owners: Vec<&str> = stream.iter().map(|(_, value)| acknowledged[value]).collect();
        owners.dedup();
        prop_assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), owners.len(), "owners take turns");
    }
    prop_assert!(streams.is_empty(), "lost: {:?}", streams);
    let consumed: BTreeMap<String, i64> =
        row.mail.iter().filter_map(|mail| Some((mail.value.clone(), mail.consumed_by?))).collect();
    prop_assert_eq!(consumed, letters);
    prop_assert_eq!(row.mail.iter().map(|mail| mail.value.clone()).collect::<BTreeSet<_>>(), sent);
    let outcome = match row.status.as_str() {
        "SUCCESS" => vec![Ok(row.output.clone().unwrap())],
        "ERROR" => vec![Err(row.error.clone().unwrap())],
        _ => Vec::new(),
    };
    prop_assert_eq!(outcomes, outcome);
    Ok(())
}

/// What one task appended, one call after the other, stands in that order.
fn check_order(row: &crate::model::Row, number: usize, task: &[Told]) -> Result<(), TestCaseError> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (call, answer) in task {
        let (Call::Commit { row: of, writes, .. }, Answer::Committed(Ok(_))) = (call, answer) else { continue };
        for write in writes {
            let Write::Append(append) = write else { continue };
            for value in append.values.iter().filter(|_| *of == number) {
                let found = row.streams.get(append.key.as_ref());
                let found = found.and_then(|stream| stream.iter().position(|(_, known)| known == value));
                let place = found.ok_or_else(|| TestCaseError::fail(format!("lost: {value}")))?;
                let before = last.insert(append.key.as_ref(), place);
                prop_assert!(before.is_none_or(|before| before < place), "out of order: {:?}", row.streams);
            }
        }
    }
    Ok(())
}

/// A token that is not the row's changes nothing any more, and nobody changes a finished workflow.
async fn stays(case: &Case<'_>, state: &State, holdings: &[(usize, Owner)]) -> Result<(), TestCaseError> {
    let stale = holdings.iter().filter(|(row, owner)| !state.holds(*row, owner));
    let commits = stale.clone().map(|(row, owner)| {
        let (writes, valid) = writes(case, &Content::StepAndFinish(99), |_| None);
        Call::Commit { executor: row % EXECUTORS, row: *row, owner: owner.clone(), writes, valid }
    });
    let mut calls: Vec<Call> = commits.collect();
    calls.extend(stale.map(|(row, owner)| Call::DeadLetter { by: 0, row: *row, owner: owner.clone() }));
    for (number, row) in state.rows.iter().enumerate() {
        if row.as_ref().is_some_and(|row| matches!(row.status.as_str(), "SUCCESS" | "ERROR")) {
            calls.extend([Call::Cancel(number), Call::Resume(number), Call::PassDeadline(number)]);
        }
    }
    for (call, answer) in calls.iter().zip(join_all(calls.iter().map(|call| perform(case, call))).await) {
        let refused = matches!(answer, Answer::Committed(Err(CommitError::OwnershipLost)) | Answer::Done(false));
        prop_assert!(refused, "{:?}: {:?}", call, answer);
    }
    prop_assert_eq!(&case.snapshot().await, state);
    Ok(())
}
