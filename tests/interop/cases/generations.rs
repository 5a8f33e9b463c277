//! Clients of two generations on one database. Those before the payload tables know `workflow_status` only: they enqueue
//! with the inputs in it, and look nowhere else for a result.
//!
//! Every scenario is played with every client; at the end there is a table of what holds, on stderr.

use std::{pin::Pin, sync::Arc};

use serde_json::{Value, json};

use super::{
    matrix::{Cell, Matrix},
    stage::{QUEUE, Stage, execution, names, outputs, task, with},
};
use crate::{
    interop::{
        client::Client,
        executor::{Executor, ExecutorOptions},
        setup::Lang,
    },
    support::{TestDatabase, client::SqlClient, flows::FlowBuilder},
};

const EARLIER: [Lang; 3] = [Lang::TypeScript4, Lang::TypeScript44, Lang::Python2];
const CLIENTS: [Lang; 5] = [Lang::TypeScript, Lang::Python, Lang::TypeScript4, Lang::TypeScript44, Lang::Python2];
const STEPS: [&str; 4] = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];
/// An application and its queue whose executions wait for their signal.
const WAITING: &str = "waiting";

/// One client's seat at the stage.
#[derive(Clone)]
struct Seat {
    stage: Arc<Stage>,
    lang: Lang,
}

/// Plays with one client. `Err` says why it can't hold there; anything unexpected panics.
type Scenario = fn(Seat) -> Pin<Box<dyn Future<Output = Result<(), &'static str>>>>;

const SCENARIOS: [(&str, Scenario); 21] = [
    ("result of its own format", |seat| Box::pin(result(seat, false))),
    ("result in portable JSON", |seat| Box::pin(result(seat, true))),
    ("error of its own format", |seat| Box::pin(error(seat, false))),
    ("error in portable JSON", |seat| Box::pin(error(seat, true))),
    ("steps and events", |seat| Box::pin(steps_and_events(seat))),
    ("start signal", |seat| Box::pin(start_signal(seat))),
    ("an id is run once", |seat| Box::pin(reuse(seat))),
    ("deduplication id", |seat| Box::pin(deduplication(seat))),
    ("priority, partition, labels", |seat| Box::pin(labels(seat))),
    ("delay", |seat| Box::pin(delay(seat))),
    ("cancel", |seat| Box::pin(cancel(seat))),
    ("deadline", |seat| Box::pin(deadline(seat))),
    ("resume", |seat| Box::pin(resume(seat))),
    ("fork", |seat| Box::pin(fork(seat))),
    ("rewind", |seat| Box::pin(rewind(seat))),
    ("delete, and the id anew", |seat| Box::pin(delete(seat))),
    ("a child's result", |seat| Box::pin(child(seat))),
    ("managed by the other", |seat| Box::pin(managed_by_the_other(seat))),
    ("forked by the other", |seat| Box::pin(forked_by_the_other(seat))),
    ("read by the newest client", |seat| Box::pin(read_by_the_newest(seat))),
    ("read by the earlier client", |seat| Box::pin(read_by_the_earlier(seat))),
];

/// What Fireflow's own SDK has no method for: the scenario, the method, the words of its cell.
const LACKING: [(&str, &str, &str); 4] = [
    ("result in portable JSON", "enqueuePortable", "no portable form"),
    ("error in portable JSON", "enqueuePortable", "no portable form"),
    ("rewind", "rewindWorkflow", "no rewind"),
    ("delete, and the id anew", "deleteWorkflow", "no delete"),
];

#[tokio::test]
async fn clients_of_both_generations_are_served() {
    let Some(mut stage) = Stage::set().await else { return };
    if !stage.join(&EARLIER).await {
        return;
    }
    let matrix = play(stage, &[]).await;
    matrix.print();
    assert!(matrix.failures().is_empty(), "{:?}", matrix.failures());
}

/// The same on a schema of the earlier generation, which one of its executors has made and goes on using. The worker leaves it
/// as it is. What newer clients do there is in the table as well: nothing.
#[tokio::test]
async fn clients_of_the_earlier_generation_are_served_on_a_schema_of_theirs() {
    let database = TestDatabase::new().await;
    let others = ExecutorOptions { application: "others", version: "others-1", executor: "others", queue: "others" };
    let Some(executor) = Executor::start(Lang::TypeScript4, &database.url(), &others).await else { return };
    let Some(mut stage) = Stage::as_it_is(database).await else { return };
    if !stage.join(&EARLIER).await {
        return;
    }
    assert!(!stage.has_payload_tables);
    let matrix = play(
        stage,
        &["managed by the other", "forked by the other", "read by the newest client", "read by the earlier client"],
    )
    .await;
    matrix.print_for("level 108");
    assert!(matrix.failures().is_empty(), "{:?}", matrix.failures());
    executor.stop().await;
}

