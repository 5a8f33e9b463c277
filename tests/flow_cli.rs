//! `flow graph` and `flow run`: what they write, where, and how they end. No database is there.
//!
//! `FIREFLOW_RECORD=1` writes the recorded drawings and runs anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::{Json as Body, Router, routing::get};
use serde_json::{Value as Json, json};
use support::flows::FlowBuilder;
use support::worker::PROGRAM;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program with the given words, in the package's folder, with nothing in its environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(root()).env_clear().stdin(Stdio::null()).args(arguments);
    command
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn flow(arguments: &[&str]) -> Ended {
    command(&[&["flow"], arguments].concat()).output().unwrap().into()
}

fn recorded(name: &str, text: &str) {
    let path = root().join("tests/graph").join(name);
    if std::env::var_os("FIREFLOW_RECORD").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

fn written(folder: &Path, name: &str, flow: &Json) -> String {
    let path = folder.join(name);
    std::fs::write(&path, flow.to_string()).unwrap();
    path.display().to_string()
}

/// Times differ from run to run.
fn without_times(text: &str) -> String {
    let number = |word: &str| word.parse::<u64>().is_ok();
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let shown = words.iter().enumerate().map(|(at, word)| {
            let time = number(word) && words.get(at + 1).is_some_and(|next| next.trim_end_matches(':') == "ms");
            if time { "N" } else { word }
        });
        shown.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_flow_is_drawn_in_each_format_as_recorded() {
    for (format, name) in [("text", "small.txt"), ("svg", "small.svg"), ("mermaid", "small.mmd"), ("dot", "small.dot")]
    {
        let drawn = flow(&["graph", "tests/graph/small.json", "--format", format]);
        assert_eq!((drawn.code, drawn.err.as_str()), (0, ""), "{drawn:?}");
        recorded(name, &drawn.out);
    }
    let plain = flow(&["graph", "tests/graph/small.json"]);
    assert_eq!(plain.out, std::fs::read_to_string(root().join("tests/graph/small.txt")).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.svg");
    let drawn = flow(&["graph", "tests/graph/small.json", "--format", "svg", "-o", file.to_str().unwrap()]);
    assert_eq!((drawn.code, drawn.out.as_str()), (0, ""));
    let svg = std::fs::read_to_string(&file).unwrap();
    assert_eq!(svg, std::fs::read_to_string(root().join("tests/graph/small.svg")).unwrap());
    assert!(svg.contains("why &lt;&amp;&quot;&gt;") && !svg.contains("why <"), "foreign text is escaped");
    let unwritable = flow(&["graph", "tests/graph/small.json", "-o", "/no/such/folder/out.svg"]);
    assert_eq!(unwritable.code, 1);
    assert!(unwritable.err.contains("/no/such/folder/out.svg: can't write"), "{unwritable:?}");
    let none = flow(&["graph", "tests/validation/syntax.json"]);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("error[syntax]"), "{none:?}");
}

#[test]
fn boxes_do_not_cover_each_other_and_frames_hold_their_members() {
    let drawn = flow(&["graph", "tests/graph/small.json", "--format", "svg"]);
    let boxes = |class: &str| -> Vec<[f64; 4]> {
        let rects = drawn.out.lines().filter(|line| line.starts_with(&format!("<rect class=\"{class}\"")));
        let number = |line: &str, key: &str| -> f64 {
            let rest = line.split_once(&format!(" {key}=\"")).unwrap().1;
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        rects.map(|line| ["x", "y", "width", "height"].map(|key| number(line, key))).collect()
    };
    let (nodes, frames) = (boxes("node"), boxes("frame"));
    assert_eq!((nodes.len(), frames.len()), (6, 1));
    let apart = |a: &[f64; 4], b: &[f64; 4]| {
        a[0] + a[2] <= b[0] || b[0] + b[2] <= a[0] || a[1] + a[3] <= b[1] || b[1] + b[3] <= a[1]
    };
    for (at, one) in nodes.iter().enumerate() {
        assert!(nodes[at + 1..].iter().all(|other| apart(one, other)), "{nodes:?}");
    }
    let frame = frames[0];
    let inside = |node: &&[f64; 4]| {
        node[0] > frame[0]
            && node[1] > frame[1]
            && node[0] + node[2] < frame[0] + frame[2]
            && node[1] + node[3] < frame[1] + frame[3]
    };
    assert_eq!(nodes.iter().filter(inside).count(), 2);
    assert!(nodes.iter().filter(|node| !inside(node)).all(|node| apart(node, &frame)), "{nodes:?} {frame:?}");
}

#[test]
fn flows_of_any_size_and_shape_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut large = FlowBuilder::new("large");
    let names: Vec<String> = (0..3000).map(|number| format!("n{number}")).collect();
    for name in &names {
        large = large.node(name, "NumberNode", &[]);
    }
    // A chain, edges from the first to all, and a ring.
    for at in 1..names.len() {
        large = large.edge((&names[at - 1], "num"), (&names[at], "num")).edge((&names[0], "num"), (&names[at], "num"));
    }
    large = large.edge((&names[2999], "num"), (&names[0], "num"));
    let mut large = large.build();
    // Frames in frames, and two that contain each other.
    for at in 0..1000 {
        let parent = names[at + 1].clone();
        large["nodes"][at]["metadata"]["parentNodeId"] = parent.into();
    }
    large["nodes"][2000]["metadata"]["parentNodeId"] = "n2001".into();
    large["nodes"][2001]["metadata"]["parentNodeId"] = "n2000".into();
    let file = written(folder.path(), "large.json", &large);
    for format in ["text", "svg", "mermaid", "dot"] {
        let began = Instant::now();
        let drawn = flow(&["graph", &file, "--format", format]);
        assert_eq!(drawn.code, 0, "{format}: {}", drawn.err);
        assert!(drawn.out.contains("n2999") && drawn.out.contains("n2000"), "{format}");
        assert!(drawn.out.len() < 8 << 20, "{format}: {}", drawn.out.len());
        assert!(began.elapsed() < Duration::from_secs(60), "{format}: {:?}", began.elapsed());
    }
    let empty = written(folder.path(), "empty.json", &json!({"id": "empty", "nodes": [], "edges": []}));
    for format in ["text", "svg", "mermaid", "dot"] {
        assert_eq!(flow(&["graph", &empty, "--format", format]).code, 0, "{format}");
    }
}

/// Commands and their stdout, as the README has them.
fn listing() -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let listing = readme.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let commands = listing.split("$ fireflow-worker ").skip(1);
    commands.map(|text| text.split_once('\n').map(|(command, out)| (command.into(), out.into())).unwrap()).collect()
}

/// Words of a command line, with single quotes as shells have them.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

#[tokio::test]
async fn every_example_runs_as_the_readme_shows() {
    let status = || async { Body(json!({"worker": "w", "queue": "fireflow-executions", "phase": "running"})) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().route("/status", get(status))).await });
    let listing = listing();
    for (line, expected) in &listing {
        let words: Vec<String> =
            words(line).into_iter().map(|word| word.replace("http://127.0.0.1:7420", &address)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ended: Ended = tokio::process::Command::from(command(&words)).output().await.unwrap().into();
        assert_eq!((ended.code, &ended.out), (0, expected), "{line}: {}", ended.err);
    }
    server.abort();
    let mut examples = std::fs::read_dir(root().join("examples/flows")).unwrap();
    assert!(examples.all(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        listing.iter().any(|(line, _)| line.contains(&format!("examples/flows/{name}")))
    }));
}

