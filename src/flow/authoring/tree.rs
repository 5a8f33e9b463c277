//! What a file says, whatever its syntax: values with the bytes that they stand at.

use std::ops::Range;

use serde_json::{Map, Number, Value as Json};

/// How deep lists and maps of a file may nest. What is lowered from it nests a little deeper, and stays below what
/// loading a flow allows.
pub(super) const MAX_DEPTH: usize = 64;

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// A text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spanned {
    pub text: String,
    pub span: Span,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub kind: Kind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(Spanned, Tree)>),
}

impl Tree {
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&[(Spanned, Tree)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key, when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.as_map()?.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// A name for what kind of value it is, for messages.
    pub fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "a flag",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// As JSON, word for word. Recursion is bounded: a file's depth is.
    pub fn to_json(&self) -> Json {
        match &self.kind {
            Kind::Null => Json::Null,
            Kind::Bool(flag) => Json::Bool(*flag),
            Kind::Number(number) => Json::Number(number.clone()),
            Kind::Text(text) => Json::String(text.clone()),
            Kind::List(items) => items.iter().map(Tree::to_json).collect(),
            Kind::Map(entries) => {
                let fields = entries.iter().map(|(key, value)| (key.text.clone(), value.to_json()));
                Json::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}

impl Spanned {
    /// The bytes of a part of the text. Where the file writes the text with escapes or folds it, those of the whole.
    pub fn part(&self, file: &str, part: Range<usize>) -> Span {
        let whole = || self.span.clone();
        let Some(written) = file.get(self.span.clone()) else { return whole() };
        let Some(offset) = written.find(&self.text) else { return whole() };
        let start = self.span.start + offset;
        start + part.start..start + part.end
    }
}
