//! From the arena to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};

use super::error::PickleError;
use super::read::{Index, MAX_DEPTH, MAX_NODES, Node, Pickle};
use crate::wire::{Failure, MAX_PAYLOAD_BYTES};

/// The pickled value as JSON.
///
/// What JSON has no kind for takes the form that the other formats give it: tuples and sets are arrays, bytes
/// are base64, integers beyond 64 bits are decimal text, NaN and the infinities are their names. Values that the
/// pickle shares are copied, so what is produced is bounded here once more.
pub fn value(pickle: &Pickle<'_>) -> Result<Value, PickleError> {
    Builder { pickle, nodes: 0, bytes: 0 }.value(pickle.root, 0)
}

/// A described exception: its class's name and first argument.
pub fn failure(pickle: &Pickle<'_>) -> Option<Failure> {
    let node = |index: Index| &pickle.nodes[index as usize];
    let Node::Call(class, arguments) = node(pickle.root) else { return None };
    let (Node::Class(class), Node::Tuple(arguments)) = (node(*class), node(*arguments)) else { return None };
    let message = match arguments.first().map(|first| node(*first)) {
        Some(Node::Text(message)) => message.as_ref(),
        _ => "",
    };
    Some(Failure::new(class.as_ref(), message))
}

struct Builder<'b, 'p> {
    pickle: &'b Pickle<'p>,
    nodes: usize,
    bytes: usize,
}

impl Builder<'_, '_> {
    fn value(&mut self, index: Index, depth: usize) -> Result<Value, PickleError> {
        // Also what ends a container that contains itself.
        if depth > MAX_DEPTH {
            return Err(PickleError::Limit { what: "levels", limit: MAX_DEPTH });
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(PickleError::Limit { what: "values", limit: MAX_NODES });
        }
        Ok(match &self.pickle.nodes[index as usize] {
            Node::Null => Value::Null,
            Node::Bool(flag) => Value::Bool(*flag),
            Node::Int(int) => Value::from(*int),
            Node::Unsigned(int) => Value::from(*int),
            Node::Float(float) => {
                Number::from_f64(*float).map_or_else(|| Value::from(float_name(*float)), Value::Number)
            }
            Node::Big(digits) => Value::String(self.text(digits)?),
            Node::Text(text) => Value::String(self.text(text)?),
            Node::Bytes(bytes) => {
                self.count_bytes(bytes.len() / 3 * 4)?;
                Value::String(BASE64.encode(bytes))
            }
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
                Value::Array(items.iter().map(|item| self.value(*item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Node::Dict(pairs) => {
                let mut fields = Map::new();
                for (key, value) in pairs {
                    fields.insert(self.key(*key)?, self.value(*value, depth + 1)?);
                }
                Value::Object(fields)
            }
            // Only described pickles have these, and they are not built.
            Node::Class(_) | Node::Call(..) => Value::Null,
        })
    }

    /// A dict's key as text, as Python's own `json` writes scalars.
    fn key(&mut self, index: Index) -> Result<String, PickleError> {
        Ok(match &self.pickle.nodes[index as usize] {
            Node::Text(text) => self.text(text)?,
            Node::Big(digits) => self.text(digits)?,
            Node::Null => "null".into(),
            Node::Bool(flag) => flag.to_string(),
            Node::Int(int) => int.to_string(),
            Node::Unsigned(int) => int.to_string(),
            Node::Float(float) => {
                Number::from_f64(*float).map_or_else(|| float_name(*float).into(), |number| number.to_string())
            }
            Node::Bytes(_) => return Err(PickleError::Key("bytes")),
            Node::Tuple(_) => return Err(PickleError::Key("a tuple")),
            _ => return Err(PickleError::Key("not a scalar")),
        })
    }

    fn text(&mut self, text: &str) -> Result<String, PickleError> {
        self.count_bytes(text.len())?;
        Ok(text.into())
    }

    fn count_bytes(&mut self, count: usize) -> Result<(), PickleError> {
        self.bytes = self.bytes.saturating_add(count);
        if self.bytes > MAX_PAYLOAD_BYTES {
            return Err(PickleError::Limit { what: "bytes of text", limit: MAX_PAYLOAD_BYTES });
        }
        Ok(())
    }
}

/// The name that superjson and JavaScript have for a number that JSON can't hold.
fn float_name(float: f64) -> &'static str {
    match float {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}
