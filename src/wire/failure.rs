//! A workflow's error, whatever format it is recorded in.

use std::fmt;

use serde_json::{Map, Value};

/// An error as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The error's class, such as `FlowTimeout`.
    pub name: String,
    /// For people.
    pub message: String,
    /// For programs: what to branch on.
    pub code: Option<FailureCode>,
    /// Details, any JSON.
    pub data: Option<Value>,
}

/// An error's code; the portable format allows these two kinds.
#[derive(Clone, Debug, PartialEq)]
pub enum FailureCode {
    /// A symbolic code.
    Text(String),
    /// A numeric code.
    Number(serde_json::Number),
}

/// How much of an error that can't be decoded is kept as its message, in characters.
const UNDECODED_CHARS: usize = 4096;

impl Failure {
    /// An error with neither code nor details.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure { name: name.into(), message: message.into(), code: None, data: None }
    }

    /// The record that superjson and portable JSON share. Clients index `name` and `message`, so both are
    /// always there; the rest is left out when absent.
    pub(super) fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("name".into(), self.name.as_str().into());
        fields.insert("message".into(), self.message.as_str().into());
        match &self.code {
            Some(FailureCode::Text(code)) => drop(fields.insert("code".into(), code.as_str().into())),
            Some(FailureCode::Number(code)) => drop(fields.insert("code".into(), Value::Number(code.clone()))),
            None => {}
        }
        if let Some(data) = &self.data {
            fields.insert("data".into(), data.clone());
        }
        Value::Object(fields)
    }

    /// The reverse of [`Failure::to_fields`], for an object with at least a name or a message.
    pub(super) fn of_fields(value: &Value) -> Option<Failure> {
        let text = |key| value.get(key).and_then(Value::as_str);
        let (name, message) = (text("name"), text("message"));
        if name.is_none() && message.is_none() {
            return None;
        }
        Some(Failure {
            name: name.unwrap_or("Error").into(),
            message: message.unwrap_or_default().into(),
            code: match value.get("code") {
                Some(Value::String(code)) => Some(FailureCode::Text(code.clone())),
                Some(Value::Number(code)) => Some(FailureCode::Number(code.clone())),
                _ => None,
            },
            data: value.get("data").filter(|data| !data.is_null()).cloned(),
        })
    }

    /// An error that is not understood: its text is the message.
    pub(super) fn undecoded(text: &str) -> Failure {
        Failure::new("Error", text.chars().take(UNDECODED_CHARS).collect::<String>())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.name, self.message)
    }
}