/// All scenarios but those left out, with all clients.
async fn play(stage: Stage, left_out: &[&str]) -> Matrix<'static> {
    let event = [("eventName", json!("work"))];
    let parent = FlowBuilder::new("parent").node("emitter", "EventEmitterNode", &event);
    let parent = parent.node("listener", "EventListenerNodeV2", &event).build();
    SqlClient::open(&stage.database).await.store(&parent).await;
    let _worker = stage.worker(&[]).await;
    let settings = [("execution.start", "signal"), ("queue.name", WAITING), ("worker.application_name", WAITING)];
    // Fireflow's own SDK names no application, so the version keeps the two workers' rows apart.
    let settings = [settings.as_slice(), &[("worker.application_version", "waiting-1")]].concat();
    let _waiting = stage.worker_named("waiting-worker", &settings).await;

    let stage = Arc::new(stage);
    let scenarios: Vec<_> = SCENARIOS.into_iter().filter(|(name, _)| !left_out.contains(name)).collect();
    let play = async |lang| {
        let mut column = Vec::new();
        for (name, scenario) in &scenarios {
            let seat = Seat { stage: Arc::clone(&stage), lang };
            column.push(match seat.lacking(name).await {
                Some(reason) => Cell::Cannot(reason),
                None if seat.is_too_new() => Cell::of(is_refused(seat, name)).await,
                None => Cell::of(scenario(seat)).await,
            });
        }
        column
    };
    let columns = futures_util::future::join_all(CLIENTS.map(play)).await;
    Matrix { clients: &CLIENTS, scenarios: scenarios.iter().map(|(name, _)| *name).collect(), columns }
}

/// A client whose enqueue needs a table or column that isn't there: it fails, and leaves nothing.
async fn is_refused(seat: Seat, scenario: &str) -> Result<(), &'static str> {
    let id = seat.id(scenario);
    let error = seat.client().call("enqueue", execution(&id, "hello-world", json!({}))).await.unwrap_err();
    assert!(error.message.contains("creator_xid"), "{error:?}");
    let left = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = $1";
    assert_eq!(seat.stage.sql.query_one(left, &[&id]).await.unwrap().get::<_, i64>(0), 0);
    let error = seat.client().call("workflow", json!({ "id": id })).await.unwrap_err();
    assert!(error.message.contains("workflow_input"), "{error:?}");
    Err("fails: level < 123")
}

impl Seat {
    fn client(&self) -> &Client {
        self.stage.client(self.lang)
    }

    /// Why the scenario can't be played here: its client hasn't got the method.
    async fn lacking(&self, scenario: &str) -> Option<&'static str> {
        let (_, method, reason) =
            LACKING.iter().find(|(name, ..)| self.lang == Lang::TypeScript44 && *name == scenario)?;
        let has = self.client().call("has", json!({ "method": method })).await.unwrap();
        assert_eq!(has, json!(false), "the client has {method}");
        Some(reason)
    }

    fn is_earlier(&self) -> bool {
        self.lang != self.lang.newest()
    }

    fn is_too_new(&self) -> bool {
        !self.is_earlier() && !self.stage.has_payload_tables
    }

    /// The client of the same language and the other generation.
    fn other(&self) -> &Client {
        let same = |lang: Lang| lang.newest() == self.lang.newest() && lang != self.lang;
        self.stage.clients.iter().find(|client| same(client.lang())).unwrap()
    }

    fn id(&self, what: &str) -> String {
        format!("{what}-{:?}", self.lang)
    }

    /// Enqueues a greeting and waits for its result, which is given.
    async fn greet(&self, what: &str) -> (String, Value) {
        let id = self.client().enqueue(execution(&self.id(what), "hello-world", json!({"name": what}))).await;
        let result = self.client().result(&id).await.unwrap_or_else(|error| panic!("{id}: {error:?}"));
        assert_eq!(result["outputs"]["greeting"], json!(format!("Hello, {what}!")));
        (id, result)
    }

    /// That the workflow's inputs are where its client looks, and its outcome where that and all others look.
    async fn is_stored_for_all(&self, id: &str) {
        if !self.stage.has_payload_tables {
            let query = "SELECT inputs IS NOT NULL AND coalesce(output, error) IS NOT NULL
                           FROM dbos.workflow_status WHERE workflow_uuid = $1";
            assert!(self.stage.sql.query_one(query, &[&id]).await.unwrap().get::<_, bool>(0), "{id}");
            return;
        }
        let query = "SELECT w.inputs IS NOT NULL, coalesce(w.output, w.error), coalesce(o.output, o.error)
             FROM dbos.workflow_status w LEFT JOIN dbos.workflow_output o USING (workflow_uuid) WHERE workflow_uuid = $1";
        let row = self.stage.sql.query_one(query, &[&id]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), self.is_earlier(), "{id}: inputs in workflow_status");
        let (there, apart): (Option<String>, Option<String>) = (row.get(1), row.get(2));
        assert!(apart.is_some(), "{id} has no workflow_output");
        assert_eq!(there, if self.is_earlier() { apart } else { None }, "{id}: the outcome in workflow_status");
    }
}

