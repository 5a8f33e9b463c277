//! Plays an interleaving, and compares answers and rows with the model after every step.

use std::sync::Arc;

use fireflow_worker::sysdb::{
    Accounts, Append, Cause, Checkpoint, Claim, Dead, Enqueued, Finish, NewWorkflow, Owner, Receive, Reconcile, Rows,
    StepRecord, SysdbError, WorkflowId, Write,
};
use futures_util::future::join_all;
use proptest::prelude::*;

use crate::model::{Answer, Call, State};
use crate::operation::{Commit, Content, Happening, Invalid, Operation, Queue};
use crate::stage::{Case, EXECUTORS, LIMIT, ROWS, Stage};

/// A case under way.
struct Game<'a> {
    case: Case<'a>,
    state: State,
    /// Every claim that was ever told, also those that are long stale.
    holdings: Vec<(usize, Owner)>,
}

/// Play a whole interleaving.
pub async fn play(stage: &Stage, happenings: Vec<Happening>) -> Result<(), TestCaseError> {
    let mut game = Game { case: stage.case(), state: State::default(), holdings: Vec::new() };
    for happening in &happenings {
        game.step(happening).await?;
    }
    game.look_back().await
}

impl Game<'_> {
    async fn step(&mut self, happening: &Happening) -> Result<(), TestCaseError> {
        let (calls, ordered) = match happening {
            Happening::Alone(operation) => (vec![self.decide(operation)], true),
            Happening::Together(operations) => {
                (operations.iter().map(|operation| self.decide(operation)).collect(), false)
            }
            Happening::Batch(commits) => (commits.iter().map(|commit| self.checkpoint(commit)).collect(), true),
        };
        let mut calls: Vec<Call> = calls.into_iter().flatten().collect();
        one_receive_each(&mut calls);
        if let (Happening::Batch(commits), Some(_)) = (happening, calls.first()) {
            let by = commits[0].executor;
            calls.iter_mut().for_each(|call| {
                if let Call::Commit { executor, .. } = call {
                    *executor = by;
                }
            });
        }
        let answers = join_all(calls.iter().map(|call| perform(&self.case, call))).await;
        if calls.len() > 1 && calls.iter().any(|call| matches!(call, Call::Delete(_))) {
            self.case.collect_orphans().await;
        }
        let actual = self.case.snapshot().await;
        let alone = ordered || calls.len() < 2;
        let told: Vec<(&Call, &Answer)> = calls.iter().zip(&answers).collect();
        let orders = if alone { vec![told.clone()] } else { permutations(&told) };
        let possible: Vec<State> = orders.iter().flat_map(|order| self.outcomes(order, alone)).collect();
        if !possible.contains(&actual) {
            let before = &self.state;
            let message = format!("told: {told:?}\nbefore: {before:?}\nafter: {actual:?}\npossible: {possible:?}");
            return Err(TestCaseError::fail(message));
        }
        self.state = actual;
        for answer in answers {
            if let Answer::Claimed(Some(claimed)) = answer {
                for claimed in claimed {
                    let row = (0..ROWS).find(|row| self.case.id(*row) == claimed.owner.id.as_str()).unwrap();
                    self.holdings.push((row, claimed.owner));
                }
            }
        }
        Ok(())
    }

    fn outcomes(&self, told: &[(&Call, &Answer)], alone: bool) -> Vec<State> {
        let mut states = vec![self.state.clone()];
        for (call, answer) in told {
            states = states.iter().flat_map(|state| state.after(&self.case, call, answer, alone)).collect();
        }
        states
    }

    /// The other reading calls tell the same story.
    async fn look_back(&self) -> Result<(), TestCaseError> {
        let sysdb = &self.case.stage.executors[0].sysdb;
        let owners: Vec<Owner> = self.holdings.iter().map(|(_, owner)| owner.clone()).collect();
        let astray = sysdb.astray(&owners).await.unwrap();
        for (row, owner) in &self.holdings {
            let status = self.state.rows[*row].as_ref().map(|row| row.status.clone());
            let right = (!self.state.holds(*row, owner)).then_some(Cause::Lost(status));
            let told = astray.iter().find(|astray| astray.owner == *owner).map(|astray| astray.cause.clone());
            prop_assert_eq!(told, right, "{:?}", owner);
        }
        let ids: Vec<WorkflowId> = (0..ROWS).map(|row| WorkflowId::new(self.case.id(row))).collect();
        let history = sysdb.history(&ids).await.unwrap();
        for (id, row) in ids.iter().zip(&self.state.rows) {
            let told = history.get(id).into_iter().flatten().map(|step| (step.function_id, step.output.clone()));
            let right = row.iter().flat_map(|row| &row.steps).map(|(number, step)| (*number, step.output.clone()));
            prop_assert_eq!(told.collect::<Vec<_>>(), right.collect::<Vec<_>>());
        }
        Ok(())
    }

    /// One of the last claims.
    fn holding(&self, place: usize) -> Option<&(usize, Owner)> {
        let last = self.holdings.len().min(6);
        (last > 0).then(|| &self.holdings[self.holdings.len() - 1 - place % last])
    }

    fn decide(&self, operation: &Operation) -> Option<Call> {
        let unique = self.case.unique();
        let inputs = format!("{{\"positionalArgs\":[{unique}]}}");
        Some(match operation {
            Operation::Enqueue(row, queue) => Call::Enqueue { row: *row, queue: *queue, inputs },
            Operation::Postpone(row) => Call::Postpone { row: *row, inputs },
            Operation::Claim { executor, queue, slots } => {
                Call::Claim { executor: *executor, queue: *queue, slots: *slots }
            }
            Operation::Commit(commit) => return self.checkpoint(commit),
            Operation::Cancel(row) => Call::Cancel(*row),
            Operation::Resume(row) => Call::Resume(*row),
            Operation::Delete(row) => Call::Delete(*row),
            Operation::Send(row) => Call::Send { row: *row, value: format!("\"m{unique}\""), at: unique },
            Operation::PassDeadline(row) => Call::PassDeadline(*row),
            Operation::CancelExpired(by) => Call::CancelExpired(*by),
            Operation::ReleaseDelayed(by) => Call::ReleaseDelayed(*by),
            Operation::Recover { by, dead } => Call::Recover { by: *by, dead: *dead },
            Operation::Release(by, places) => {
                let mut owners: Vec<(usize, Owner)> = Vec::new();
                for place in places {
                    owners.push(self.holding(*place)?.clone());
                }
                owners.dedup();
                Call::Release { by: *by, owners }
            }
            Operation::DeadLetter(by, place) => {
                let (row, owner) = self.holding(*place)?.clone();
                Call::DeadLetter { by: *by, row, owner }
            }
        })
    }

    fn checkpoint(&self, commit: &Commit) -> Option<Call> {
        let (row, owner) = self.holding(commit.holding)?.clone();
        let recorded = |number: i32| self.state.rows[row].as_ref()?.steps.get(&number).map(|step| step.completed_at);
        let (writes, valid) = writes(&self.case, &commit.content, recorded);
        Some(Call::Commit { executor: commit.executor, row, owner, writes, valid })
    }
}

fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let first = |place: usize| {
        let mut rest = items.to_vec();
        let item = rest.remove(place);
        permutations(&rest).into_iter().map(move |rest| [vec![item], rest].concat())
    };
    (0..items.len()).flat_map(first).collect()
}

/// An execution waits for one message at a time; later receives of the same moment are left out.
fn one_receive_each(calls: &mut Vec<Call>) {
    let mut waiting: Vec<Owner> = Vec::new();
    calls.retain(|call| match call {
        Call::Commit { owner, writes, .. } if writes.iter().any(|write| matches!(write, Write::Receive(_))) => {
            let first = !waiting.contains(owner);
            waiting.push(owner.clone());
            first
        }
        _ => true,
    });
}

/// The writes of a checkpoint, and whether the server can take them. Every value and every time is a new one.
pub fn writes(case: &Case<'_>, content: &Content, recorded: impl Fn(i32) -> Option<i64>) -> (Vec<Write>, bool) {
    let unique = case.unique();
    let record = |function_id: i32, output: String, completed_at: i64| {
        let (serialization, name) = (Some("portable_json".to_owned()), "step".to_owned());
        let output = Some(output);
        Write::Step(StepRecord {
            function_id,
            name,
            output,
            error: None,
            serialization,
            child: None,
            started_at: 0,
            completed_at,
        })
    };
    let step = |number: i32| record(number, unique.to_string(), unique);
    let stream = |key: &str, values: Vec<String>| {
        Write::Append(Append { key: Arc::from(key), values, function_id: 0, serialization: Some("portable_json") })
    };
    let append = |count: usize| {
        let key = if unique % 3 == 0 { "one" } else { "other" };
        stream(key, (0..count).map(|place| format!("{unique}.{place}")).collect())
    };
    let receive = |function_id: i32| {
        Write::Receive(Receive { topic: "topic".into(), function_id, started_at: 0, completed_at: unique })
    };
    let finish = |outcome| Write::Finish(Finish { outcome, legacy: false });
    let writes = match content {
        Content::Step(number) => vec![step(*number)],
        Content::StepAndAppend(number) => vec![step(*number), append(2)],
        Content::Append(count) => vec![append(*count)],
        Content::Receive(number) => vec![receive(*number)],
        Content::ReceiveAndAppend(number) => vec![receive(*number), append(1)],
        Content::Again(number) => vec![record(*number, "again".into(), recorded(*number).unwrap_or(unique))],
        Content::Finish(true) => vec![finish(Ok(unique.to_string()))],
        Content::Finish(false) => vec![finish(Err(unique.to_string()))],
        Content::StepAndFinish(number) => vec![step(*number), finish(Ok(unique.to_string()))],
        Content::Invalid(invalid) => {
            let nul = format!("{unique}\0");
            let writes = match invalid {
                Invalid::StepText => vec![record(0, nul, unique)],
                Invalid::StreamText => vec![append(1), stream("one", vec![nul])],
                // Too large for the index, and too random to be compressed.
                Invalid::StreamKey => {
                    let key: String = (0..200).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
                    vec![append(1), stream(&key, vec![unique.to_string()])]
                }
                Invalid::Outcome => vec![finish(Ok(nul))],
            };
            return (writes, false);
        }
    };
    (writes, true)
}

