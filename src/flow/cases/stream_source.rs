//! The cases' own node type: a producer that opens its stream early and writes while it runs.

use std::time::Duration;

use futures_util::FutureExt as _;

use crate::flow::Value;
use crate::flow::model::Direction;
use crate::flow::stream::Channel;
use crate::nodes::{Behaviour, NodeError, NodeRun, NodeType, PortSpec};

/// The type, to be registered where cases are run.
pub const STREAM_SOURCE: NodeType = NodeType {
    name: "ConformanceStreamSource",
    category: "conformance",
    about: "Writes numbered items to a stream",
    ports: &[
        number("count", Direction::Input, r#"{"type":"number","defaultValue":3}"#),
        number("intervalMs", Direction::Input, r#"{"type":"number","defaultValue":10}"#),
        number("failAfter", Direction::Input, r#"{"type":"number","defaultValue":-1}"#),
        number("items", Direction::Output, r#"{"type":"stream","itemConfig":{"type":"string"}}"#),
        number("sent", Direction::Output, r#"{"type":"number","defaultValue":0}"#),
    ],
    behaviour: Behaviour::Async(|run| produce(run).boxed()),
    disabled_auto_execution: false,
};

const fn number(key: &'static str, direction: Direction, config: &'static str) -> PortSpec {
    PortSpec { key, direction, config, required: false }
}

async fn produce(run: &mut NodeRun) -> Result<(), NodeError> {
    let number = |run: &NodeRun, key: &str| run.get(key).as_f64().unwrap_or(0.0);
    let items = Channel::default();
    run.set("items", Value::Stream(items.clone()));
    run.resolve("items");
    let fail_after = number(run, "failAfter");
    let count = if fail_after >= 0.0 { fail_after } else { number(run, "count") };
    let interval = Duration::from_secs_f64(number(run, "intervalMs") / 1000.0);
    for item in 0..count as usize {
        tokio::time::sleep(interval).await;
        items.send(Value::from(format!("item-{item}"))).map_err(|error| NodeError::new(error.to_string()))?;
    }
    items.close(None);
    if fail_after >= 0.0 {
        return Err(NodeError::new("told to fail"));
    }
    run.set("sent", count);
    Ok(())
}
