//! What a run is given on the command line.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value as Json};

use crate::cli::enqueue::read_input;
use crate::flow::Value;
use crate::nodes::FlowEvent;

/// Inputs: `NAME=VALUE`, or an object.
pub(super) fn inputs(given: &[String]) -> anyhow::Result<Map<String, Json>> {
    let mut inputs = Map::new();
    for input in given {
        if input.trim_start().starts_with('{') {
            let object: Map<String, Json> =
                serde_json::from_str(input).with_context(|| format!("--input {input}: not a JSON object"))?;
            inputs.extend(object);
        } else {
            let (name, value) = read_input(input)?;
            inputs.insert(name, value);
        }
    }
    Ok(inputs)
}

/// An event: `NAME`, or `NAME=JSON`.
pub(super) fn event(given: &str) -> anyhow::Result<FlowEvent> {
    let (name, payload) = match given.split_once('=') {
        Some((name, payload)) => {
            let json: Json = serde_json::from_str(payload)
                .with_context(|| format!("--event {name}: its payload is not JSON; write NAME={{\"key\": 1}}"))?;
            (name, Value::from(&json))
        }
        None => (given, Value::Undefined),
    };
    if name.is_empty() {
        bail!("--event: the event has no name; write NAME or NAME=JSON");
    }
    Ok(FlowEvent { name: name.into(), payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn inputs_are_named_one_by_one_or_together_and_later_ones_win() {
        let given = |inputs: &[&str]| inputs.iter().map(|input| (*input).to_owned()).collect::<Vec<_>>();
        let read = inputs(&given(&["a=1", r#"{"a": 2, "b": "x"}"#, "c=text"])).unwrap();
        assert_eq!(Json::Object(read), json!({"a": 2, "b": "x", "c": "text"}));
        assert!(inputs(&given(&["{a"])).unwrap_err().to_string().contains("not a JSON object"));
        assert!(inputs(&given(&["a"])).is_err());
    }

    #[test]
    fn an_event_has_a_name_and_may_have_a_payload() {
        let order = event(r#"order={"n": 1}"#).unwrap();
        assert_eq!((&*order.name, order.payload.to_json()), ("order", json!({"n": 1})));
        assert_eq!(&*event("go").unwrap().name, "go");
        assert!(event("order=x").unwrap_err().to_string().contains("not JSON"));
        assert!(event("=1").is_err());
    }
}