async fn result(seat: Seat, portable: bool) -> Result<(), &'static str> {
    let client = seat.client();
    let id = seat.id(if portable { "portable" } else { "own" });
    let product = "gear \u{2699} \"\u{1f680}\" \\ \u{e9}";
    let args = json!([{"flowId": "price-note", "inputs": {"product": product}}]);
    client.enqueue(with(task(&id, args.clone()), json!({ "portable": portable }))).await;
    let result = client.result(&id).await.unwrap();
    assert_eq!(result["outputs"], json!({"note": format!("{product}: 4, 6 at 14.88"), "total": 14.875}));
    let row = client.workflow(&id).await;
    assert_eq!((&row["status"], &row["output"]), (&json!("SUCCESS"), &result));
    assert_eq!(row["input"], json!({"args": args, "named": {}}), "{row}");
    seat.is_stored_for_all(&id).await;
    Ok(())
}

async fn error(seat: Seat, portable: bool) -> Result<(), &'static str> {
    let client = seat.client();
    let id = seat.id(if portable { "portable-error" } else { "error" });
    let inputs = json!([{"flowId": "hello-world", "inputs": {"nmae": "Ada"}}]);
    client.enqueue(with(task(&id, inputs), json!({ "portable": portable }))).await;
    let error = client.result(&id).await.unwrap_err();
    assert!(error.message.contains("the flow has no input \"nmae\"; its inputs: name"), "{error:?}");
    // A pickle holds Python's plain Exception: a class of ours would not be known there.
    let pickled = seat.lang.newest() == Lang::Python && !portable;
    assert_eq!(error.name, if pickled { "Exception" } else { "InvalidInput" });
    let row = client.workflow(&id).await;
    assert_eq!((&row["status"], &row["output"]), (&json!("ERROR"), &Value::Null));
    assert!(row["error"]["message"].as_str().unwrap().contains("nmae"), "{row}");
    seat.is_stored_for_all(&id).await;
    Ok(())
}

async fn steps_and_events(seat: Seat) -> Result<(), &'static str> {
    let client = seat.client();
    let id = client.enqueue(execution(&seat.id("steps"), "hello-world", json!({}))).await;
    let events = client.stream(&id, "events").await; // while it runs, and it ends by itself
    let types: Vec<_> = events.iter().filter_map(|event| event["event"]["type"].as_str()).collect();
    assert_eq!((types[0], types.last()), ("execution:created", Some(&"flow:completed")));
    let result = client.result(&id).await.unwrap();
    let steps = client.steps(&id).await;
    assert_eq!(names(&steps), STEPS);
    for (number, step) in steps.iter().enumerate() {
        let output = if number == 2 { &result } else { &Value::Null };
        assert_eq!((&step["step"], &step["output"], &step["error"]), (&json!(number), output, &Value::Null));
    }
    Ok(())
}

async fn start_signal(seat: Seat) -> Result<(), &'static str> {
    let client = seat.client();
    // The earliest has one form.
    let forms: &[bool] = if seat.lang == Lang::TypeScript44 { &[false] } else { &[false, true] };
    for &portable in forms {
        let id = seat.id(if portable { "signal-portable" } else { "signal" });
        let theirs = json!({"queue": WAITING, "application": WAITING, "portable": portable});
        client.enqueue(with(execution(&id, "hello-world", json!({"name": "you"})), theirs)).await;
        let waits = "SELECT function_name FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_id = 2";
        assert_eq!(seat.stage.until::<String>(waits, &id, |_| true).await, "DBOS.sleep");
        let go = json!({"id": id, "topic": "START_SIGNAL", "message": "GO", "portable": portable});
        client.call("send", go).await.unwrap();
        assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, you!"}));
        let steps = client.steps(&id).await;
        assert_eq!((&steps[1]["name"], &steps[1]["output"]), (&json!("DBOS.recv"), &json!("GO")));
    }
    Ok(())
}

