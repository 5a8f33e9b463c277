//! The formats by name, and the one place that chooses between them.

use std::fmt;

use serde_json::Value;

use super::{
    Arguments, DecodeError, Failure, MAX_PAYLOAD_BYTES, UnknownFormat, json, pickle, portable, rust_serde, superjson,
};

/// How a payload column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The TypeScript SDK's own: JSON with an annotation of types, under a brand.
    Superjson,
    /// Plain JSON, which every SDK reads.
    Portable,
    /// The Python SDK's own: a pickle in base64.
    Pickle,
    /// The Rust SDK's only one: plain JSON without an envelope.
    RustSerde,
}

impl Format {
    /// Every format, in the order of [`Format::KNOWN`].
    pub const ALL: [Format; 4] = [Format::Superjson, Format::Portable, Format::Pickle, Format::RustSerde];

    /// The column values that this worker reads, for a claim's filter. A row of any other format (Go, Java, an
    /// application's own serializer) stays in the queue for a worker that knows it. A NULL column is not listed:
    /// it is told by the payload, see [`Format::of`].
    pub const KNOWN: &[&str] = &["js_superjson", "portable_json", "py_pickle", "rust_serde"];

    /// The column value.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Superjson => "js_superjson",
            Format::Portable => "portable_json",
            Format::Pickle => "py_pickle",
            Format::RustSerde => "rust_serde",
        }
    }

    /// The format of a row from its column, or, where that is NULL, from the shape of its payload.
    ///
    /// NULL means "the application's default serializer": older TypeScript rows, rows that a Python schedule
    /// enqueues, some step rows. A client reads the answer with that same default, so the guess is about who
    /// wrote the row: a base64 pickle is Python's; an object with `positionalArgs` is portable; any other JSON,
    /// branded or as plain as TypeScript used to write it, is TypeScript's, and so is a row without a payload.
    ///
    /// # Errors
    /// [`UnknownFormat`] for a name not in [`Format::KNOWN`], and for an unnamed payload of no known shape.
    pub fn of(column: Option<&str>, payload: Option<&str>) -> Result<Format, UnknownFormat> {
        match (column, payload) {
            (Some(name), _) => {
                Format::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| UnknownFormat::named(name))
            }
            (None, None) => Ok(Format::Superjson),
            (None, Some(payload)) => Format::of_shape(payload).ok_or(UnknownFormat::Shape),
        }
    }

    fn of_shape(payload: &str) -> Option<Format> {
        // 0x80 and a protocol number below 64, which starts every pickle since protocol 2. JSON can't start so.
        if payload.starts_with("gA") {
            return Some(Format::Pickle);
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return None;
        }
        let value = json::parse(payload).ok()?;
        let is_portable = value.get("positionalArgs").is_some() && !superjson::is_branded(&value);
        Some(if is_portable { Format::Portable } else { Format::Superjson })
    }

    /// Reads a workflow's inputs.
    ///
    /// # Errors
    /// [`DecodeError`] when the text is not this format, is too large, or holds what is refused.
    pub fn decode_inputs(self, text: &str) -> Result<Arguments, DecodeError> {
        self.check_size(text)?;
        match self {
            Format::Superjson => superjson::decode_inputs(text),
            Format::Portable => portable::decode_inputs(text),
            Format::Pickle => pickle::decode_inputs(text),
            Format::RustSerde => rust_serde::decode_inputs(text),
        }
    }

    /// Reads one value: a message, an output, an event, a stream item.
    ///
    /// # Errors
    /// [`DecodeError`] when the text is not this format, is too large, or holds what is refused.
    pub fn decode_value(self, text: &str) -> Result<Value, DecodeError> {
        self.check_size(text)?;
        match self {
            Format::Superjson => superjson::decode_value(text),
            Format::Portable | Format::RustSerde => json::decode(self, text),
            Format::Pickle => Ok(pickle::decode_value(text)?),
        }
    }

    /// Reads a recorded error. An error is worth showing even when it can't be understood, so this never fails:
    /// text that is not an error of this format becomes the message.
    pub fn decode_error(self, text: &str) -> Failure {
        let known = if text.len() > MAX_PAYLOAD_BYTES {
            None
        } else {
            match self {
                Format::Superjson => superjson::decode_value(text).ok().as_ref().and_then(Failure::of_fields),
                Format::Portable => json::parse(text).ok().as_ref().and_then(Failure::of_fields),
                Format::Pickle => pickle::decode_error(text),
                Format::RustSerde => rust_serde::decode_error(text),
            }
        };
        known.unwrap_or_else(|| Failure::undecoded(text))
    }

    /// Writes a workflow's inputs, for a child that is enqueued.
    pub fn encode_inputs(self, arguments: &Arguments) -> String {
        match self {
            Format::Superjson => superjson::encode(&arguments.positional),
            Format::Portable => portable::encode_inputs(arguments),
            Format::Pickle => pickle::encode_inputs(arguments),
            Format::RustSerde => rust_serde::encode_inputs(arguments),
        }
    }

    /// Writes one value.
    pub fn encode_value(self, value: &Value) -> String {
        match self {
            Format::Superjson => superjson::encode(value),
            Format::Portable | Format::RustSerde => value.to_string(),
            Format::Pickle => pickle::encode_value(value),
        }
    }

    /// Writes the result of what has none: undefined where the language has it, null elsewhere.
    pub fn encode_void(self) -> String {
        match self {
            Format::Superjson => superjson::encode_void(),
            _ => self.encode_value(&Value::Null),
        }
    }

    /// Writes an error as this format's clients raise it. The Rust SDK names the workflow inside its errors.
    pub fn encode_error(self, failure: &Failure, workflow_id: &str) -> String {
        match self {
            Format::Superjson => superjson::encode(&failure.to_fields()),
            Format::Portable => failure.to_fields().to_string(),
            Format::Pickle => pickle::encode_error(&failure.message),
            Format::RustSerde => rust_serde::encode_error(failure, workflow_id),
        }
    }

    fn check_size(self, text: &str) -> Result<(), DecodeError> {
        if text.len() > MAX_PAYLOAD_BYTES {
            return Err(DecodeError::TooLarge { format: self, bytes: text.len() });
        }
        Ok(())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_known_column_values() {
        let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
        assert_eq!(names, Format::KNOWN);
        for format in Format::ALL {
            assert_eq!(Format::of(Some(format.name()), None).unwrap(), format);
        }
    }

    #[test]
    fn an_unnamed_row_is_told_by_its_payload() {
        let told = |payload| Format::of(None, Some(payload));
        assert_eq!(told(r#"{"json":[1],"__dbos_serializer":"superjson"}"#).unwrap(), Format::Superjson);
        assert_eq!(told(r#"[{"executionId":"EX1"}]"#).unwrap(), Format::Superjson);
        assert_eq!(told(r#""GO""#).unwrap(), Format::Superjson);
        assert_eq!(told(r#"{"positionalArgs" : [1], "namedArgs" : {}}"#).unwrap(), Format::Portable);
        assert_eq!(told("gAROLg==").unwrap(), Format::Pickle);
        assert_eq!(told("gAJ9cQBYAgAAAG9rcQGIcy4=").unwrap(), Format::Pickle);
        assert_eq!(Format::of(None, None).unwrap(), Format::Superjson);
        assert!(matches!(told("rO0ABXNy"), Err(UnknownFormat::Shape)));
        assert!(matches!(told(""), Err(UnknownFormat::Shape)));
    }

    #[test]
    fn a_foreign_name_is_refused_by_name() {
        let error = Format::of(Some("java_jackson"), Some("[]")).unwrap_err();
        assert!(error.to_string().contains("`java_jackson`"), "{error}");
        let long = Format::of(Some(&"é".repeat(5000)), None).unwrap_err();
        assert!(long.to_string().len() < 400, "{long}");
    }

    #[test]
    fn an_oversized_payload_is_refused_before_it_is_parsed() {
        let text = " ".repeat(MAX_PAYLOAD_BYTES + 1);
        for format in Format::ALL {
            assert!(matches!(format.decode_value(&text), Err(DecodeError::TooLarge { .. })));
            assert!(matches!(format.decode_inputs(&text), Err(DecodeError::TooLarge { .. })));
        }
    }
}
