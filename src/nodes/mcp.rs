//! Category `mcp`: the connection that the others would use. They themselves need a server (`vendors.rs`).

use super::port::pass;
use super::{Behaviour, NodeType};

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[NodeType {
    name: "MCPConnectionNode",
    category: "mcp",
    about: "Where an MCP server is, and the headers to send it",
    ports: const { &[pass("connection", CONNECTION).required()] },
    behaviour: Behaviour::Passive,
    disabled_auto_execution: false,
}];

const CONNECTION: &str = r#"{"type":"object","schema":{"properties":{
    "serverUrl":{"type":"string","defaultValue":""},
    "headers":{"type":"any"}}},
    "defaultValue":{"serverUrl":""}}"#;