async fn reuse(seat: Seat) -> Result<(), &'static str> {
    let (id, first) = seat.greet("reused").await;
    let client = seat.client();
    client.enqueue(execution(&id, "hello-world", json!({"name": "another"}))).await;
    assert_eq!(client.result(&id).await.unwrap(), first);
    let row = client.workflow(&id).await;
    // This one counts an attempt for each enqueue.
    let attempts = json!(if seat.lang == Lang::TypeScript44 { 2 } else { 1 });
    assert_eq!((&row["attempts"], &row["input"]["args"][0]["inputs"]["name"]), (&attempts, &json!("reused")));
    assert_eq!(names(&client.steps(&id).await), STEPS);
    Ok(())
}

async fn deduplication(seat: Seat) -> Result<(), &'static str> {
    let client = seat.client();
    let key = json!({"dedupId": seat.id("key"), "delayMs": 700});
    let enqueue = |what: &str| with(execution(&seat.id(what), "hello-world", json!({})), key.clone());
    // Where there is no delay, it takes its time.
    let slow = with(execution(&seat.id("first"), "parallel", json!({"duration": 1500})), key.clone());
    let first = client.enqueue(if seat.lang == Lang::TypeScript44 { slow } else { enqueue("first") }).await;
    let refused = client.call("enqueue", enqueue("second")).await.unwrap_err();
    assert!(refused.name.starts_with("DBOSQueue") && refused.name.contains("uplicated"), "{refused:?}");
    client.result(&first).await.unwrap();
    let third = client.enqueue(enqueue("third")).await;
    assert_eq!(outputs(client.result(&third).await), json!({"greeting": "Hello, world!"}));
    Ok(())
}

/// All that a row may be enqueued with goes to where it belongs, and is still there at its end.
async fn labels(seat: Seat) -> Result<(), &'static str> {
    let given = json!({
        "priority": 7, "appVersion": "1.0.0", "application": "fireflow-executor", "partitionKey": "p",
        "attributes": {"tenant": "t"}, "timeoutMs": 60_000,
    });
    let id = seat.client().enqueue(with(execution(&seat.id("labels"), "hello-world", json!({})), given)).await;
    assert_eq!(outputs(seat.client().result(&id).await), json!({"greeting": "Hello, world!"}));
    // Not by the client: the earliest shows only a part of what it wrote.
    let row = "SELECT to_jsonb(w) FROM dbos.workflow_status w WHERE workflow_uuid = $1";
    let row: Value = seat.stage.sql.query_one(row, &[&id]).await.unwrap().get(0);
    let found = ["priority", "application_version", "application_name", "queue_partition_key", "workflow_timeout_ms"];
    assert_eq!(json!(found.map(|key| &row[key])), json!([7, "1.0.0", "fireflow-executor", "p", 60_000]), "{row}");
    let deadline = row["workflow_deadline_epoch_ms"].as_i64().unwrap();
    assert!(deadline >= row["created_at"].as_i64().unwrap() + 60_000, "{row}");
    let attributes = &row["attributes"];
    if seat.lang.newest() != seat.lang && attributes.is_null() {
        return Err("no attributes");
    }
    assert_eq!(attributes, &json!({"tenant": "t"}));
    Ok(())
}

async fn delay(seat: Seat) -> Result<(), &'static str> {
    let client = seat.client();
    let later = with(execution(&seat.id("later"), "hello-world", json!({})), json!({"delayMs": 700}));
    let id = client.enqueue(later).await;
    if seat.lang == Lang::TypeScript44 {
        assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, world!"}));
        let later = "SELECT delay_until_epoch_ms IS NOT NULL FROM dbos.workflow_status WHERE workflow_uuid = $1";
        assert!(!seat.stage.sql.query_one(later, &[&id]).await.unwrap().get::<_, bool>(0));
        return Err("no delay");
    }
    assert_eq!(seat.stage.status(&id).await, "DELAYED");
    assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, world!"}));
    let row = client.workflow(&id).await;
    assert!(row["dequeuedAt"].as_i64() >= row["delayUntilMs"].as_i64() && row["delayUntilMs"].is_i64(), "{row}");
    Ok(())
}

