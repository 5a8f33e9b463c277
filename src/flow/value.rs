//! The values that ports carry: JSON as JavaScript sees it, plus *undefined* and live streams.
//!
//! Composite values are shared (`Arc`), so that handing a value along an edge costs a reference count and
//! not a copy; a holder that writes makes its own copy (`Arc::make_mut`).

use std::sync::Arc;

use indexmap::IndexMap;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::stream::Channel;
use super::text::array_index;

/// An object's fields in insertion order.
pub type Object = IndexMap<Arc<str>, Value>;

/// A port's value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// No value: the port is unset. Absent in JSON objects, null in JSON arrays.
    #[default]
    Undefined,
    /// JSON null.
    Null,
    /// A flag.
    Bool(bool),
    /// A double, as all of JavaScript's numbers are; may be NaN, infinite or −0.
    Number(f64),
    /// A text.
    String(Arc<str>),
    /// A list.
    Array(Arc<Vec<Value>>),
    /// Named fields.
    Object(Arc<Object>),
    /// A live stream; shared by reference.
    Stream(Channel),
}

impl Value {
    /// JavaScript's truth: `""`, 0, NaN, false, null and undefined are false.
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::Undefined | Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Number(number) => *number != 0.0 && !number.is_nan(),
            Value::String(text) => !text.is_empty(),
            Value::Array(_) | Value::Object(_) | Value::Stream(_) => true,
        }
    }

    /// True for null and undefined.
    pub fn is_nullish(&self) -> bool {
        matches!(self, Value::Undefined | Value::Null)
    }

    /// The text, when this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, when this is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The flag, when this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The items, when this is a list.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The fields, when this is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Value::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The stream, when this is one.
    pub fn as_stream(&self) -> Option<&Channel> {
        match self {
            Value::Stream(channel) => Some(channel),
            _ => None,
        }
    }

    /// Whether this is the other value: equal when simple, the same shared one when composite.
    pub fn is(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Undefined, Value::Undefined) | (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a.to_bits() == b.to_bits(),
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => Arc::ptr_eq(a, b),
            (Value::Object(a), Value::Object(b)) => Arc::ptr_eq(a, b),
            (Value::Stream(a), Value::Stream(b)) => a.same(b),
            _ => false,
        }
    }

    /// JavaScript's `===`: nothing is converted, composite values equal themselves only, 0 and −0 are the same.
    pub fn strictly_equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Number(a), Value::Number(b)) => a == b,
            _ => self.is(other),
        }
    }

    /// Whether lists and objects nest deeper than `limit` levels.
    pub fn nests_deeper(&self, limit: usize) -> bool {
        let below = |value: &Value| limit.checked_sub(1).is_none_or(|limit| value.nests_deeper(limit));
        match self {
            Value::Array(_) | Value::Object(_) if limit == 0 => true,
            Value::Array(items) => items.iter().any(below),
            Value::Object(fields) => fields.values().any(below),
            _ => false,
        }
    }

    /// Whether there are streams in it.
    pub fn holds_stream(&self) -> bool {
        match self {
            Value::Stream(_) => true,
            Value::Array(items) => items.iter().any(Value::holds_stream),
            Value::Object(fields) => fields.values().any(Value::holds_stream),
            _ => false,
        }
    }

    /// An empty object.
    pub fn empty_object() -> Value {
        Value::Object(Arc::default())
    }

    /// JSON as serde_json has it. Undefined fields are left out, undefined items are null, NaN and the infinities
    /// are null, whole numbers lose their fraction, a stream is its snapshot.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Undefined | Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => json_number(*number),
            Value::String(text) => text.as_ref().into(),
            Value::Array(items) => items.iter().map(Value::to_json).collect(),
            Value::Object(fields) => serde_json::Value::Object(
                fields
                    .iter()
                    .filter(|(_, value)| !matches!(value, Value::Undefined))
                    .map(|(key, value)| (key.to_string(), value.to_json()))
                    .collect(),
            ),
            Value::Stream(channel) => channel.snapshot(),
        }
    }
}

/// The fields in the order that JavaScript keeps: keys that are array indexes first, ascending, then the others as
/// they were inserted.
pub fn in_javascript_order(mut fields: Object) -> Object {
    if fields.keys().any(|key| array_index(key).is_some()) {
        fields.sort_by_cached_key(|key, _| array_index(key).map_or((1, 0), |index| (0, index)));
    }
    fields
}

/// As [`Value::to_json`], without building it.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Undefined | Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Number(number) => json_number(*number).serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items.iter()),
            Value::Object(fields) => {
                serializer.collect_map(fields.iter().filter(|(_, value)| !matches!(value, Value::Undefined)))
            }
            Value::Stream(channel) => {
                let (buffer, closed) = channel.contents();
                let mut snapshot = serializer.serialize_struct("stream", 3)?;
                snapshot.serialize_field("type", "stream")?;
                snapshot.serialize_field("buffer", &buffer)?;
                snapshot.serialize_field("isClosed", &closed)?;
                snapshot.end()
            }
        }
    }
}

/// A double as a JSON number: whole ones without a fraction, non-finite ones null, −0 as 0.
fn json_number(number: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it, not every whole number is a double
    if number.fract() == 0.0 && number.abs() <= EXACT {
        (number as i64).into()
    } else {
        serde_json::Number::from_f64(number).map_or(serde_json::Value::Null, serde_json::Value::Number)
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(flag) => Value::Bool(*flag),
            serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Value::String(text.as_str().into()),
            serde_json::Value::Array(items) => Value::Array(Arc::new(items.iter().map(Value::from).collect())),
            serde_json::Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.as_str().into(), value.into())).collect();
                Value::Object(Arc::new(in_javascript_order(fields)))
            }
        }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Value::Array(Arc::new(items))
    }
}

impl From<Object> for Value {
    fn from(fields: Object) -> Value {
        Value::Object(Arc::new(fields))
    }
}
