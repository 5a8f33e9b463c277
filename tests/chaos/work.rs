//! The executions: what kinds there are, their flows, and what each has to come to.

use rand::Rng as _;
use rand::rngs::SmallRng;
use serde_json::{Value as Json, json};

use crate::support::flows::FlowBuilder;
use crate::workers::{FAMILIES, MAIN, SIGNALS};

/// What an execution does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One node, for some milliseconds.
    Plain,
    /// Three nodes side by side, and one after them.
    Parallel,
    /// One node, for a second or so: what faults meet, and commands.
    Slow,
    /// Waits for its start signal.
    Signal,
    /// Two children, of which one has a child.
    Family,
    /// Has no flow, and so fails.
    Failing,
    /// A node fails, and a handler saves the execution.
    Handled,
    /// A text of some hundred kilobytes.
    Big,
}

/// By weight.
const KINDS: [(Kind, u32); 8] = [
    (Kind::Plain, 46),
    (Kind::Parallel, 14),
    (Kind::Slow, 5),
    (Kind::Signal, 15),
    (Kind::Family, 8),
    (Kind::Failing, 4),
    (Kind::Handled, 7),
    (Kind::Big, 1),
];

/// An execution to be enqueued.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: Kind,
    /// The text that it has to give back.
    pub text: String,
    /// The time that its node takes.
    time: u32,
}

impl Order {
    /// The next one.
    pub fn draw(number: u64, random: &mut SmallRng) -> Order {
        let mut drawn = random.random_range(0..KINDS.iter().map(|(_, weight)| weight).sum());
        let (kind, _) = KINDS
            .iter()
            .find(|(_, weight)| match drawn.checked_sub(*weight) {
                Some(left) => {
                    drawn = left;
                    false
                }
                None => true,
            })
            .unwrap_or(&KINDS[0]);
        let time = match kind {
            Kind::Slow => random.random_range(300..1800),
            _ => random.random_range(1..40),
        };
        let id = format!("EX{number:07}");
        let text = match kind {
            Kind::Big => id.repeat(random.random_range(20_000..60_000)),
            _ => format!("{id}, and so on"),
        };
        Order { id, kind: *kind, text, time }
    }

    /// One of the first kind.
    pub fn plain(id: String) -> Order {
        let text = format!("{id}, and so on");
        Order { id, kind: Kind::Plain, text, time: 10 }
    }

    /// Its queue.
    pub fn queue(&self) -> &'static str {
        match self.kind {
            Kind::Signal => SIGNALS,
            Kind::Family => FAMILIES,
            _ => MAIN,
        }
    }

    /// Its task.
    pub fn task(&self) -> Json {
        let Order { id, kind, text, time } = self;
        let path = |part: &str| format!("/work/{time}/{id}/{part}");
        let (flow, inputs) = match kind {
            Kind::Plain | Kind::Slow | Kind::Signal | Kind::Big => {
                ("plain", json!({"text": text, "work": path("work")}))
            }
            Kind::Parallel => (
                "parallel",
                json!({"text": text, "a": path("a"), "b": path("b"), "c": path("c"), "last": path("last")}),
            ),
            Kind::Family => (
                "family",
                json!({"text": text, "work": path("work"), "first": path("first"),
                                             "second": path("second"), "third": path("third")}),
            ),
            Kind::Failing => ("no-such-flow", json!({})),
            Kind::Handled => ("handled", json!({"text": text, "work": path("work")})),
        };
        json!({"executionId": id, "flowId": flow, "inputs": inputs})
    }

    /// What is wrong with how it ended.
    pub fn judge(&self, status: &str, output: Option<&str>, error: Option<&str>) -> Result<(), String> {
        let Order { id, kind, text, .. } = self;
        if *kind == Kind::Failing {
            let told = error.is_some_and(|error| error.contains("no-such-flow"));
            return if status == "ERROR" && told { Ok(()) } else { Err(format!("{id} failed as {status}: {error:?}")) };
        }
        if status != "SUCCESS" {
            return Err(format!("{id} ({kind:?}) ended as {status}: {error:?}"));
        }
        let output: Json = output.and_then(|output| serde_json::from_str(output).ok()).unwrap_or_default();
        // Or in the envelope of the SDK's own serialisation.
        let outputs = &output.get("json").unwrap_or(&output)["outputs"];
        let mut right = outputs["text"] == **text;
        if *kind == Kind::Parallel {
            right &= ["a", "b", "c", "last"].iter().all(|part| outputs[part] == format!("{id}/{part}"));
        }
        if right { Ok(()) } else { Err(format!("{id} ({kind:?}) has a wrong result: {outputs:.300}")) }
    }
}

/// The children of a family: the event of each, and the part of the ledger that it writes. The last is the first's.
pub const CHILDREN: [&str; 3] = ["first", "second", "third"];

/// The flows, which report to this ledger.
pub fn flows(ledger: &str) -> Vec<Json> {
    let ask = |flow: FlowBuilder, id: &str| {
        let headers = json!("X-Life: secret://CHAOS_LIFE");
        flow.node(id, "HttpRequestNode", &[("baseUri", json!(ledger)), ("path", json!("/")), ("headers", headers)])
            .input(id, id, "path")
    };
    let text = |flow: FlowBuilder| {
        flow.node("text", "TextNode", &[("text", json!("nothing"))])
            .input("text", "text", "text")
            .output("text", "text", "text")
    };
    let event = |name: &str| [("eventName", json!(name))];

    let plain = ask(text(FlowBuilder::new("plain")), "work").then("work", "text").build();
    let mut parallel = text(FlowBuilder::new("parallel"));
    for part in ["a", "b", "c", "last"] {
        parallel = ask(parallel, part).output(part, part, "response");
    }
    let parallel = parallel.then("a", "last").then("b", "last").then("c", "last").build();
    let mut family = ask(text(FlowBuilder::new("family")), "work");
    for (child, emitter) in CHILDREN.into_iter().zip(["emit-first", "emit-second", "emit-third"]) {
        let listener = format!("on-{child}");
        family = ask(family, child).node(&listener, "EventListenerNodeV2", &event(child)).then(&listener, child).node(
            emitter,
            "EventEmitterNode",
            &event(child),
        );
    }
    let family = family.then("work", "emit-first").then("work", "emit-second").then("first", "emit-third").build();
    let handled = ask(text(FlowBuilder::new("handled")), "work")
        // Nothing listens there.
        .node("fails", "HttpRequestNode", &[("baseUri", json!("http://127.0.0.1:9")), ("path", json!("/"))])
        .then("work", "fails")
        .edge(("fails", "__error"), ("text", "__execute"))
        .build();
    vec![plain, parallel, family, handled]
}