#[test]
fn a_run_tells_of_each_node_and_what_failed() {
    let ran = flow(&["run", "tests/graph/small.json", "--max-concurrency", "1"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "{}\n"), "{ran:?}");
    recorded("small.run.txt", &without_times(&ran.err));
    let traced = flow(&["run", "examples/flows/hello-world.yaml", "--trace", "-i", "name=Ada"]);
    assert_eq!(traced.code, 0);
    recorded("hello.trace.txt", &without_times(&traced.err));
}

#[test]
fn json_has_all_that_is_known_with_whole_values() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(5000);
    let built = FlowBuilder::new("long").node("a", "TextNode", &[("text", json!(long))]).output("text", "a", "text");
    let file = written(folder.path(), "long.json", &built.build());
    let ran = flow(&["run", &file, "--json"]);
    let known: Json = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &known["end"], &known["outputs"]), (0, &json!("completed"), &json!({"text": long})));
    assert_eq!(known["nodes"][0]["outputs"]["text"], json!(long));
    assert_eq!(known["nodes"][0]["status"], "completed");
    assert!(ran.err.contains("…") && ran.err.lines().all(|line| line.len() < 500), "the display is short: {}", ran.err);
    let failed = flow(&["run", "examples/flows/handled-error.yaml", "--json", "-i", "people=0"]);
    let known: Json = serde_json::from_str(&failed.out).unwrap();
    let share = known["nodes"].as_array().unwrap().iter().find(|node| node["id"] == "share").unwrap();
    assert_eq!((failed.code, &share["status"]), (1, &json!("error")));
    assert!(share["why"].as_str().unwrap().contains("zero"), "{share}");
    assert!(failed.err.contains("1 node failed: share"), "{}", failed.err);
}