/// That the client is told of the cancellation, and lists it.
async fn is_cancelled(client: &Client, id: &str) {
    let error = client.result(id).await.unwrap_err();
    assert_eq!(error.code, if client.lang().newest() == Lang::TypeScript { 27 } else { 13 }, "{error:?}");
    let row = client.workflow(id).await;
    assert_eq!((&row["status"], &row["output"]), (&json!("CANCELLED"), &Value::Null));
}

async fn cancel(seat: Seat) -> Result<(), &'static str> {
    let client = seat.client();
    let running = client.enqueue(execution(&seat.id("cancelled"), "parallel", json!({"duration": 1500}))).await;
    seat.stage.engine_runs(&running).await;
    // Of this application, or the other one could have it when it is resumed.
    let unserved = json!({"queue": "unserved", "application": "fireflow-executor", "appVersion": "1.0.0"});
    let unserved = with(execution(&seat.id("unbegun"), "hello-world", json!({})), unserved);
    let unbegun = client.enqueue(unserved).await;
    for id in [&running, &unbegun] {
        client.call("cancel", json!({ "id": id })).await.unwrap();
        is_cancelled(client, id).await;
    }
    seat.stage.execution_has(&running, "stopped").await;
    assert!(client.steps(&unbegun).await.is_empty());
    Ok(())
}

async fn deadline(seat: Seat) -> Result<(), &'static str> {
    let fields = with(execution(&seat.id("timed"), "parallel", json!({"duration": 1500})), json!({"timeoutMs": 200}));
    let id = seat.client().enqueue(fields).await;
    is_cancelled(seat.client(), &id).await;
    seat.stage.execution_has(&id, "stopped").await;
    Ok(())
}

/// The cancelled ones of [`cancel`] go on.
async fn resume(seat: Seat) -> Result<(), &'static str> {
    let client = seat.client();
    // The one comes by the internal queue, the other by the one that it is given.
    let unbegun = seat.id("unbegun");
    client.call("resume", json!({ "id": unbegun })).await.unwrap();
    assert_eq!(outputs(client.result(&unbegun).await), json!({"greeting": "Hello, world!"}));
    let begun = seat.id("cancelled");
    client.call("resume", json!({"id": begun, "queue": QUEUE})).await.unwrap();
    assert_eq!(outputs(client.result(&begun).await), json!({"message": "all three are done"}));
    assert_eq!(names(&client.steps(&begun).await), STEPS);
    Ok(())
}

async fn fork(seat: Seat) -> Result<(), &'static str> {
    let (id, first) = seat.greet("forked").await;
    let client = seat.client();
    for step in [1, 2] {
        let fork = client.call("fork", json!({"id": id, "step": step})).await.unwrap();
        let fork = fork["id"].as_str().unwrap();
        assert_eq!(outputs(client.result(fork).await), first["outputs"]);
        assert_eq!(names(&client.steps(fork).await), STEPS);
        assert_eq!(client.workflow(fork).await["forkedFrom"], json!(id));
    }
    Ok(())
}

async fn rewind(seat: Seat) -> Result<(), &'static str> {
    let (id, first) = seat.greet("rewound").await;
    let before = seat.client().steps(&id).await;
    let answer = seat.client().call("rewind", json!({"id": id, "step": 2, "queue": QUEUE})).await;
    if seat.is_earlier() {
        let error = answer.unwrap_err();
        assert!(["TypeError", "AttributeError"].contains(&error.name.as_str()), "{error:?}");
        return Err("no such call");
    }
    answer.unwrap();
    assert_eq!(outputs(seat.client().result(&id).await), first["outputs"]);
    let after = seat.client().steps(&id).await;
    assert_eq!((&after[..2], names(&after)), (&before[..2], names(&before)));
    Ok(())
}

async fn delete(seat: Seat) -> Result<(), &'static str> {
    let (id, _) = seat.greet("deleted").await;
    let client = seat.client();
    client.call("delete", json!({ "id": id })).await.unwrap();
    assert_eq!(client.workflow(&id).await, Value::Null);
    let steps = "SELECT count(*) FROM dbos.operation_outputs WHERE workflow_uuid = $1";
    let left: i64 = seat.stage.sql.query_one(steps, &[&id]).await.unwrap().get(0);
    client.enqueue(execution(&id, "hello-world", json!({"name": "again"}))).await;
    let result = outputs(client.result(&id).await);
    if seat.is_earlier() && seat.stage.has_payload_tables {
        // It trusts in a foreign key that is gone, so that the next run finds the flow's step done, as in any SDK.
        assert_eq!((left, result), (4, json!({"greeting": "Hello, deleted!"})));
        return Err("steps stay behind");
    }
    assert_eq!((left, result), (0, json!({"greeting": "Hello, again!"})));
    seat.is_stored_for_all(&id).await;
    Ok(())
}

