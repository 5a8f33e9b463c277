//! A workflow's arguments, whatever format they came in.

use serde_json::{Map, Value};

/// What a workflow is called with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    /// The arguments by position.
    pub positional: Vec<Value>,
    /// The arguments by name: Python's keyword arguments. Empty where the client's language has none.
    pub named: Map<String, Value>,
}

impl Arguments {
    /// One argument, by position.
    pub fn one(value: Value) -> Arguments {
        Arguments { positional: vec![value], named: Map::new() }
    }
}