/// Again, as long as the server only asks for that.
async fn patiently<T>(call: impl AsyncFn() -> Result<T, SysdbError>) -> T {
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) if error.is_transient() => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Do it.
pub async fn perform(case: &Case<'_>, call: &Call) -> Answer {
    let executors = &case.stage.executors;
    match call {
        Call::Enqueue { row, queue, inputs } => loop {
            let (id, queue, application) = (case.id(*row), case.queue(*queue), case.application());
            let new = NewWorkflow {
                id: WorkflowId::new(id),
                name: "work",
                class: "Works",
                queue: &queue,
                application: &application,
                inputs: inputs.clone(),
                timeout_ms: None,
                deduplication_id: None,
            };
            match executors[*row % EXECUTORS].sysdb.enqueue(&new).await {
                Ok(enqueued) => break Answer::Done(enqueued == Enqueued::New),
                Err(fireflow_worker::sysdb::EnqueueError::Database(error)) if error.is_transient() => {}
                Err(error) => panic!("{error}"),
            }
        },
        Call::Postpone { row, inputs } => Answer::Done(case.postpone(*row, inputs).await),
        Call::Claim { executor, queue, slots } => {
            let name = case.queue(*queue);
            let concurrency = (*queue == Queue::Limited).then_some(LIMIT);
            let claim = Claim { queue: &name, rows: Rows::All, limit: *slots, concurrency, rate: None };
            let scope = case.scope(*executor);
            Answer::Claimed(patiently(async || executors[*executor].sysdb.claim(&scope, &claim).await).await.ok())
        }
        Call::Commit { executor, owner, writes, .. } => {
            let checkpoint = Checkpoint { owner: owner.clone(), writes: writes.clone().into() };
            Answer::Committed(executors[*executor].writer.commit(checkpoint).await)
        }
        Call::Cancel(row) => Answer::Done(case.cancel(*row).await),
        Call::Resume(row) => Answer::Done(case.resume(*row).await),
        Call::Delete(row) => Answer::Done(case.delete(*row).await),
        Call::Send { row, value, at } => Answer::Done(case.send(*row, value, *at).await),
        Call::PassDeadline(row) => Answer::Done(case.pass_deadline(*row).await),
        Call::CancelExpired(by) => {
            Answer::Count(patiently(async || executors[*by].sysdb.cancel_expired(&case.application()).await).await)
        }
        Call::ReleaseDelayed(by) => {
            Answer::Count(patiently(async || executors[*by].sysdb.release_delayed(&case.application()).await).await)
        }
        Call::Recover { by, dead } => {
            let scope = case.scope(*dead);
            let accounts = Accounts::new(&"fireflow_".parse().unwrap(), u32::MAX);
            let reconcile = Reconcile { accounts: &accounts, scope: &scope, worked: "all" };
            let present = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, scope.executor.as_bytes());
            case.register(&scope.executor, present).await;
            let earlier = Dead::Earlier { present, incarnation: None, host: None, reason: Some("it died") };
            let recover = async || {
                let recovered = executors[*by].sysdb.reconcile(&reconcile, earlier, None, &[]).await?;
                Ok(recovered.into_iter().map(|row| row.id).collect())
            };
            Answer::Ids(patiently(recover).await)
        }
        Call::Release { by, owners } => {
            let owners: Vec<Owner> = owners.iter().map(|(_, owner)| owner.clone()).collect();
            Answer::Count(patiently(async || executors[*by].sysdb.release(&owners).await).await as u64)
        }
        Call::DeadLetter { by, owner, .. } => {
            Answer::Done(patiently(async || executors[*by].sysdb.dead_letter(owner, &[]).await).await)
        }
    }
}

/// A batch of one checkpoint a workflow, of which the server refuses one.
pub async fn neighbours(stage: &Stage, (bad, invalid): (usize, Invalid)) -> Result<(), TestCaseError> {
    let mut game = Game { case: stage.case(), state: State::default(), holdings: Vec::new() };
    for row in 0..ROWS {
        game.step(&Happening::Alone(Operation::Enqueue(row, Queue::Plain))).await?;
    }
    let slots = ROWS as u32;
    game.step(&Happening::Alone(Operation::Claim { executor: 0, queue: Queue::Plain, slots })).await?;
    prop_assert_eq!(game.holdings.len(), ROWS);
    let content = |place: usize| if place == bad { Content::Invalid(invalid) } else { Content::StepAndFinish(0) };
    let commits = (0..ROWS).map(|holding| Commit { executor: 0, holding, content: content(holding) });
    game.step(&Happening::Batch(commits.collect())).await?;
    let ended = game.state.rows.iter().flatten().filter(|row| row.status == "SUCCESS").count();
    prop_assert_eq!(ended, ROWS - 1);
    game.look_back().await
}
