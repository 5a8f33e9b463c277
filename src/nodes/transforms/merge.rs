//! Deep merging of objects.

use std::sync::Arc;

use crate::flow::value::in_javascript_order;
use crate::flow::{Object, Value};

/// What two values give together: objects field by field, where the second one wins; of everything else, lists
/// included, the second one stays. Recursion ends with the values, whose depth the engine bounds.
pub(super) fn merged(first: &Value, second: &Value) -> Value {
    let (Value::Object(base), Value::Object(changes)) = (first, second) else { return second.clone() };
    let mut fields = Object::clone(base);
    for (key, change) in changes.iter() {
        let value = match fields.get(key) {
            Some(before) => merged(before, change),
            None => change.clone(),
        };
        fields.insert(Arc::clone(key), value);
    }
    Value::from(in_javascript_order(fields))
}

/// The value, with an empty object in place of null and undefined.
pub(super) fn or_empty(value: Option<&Value>) -> Value {
    value.filter(|value| !value.is_nullish()).cloned().unwrap_or_else(Value::empty_object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_second_value_wins_field_by_field() {
        for (first, second, result) in [
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}}),
                json!({"b": {"d": 3}, "e": 4}),
                r#"{"a":1,"b":{"c":1,"d":3},"e":4}"#,
            ),
            (json!({"a": [1, 2]}), json!({"a": [3]}), r#"{"a":[3]}"#),
            (json!({"a": {"b": 1}}), json!({"a": null}), r#"{"a":null}"#),
            (json!({"a": 1}), json!({"a": {"b": 1}}), r#"{"a":{"b":1}}"#),
            (json!({"a": 1}), json!({"2": 2, "1": 1}), r#"{"1":1,"2":2,"a":1}"#),
            (json!({"a": 1}), json!(5), "5"),
            (json!([1]), json!({"a": 1}), r#"{"a":1}"#),
        ] {
            assert_eq!(merged(&Value::from(&first), &Value::from(&second)).to_json().to_string(), result);
        }
    }
}
