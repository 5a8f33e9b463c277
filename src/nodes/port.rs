//! How node types declare their ports, and how their work reads them.

use super::{NodeError, NodeRun, PortSpec};
use crate::flow::Value;
use crate::flow::model::Direction;
use crate::flow::stream::Channel;
use crate::flow::text::text_or_empty;

/// Configuration of a flag, off by default.
pub(super) const FLAG: &str = r#"{"type":"boolean","defaultValue":false}"#;
/// Configuration of a number, 0 by default.
pub(super) const NUMBER: &str = r#"{"type":"number","defaultValue":0}"#;
/// Configuration of a text, empty by default.
pub(super) const TEXT: &str = r#"{"type":"string","defaultValue":""}"#;
/// Configuration of a port for anything.
pub(super) const ANY: &str = r#"{"type":"any"}"#;

/// A port that takes values.
pub(super) const fn input(key: &'static str, config: &'static str) -> PortSpec {
    PortSpec { key, direction: Direction::Input, config, required: false }
}

/// A port that takes values and hands them on.
pub(super) const fn pass(key: &'static str, config: &'static str) -> PortSpec {
    PortSpec { key, direction: Direction::Passthrough, config, required: false }
}

/// A port that gives values.
pub(super) const fn output(key: &'static str, config: &'static str) -> PortSpec {
    PortSpec { key, direction: Direction::Output, config, required: false }
}

impl PortSpec {
    /// The same port, on which an edge that brings null or undefined fails.
    pub(super) const fn required(self) -> PortSpec {
        PortSpec { required: true, ..self }
    }
}

impl NodeRun {
    /// A port's text form; empty when it has no value.
    pub(super) fn text(&self, key: &str) -> String {
        text_or_empty(self.get(key))
    }

    /// Whether a port's value is true in JavaScript's sense.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_truthy()
    }

    /// A port's number when it is finite; anything else gives the fallback.
    pub(super) fn finite(&self, key: &str, fallback: f64) -> f64 {
        self.get(key).as_f64().filter(|number| number.is_finite()).unwrap_or(fallback)
    }

    /// A port's list; anything else counts as empty.
    pub(super) fn items(&self, key: &str) -> &[Value] {
        self.get(key).as_array().unwrap_or(&[])
    }

    /// A port's stream, or an error that asks for one.
    pub(super) fn stream(&self, key: &str) -> Result<Channel, NodeError> {
        self.get(key)
            .as_stream()
            .cloned()
            .ok_or_else(|| NodeError::new(format!("port `{key}` holds no stream; connect it to a stream output")))
    }
}

impl NodeError {
    /// The error of a node that was stopped while it waited for `what`.
    pub(super) fn stopped(what: &str) -> NodeError {
        NodeError::new(format!("stopped while waiting for {what}"))
    }
}
