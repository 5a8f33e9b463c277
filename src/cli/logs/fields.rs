//! Fields of spans and events as JSON values, in the order in which they came.

use std::{error::Error, fmt};

use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};

/// The message, and all other fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    /// What was said.
    pub message: String,
    /// Where, for lines of libraries that log by another interface.
    pub target: Option<String>,
    /// The rest.
    pub values: Map<String, Json>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Json) {
        match (field.name(), value) {
            ("message", Json::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            ("log.target", Json::String(text)) => self.target = Some(text),
            (name, _) if name.starts_with("log.") => {} // where in the source
            (name, value) => {
                self.values.insert(name.trim_start_matches("r#").to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}