/// What an execution starts is for the same client to read.
async fn child(seat: Seat) -> Result<(), &'static str> {
    let client = seat.client();
    let id = client.enqueue(execution(&seat.id("parent"), "parent", json!({}))).await;
    let result = client.result(&id).await.unwrap();
    let [child] = result["childTasks"].as_array().unwrap().as_slice() else { panic!("{result}") };
    let child = child["executionId"].as_str().unwrap();
    assert_eq!(client.result(child).await.unwrap()["executionId"], json!(child));
    let row = client.workflow(child).await;
    // This one's rows have no parent.
    let parent = if seat.lang == Lang::TypeScript44 { Value::Null } else { json!(id) };
    assert_eq!((&row["parentId"], &row["input"]["args"][0]["executionId"]), (&parent, &json!(child)), "{row}");
    seat.is_stored_for_all(child).await;
    Ok(())
}

async fn managed_by_the_other(seat: Seat) -> Result<(), &'static str> {
    let (client, other) = (seat.client(), seat.other());
    let theirs = json!({"queue": WAITING, "application": WAITING});
    let id = client.enqueue(with(execution(&seat.id("managed"), "hello-world", json!({})), theirs)).await;
    let waits = "SELECT function_name FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_id = 2";
    seat.stage.until::<String>(waits, &id, |_| true).await;
    other.call("cancel", json!({ "id": id })).await.unwrap();
    is_cancelled(client, &id).await;
    seat.stage.execution_has(&id, "stopped").await;
    other.call("resume", json!({ "id": id })).await.unwrap();
    other.call("send", json!({"id": id, "topic": "START_SIGNAL", "message": "GO"})).await.unwrap();
    assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, world!"}));
    seat.is_stored_for_all(&id).await;
    Ok(())
}

async fn forked_by_the_other(seat: Seat) -> Result<(), &'static str> {
    let (id, first) = seat.greet("forked-by-other").await;
    let fork = seat.other().call("fork", json!({"id": id, "step": 1})).await.unwrap();
    let fork = fork["id"].as_str().unwrap();
    let result = seat.stage.client(seat.lang.newest()).result(fork).await;
    if !seat.is_earlier() {
        // It copies the inputs that it knows of: none. All are told so, also the one that made the fork.
        assert_eq!(result.unwrap_err().message, "the workflow has no inputs");
        assert_eq!(seat.other().result(fork).await.unwrap_err().message, "the workflow has no inputs");
        return Err("fork has no inputs");
    }
    assert_eq!(outputs(result), first["outputs"]);
    Ok(())
}

async fn read_by_the_newest(seat: Seat) -> Result<(), &'static str> {
    let (id, result) = seat.greet("newest").await;
    let newest = seat.stage.client(seat.lang.newest());
    assert_eq!(newest.result(&id).await.unwrap(), result);
    let (theirs, ours) = (newest.workflow(&id).await, seat.client().workflow(&id).await);
    assert_eq!((&theirs["input"], &theirs["output"]), (&ours["input"], &ours["output"]));
    assert_eq!(newest.steps(&id).await, seat.client().steps(&id).await);
    // Rewound there, the outcome of the first run is gone from both places, and that of the second is in both.
    newest.call("rewind", json!({"id": id, "step": 2, "queue": QUEUE})).await.unwrap();
    assert_eq!(newest.result(&id).await.unwrap()["outputs"], result["outputs"]);
    assert_eq!(seat.client().result(&id).await.unwrap()["outputs"], result["outputs"]);
    seat.is_stored_for_all(&id).await;
    Ok(())
}

async fn read_by_the_earlier(seat: Seat) -> Result<(), &'static str> {
    let (id, result) = seat.greet("earlier").await;
    let earlier = seat.stage.client(if seat.is_earlier() { seat.lang } else { seat.other().lang() });
    assert_eq!(names(&earlier.steps(&id).await), STEPS);
    let read = earlier.result(&id).await.unwrap();
    if !seat.is_earlier() {
        // Found, and without an outcome in workflow_status.
        assert_eq!(read, Value::Null);
        return Err("it reads null");
    }
    assert_eq!(read, result);
    Ok(())
}
