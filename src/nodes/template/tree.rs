//! What a template is made of.

use crate::flow::Value;

/// A part of a template.
#[derive(Debug)]
pub(super) enum Statement {
    Content(Content),
    Mustache(Call, Strip),
    Block(Box<Block>),
    Comment(Strip),
    /// `{{> name}}`: fails where it is reached, since there are none.
    Partial(Strip),
}

/// Text between tags. White space around tags that stand alone is cut off after reading, but whether a tag stands
/// alone is asked of the text as it was.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub original: String,
    pub value: String,
    pub left_stripped: bool,
    pub right_stripped: bool,
}

/// `{{#call}}program{{else}}inverse{{/call}}`.
#[derive(Debug)]
pub(super) struct Block {
    pub call: Call,
    pub program: Option<Program>,
    pub inverse: Option<Program>,
    pub open: Strip,
    pub middle: Strip,
    pub close: Strip,
}

/// Statements, and the names that the block gives to what it hands in.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub body: Vec<Statement>,
    pub names: Vec<String>,
    /// Made for `{{else if}}`: holds just one block.
    pub chained: bool,
}

/// Whether a tag eats the white space on its sides: `{{~` and `~}}`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strip {
    pub left: bool,
    pub right: bool,
}

/// What stands in a tag: a value, or a helper with its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub target: Path,
    pub arguments: Vec<Operand>,
    pub options: Vec<(String, Operand)>,
}

/// An argument.
#[derive(Debug)]
pub(super) enum Operand {
    Path(Path),
    Literal(Value),
    Call(Box<Call>),
}

/// `name`, `../a.b`, `this`, `@index`.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    /// Starts with `@`.
    pub data: bool,
    /// How many `../`.
    pub depth: usize,
    pub parts: Vec<String>,
    /// Starts with `this` or `.`: never a helper or a block's name.
    pub scoped: bool,
    pub original: String,
}

impl Path {
    /// The only name, when this could be one of a helper.
    pub fn simple(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [name] if !self.data && !self.scoped && self.depth == 0 => Some(name),
            _ => None,
        }
    }
}
