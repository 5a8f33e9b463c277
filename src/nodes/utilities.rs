//! Category `utilities`: the log, writing JSON and YAML, waiting for streams. The larger ones have files of their own.

use std::time::Duration;

use super::data::{STREAM_OF_ANY, check};
use super::port::{ANY, FLAG, TEXT, input, output};
use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec, yaml};
use crate::flow::text::{TooDeep, json_text};

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[
    utility(
        "DebugLogNode",
        "Writes a line to the run's log",
        const { &[input("message", TEXT)] },
        Behaviour::Pure(|run| {
            run.log(run.text("message"));
            Ok(())
        }),
    ),
    utility(
        "JSONSerializerNode",
        "A value as JSON text",
        const { &[input("data", ANY), input("pretty", FLAG), output("json", TEXT)] },
        Behaviour::Pure(|run| {
            let text = json_text(run.get("data"), run.flag("pretty")).map_err(too_deep)?;
            run.set("json", text);
            Ok(())
        }),
    ),
    utility(
        "YAMLSerializerNode",
        "A value as YAML text; `quotingStrings` has no effect",
        const {
            &[input("data", ANY), input("includeDirectives", FLAG), input("quotingStrings", FLAG), output("yaml", TEXT)]
        },
        Behaviour::Pure(|run| {
            let data = run.get("data");
            let text = if data.is_nullish() {
                "null".to_owned()
            } else {
                yaml::write(data, run.flag("includeDirectives")).map_err(too_deep)?
            };
            run.set("yaml", text);
            Ok(())
        }),
    ),
    utility(
        "WaitForStream",
        "Waits for a stream's first item, its end, or so many milliseconds",
        const {
            &[
                input("triggerStream", STREAM_OF_ANY),
                input("timeout", r#"{"type":"number","defaultValue":5000,"min":0}"#),
                output("triggered", FLAG),
            ]
        },
        Behaviour::Async(|run| Box::pin(wait_for_stream(run))),
    ),
];

/// A node type of this category.
pub(super) const fn utility(
    name: &'static str,
    about: &'static str,
    ports: &'static [PortSpec],
    behaviour: Behaviour,
) -> NodeType {
    NodeType { name, category: "utilities", about, ports, behaviour, disabled_auto_execution: false }
}

fn too_deep(error: TooDeep) -> NodeError {
    NodeError::new(format!("port `data`: {error}"))
}

async fn wait_for_stream(run: &mut NodeRun) -> Result<(), NodeError> {
    let stream = run.stream("triggerStream")?;
    let milliseconds = run.finite("timeout", 0.0).max(0.0);
    let triggered = tokio::select! {
        biased;
        item = stream.item(0) => item.is_some(),
        () = run.cancelled().cancelled() => return Err(NodeError::stopped("the stream on port `triggerStream`")),
        () = tokio::time::sleep(Duration::from_millis(milliseconds as u64)) => false,
    };
    run.set("triggered", triggered);
    check(&stream, "triggerStream")
}