#[test]
fn wrong_usage_and_flows_with_errors_end_with_2() {
    let hello = "examples/flows/hello-world.yaml";
    for (arguments, words) in [
        (&["run", hello, "--input", "nam=Ada"][..], "no input \"nam\"; its inputs: name"),
        (&["run", hello, "--input", "name"], "NAME=VALUE"),
        (&["run", hello, "--input", "{\"name\""], "not a JSON object"),
        (&["run", hello, "--event", "go=x"], "not JSON"),
        (&["run", hello, "--timeout", "soon"], "--timeout"),
        (&["run", hello, "--max-concurrency", "0"], "--max-concurrency"),
        (&["run", "tests/validation/cycle.json"], "error[cycle]"),
        (&["run", "tests/validation/syntax.json", "--no-validate"], "error[syntax]"),
        (&["graph", hello, "--format", "png"], "--format"),
        (&["validate"], "Usage"),
    ] {
        let ended = flow(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(words), "{words}: {ended:?}");
    }
    assert_eq!(flow(&["run", "tests/validation/cycle.json", "--no-validate"]).code, 0);
    assert_eq!(flow(&["run", "nowhere.json"]).code, 1);
}

/// A flow that counts down by events: each run emits the next one until it is at its end.
fn countdown() -> Json {
    let payload = json!({"type": "object", "direction": "input", "schema": {"properties": {"n": {"type": "number"}}}});
    let output = json!({"type": "object", "direction": "output", "schema": {"properties": {"n": {"type": "number"}}}});
    let built = FlowBuilder::new("tree")
        .node("root", "IsRootExecutionNode", &[])
        .node("start", "EventEmitterNode", &[("eventName", json!("step"))])
        .node("listen", "EventListenerNodeV2", &[("eventName", json!("step"))])
        .node("again", "EventEmitterNode", &[("eventName", json!("step"))])
        .edge(("root", "isRoot"), ("start", "__execute"))
        .edge(("listen", "eventPayload.n"), ("again", "payload.n"));
    let mut built = built.build();
    for (node, key, config) in [(1, "payload", &payload), (2, "eventPayload", &output), (3, "payload", &payload)] {
        let mut config = config.clone();
        config["key"] = key.into();
        let value = if node == 1 { json!({"n": 7}) } else { json!({"n": 0}) };
        built["nodes"][node]["ports"].as_array_mut().unwrap().push(json!({"config": config, "value": value}));
    }
    built
}

#[test]
fn emitted_events_start_runs_where_that_is_asked_for_and_no_more_than_fit() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "countdown.json", &countdown());
    let alone = flow(&["run", &file]);
    assert_eq!(alone.code, 0, "{alone:?}");
    assert!(
        alone.err.contains("emitted \"step\" by start: {\"n\":7}") && alone.err.contains("--children"),
        "{alone:?}"
    );
    let endless = flow(&["run", &file, "--children", "--json"]);
    let known: Json = serde_json::from_str(&endless.out).unwrap();
    let children = known["children"].as_array().unwrap();
    assert_eq!((children.len(), &known["eventsNotRun"]), (20, &json!(1)));
    assert_eq!(
        (&children[19]["depth"], &children[19]["event"]),
        (&json!(20), &json!({"name": "step", "payload": {"n": 7}}))
    );
    assert!(endless.err.contains("1 events got no run"), "{}", endless.err);
    let listening = flow(&["run", &file, "--json", "--event", "step={\"n\": 3}"]);
    let known: Json = serde_json::from_str(&listening.out).unwrap();
    assert_eq!(known["emitted"], json!([{"name": "step", "payload": {"n": 3}, "by": "again"}]));
}

#[test]
fn a_time_limit_and_a_signal_end_the_run() {
    let slow = ["run", "examples/flows/parallel.yaml", "--input", "duration=60000"];
    let limited = flow(&[&slow[..], &["--timeout", "50ms"]].concat());
    assert_eq!(limited.code, 1, "{limited:?}");
    assert!(limited.err.contains("the time limit of 50ms is over"), "{limited:?}");

    let mut process = command(&[&["flow"], &slow[..], &["--trace"]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("node:started  third")));
    let id = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(process.wait().unwrap().code(), Some(130), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("flow:cancelled")), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("cancelled after") && line.contains("interrupted")), "{rest:#?}");
}
