//! `rust_serde`: plain JSON without an envelope, as the Rust SDK writes it.
//!
//! Its inputs don't say how many arguments there are: one argument stands there as itself, several as a tuple,
//! which is an array, none as the unit, which is null. What this worker runs takes an object first, so an array
//! that starts with an object is read as several arguments, and any other array as one argument.

use serde_json::{Value, json};

use super::{Arguments, DecodeError, Failure, Format, json};

/// Reads inputs, by the rule above.
pub fn decode_inputs(text: &str) -> Result<Arguments, DecodeError> {
    let positional = match json::decode(Format::RustSerde, text)? {
        Value::Null => Vec::new(),
        Value::Array(items) if items.first().is_some_and(Value::is_object) => items,
        single => vec![single],
    };
    Ok(Arguments { positional, ..Arguments::default() })
}

/// Writes inputs. Named arguments have no place here and are left out.
pub fn encode_inputs(arguments: &Arguments) -> String {
    match arguments.positional.as_slice() {
        [] => "null".into(),
        [single] => single.to_string(),
        several => json!(several).to_string(),
    }
}

/// Writes the one variant of the SDK's error enum that any caller can read, whatever its own error type is.
pub fn encode_error(failure: &Failure, workflow_id: &str) -> String {
    json!({ "WorkflowFailed": { "workflow_id": workflow_id, "message": failure.message } }).to_string()
}

/// Reads an error: the enum is tagged by the variant's name, around a record or, in `Application`, around
/// whatever error type the application has.
pub fn decode_error(text: &str) -> Option<Failure> {
    let value = json::parse(text).ok()?;
    let (variant, body) = value.as_object().filter(|tagged| tagged.len() == 1)?.iter().next()?;
    let mut failure = Failure::of_fields(body).unwrap_or_else(|| match body {
        Value::String(message) => Failure::undecoded(message),
        other => Failure::undecoded(&other.to_string()),
    });
    if body.get("name").is_none() {
        failure.name = variant.clone();
    }
    Some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_argument_several_or_none() {
        let read = |text| decode_inputs(text).unwrap().positional;
        assert_eq!(read(r#"{"executionId":"EX"}"#), vec![json!({"executionId":"EX"})]);
        assert_eq!(read(r#"[{"executionId":"EX"},true]"#), vec![json!({"executionId":"EX"}), json!(true)]);
        assert_eq!(read("[1,2]"), vec![json!([1, 2])]);
        assert_eq!(read("[]"), vec![json!([])]);
        assert_eq!(read("null"), Vec::<Value>::new());
    }

    #[test]
    fn errors_of_both_kinds_are_read() {
        let own = encode_error(&Failure::new("NodeError", "boom"), "rs-1");
        assert_eq!(own, r#"{"WorkflowFailed":{"workflow_id":"rs-1","message":"boom"}}"#);
        assert_eq!(decode_error(&own), Some(Failure::new("WorkflowFailed", "boom")));
        let application = decode_error(r#"{"Application":{"code":"E1","message":"workflow failed"}}"#).unwrap();
        assert_eq!((application.name.as_str(), application.message.as_str()), ("Application", "workflow failed"));
        assert_eq!(decode_error(r#"{"Application":"plain"}"#), Some(Failure::new("Application", "plain")));
        assert_eq!(decode_error("not json"), None);
    }
}
