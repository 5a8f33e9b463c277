//! Category `transforms`: lists, records and objects taken apart, put together and chosen from.

mod choose;
mod lists;
mod merge;
mod path;
mod query;
mod records;
mod shape;

use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec};

/// The families of this category.
pub(super) const FAMILIES: &[&[NodeType]] = &[lists::TYPES, records::TYPES, choose::TYPES, shape::TYPES, query::TYPES];

/// A list of anything that comes in.
const LIST: &str =
    r#"{"type":"array","itemConfig":{"type":"any"},"isMutable":true,"isSchemaMutable":true,"defaultValue":[]}"#;
/// A list of anything that goes out.
const LIST_OUT: &str = r#"{"type":"array","itemConfig":{"type":"any"},"isSchemaMutable":true,"defaultValue":[]}"#;
/// A list of objects that comes in.
const RECORDS: &str = r#"{"type":"array","itemConfig":{"type":"object","schema":{"properties":{}},"isSchemaMutable":true},"isMutable":true,"isSchemaMutable":true,"defaultValue":[]}"#;
/// A list of objects that goes out.
const RECORDS_OUT: &str = r#"{"type":"array","itemConfig":{"type":"object","schema":{"properties":{}},"isSchemaMutable":true},"isSchemaMutable":true,"defaultValue":[]}"#;
/// An object of any shape.
const OBJECT: &str = r#"{"type":"object","schema":{"properties":{}},"isSchemaMutable":true,"defaultValue":{}}"#;

const fn transform(
    name: &'static str,
    about: &'static str,
    ports: &'static [PortSpec],
    work: fn(&mut NodeRun) -> Result<(), NodeError>,
) -> NodeType {
    NodeType {
        name,
        category: "transforms",
        about,
        ports,
        behaviour: Behaviour::Pure(work),
        disabled_auto_execution: false,
    }
}
