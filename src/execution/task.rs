//! The task: the one argument of `executeFireFlow`.

use serde_json::{Map, Value as Json};

use crate::wire::Arguments;

/// What to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// The execution; the workflow's id when absent.
    pub execution_id: Option<String>,
    /// The flow; when absent, the execution row's.
    pub flow_id: Option<String>,
    /// Values for named ports of the flow.
    pub inputs: Map<String, Json>,
    /// Options for an execution that has no row yet.
    pub options: Option<Json>,
    /// Integration data for an execution that has no row yet.
    pub integration: Option<Json>,
    /// External events for an execution that has no row yet.
    pub events: Option<Json>,
    /// Deepest allowed execution, where it is more than the usual limit.
    pub max_depth: Option<u64>,
    /// The version of the flow that was the newest when the task was made; 0 is none.
    pub flow_version: Option<i64>,
    /// Whether breakpoints hold.
    pub debug: bool,
    /// All of it as it came, for what children inherit.
    pub fields: Map<String, Json>,
}

/// The argument isn't a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the task argument is not usable: {0}; expected one object such as {{\"flowId\": \"...\", \"inputs\": {{...}}}}"
)]
pub struct TaskError(String);

impl Task {
    /// From the arguments of the workflow. Unknown keys are left alone: other versions of the server may send them.
    ///
    /// # Errors
    /// [`TaskError`], naming the key at fault.
    pub fn read(arguments: &Arguments) -> Result<Task, TaskError> {
        let fields = match (arguments.positional.as_slice(), arguments.named.is_empty()) {
            ([Json::Object(fields)], _) => fields,
            ([], false) => &arguments.named,
            ([], true) => return Err(TaskError("there are no arguments".into())),
            ([other], _) => return Err(TaskError(format!("it is {}", kind(other)))),
            (several, _) => return Err(TaskError(format!("there are {} arguments instead of one", several.len()))),
        };
        let task = Task {
            execution_id: text(fields, "executionId")?,
            flow_id: text(fields, "flowId")?,
            inputs: match fields.get("inputs") {
                None | Some(Json::Null) => Map::new(),
                Some(Json::Object(inputs)) => inputs.clone(),
                Some(other) => return Err(wrong("inputs", "an object of port names and values", other)),
            },
            options: shaped(fields, "options", "an object", Json::is_object)?,
            integration: shaped(fields, "integration", "an object", Json::is_object)?,
            events: shaped(fields, "events", "a list", Json::is_array)?,
            max_depth: fields.get("maxDepth").and_then(Json::as_u64),
            flow_version: fields.get("flowVersion").and_then(Json::as_i64).filter(|version| *version > 0),
            debug: fields.get("debug").and_then(Json::as_bool).unwrap_or(false),
            fields: fields.clone(),
        };
        if task.execution_id.is_none() && task.flow_id.is_none() {
            return Err(TaskError("it names neither flowId nor executionId".into()));
        }
        Ok(task)
    }
}

fn text(fields: &Map<String, Json>, key: &str) -> Result<Option<String>, TaskError> {
    match fields.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) if text.trim().is_empty() => Err(TaskError(format!("{key} is blank"))),
        // No id in PostgreSQL has one, and a statement that asks for it fails.
        Some(Json::String(text)) if text.contains('\0') => Err(TaskError(format!("{key} holds a NUL character"))),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong(key, "a text", other)),
    }
}

fn shaped(
    fields: &Map<String, Json>,
    key: &str,
    expected: &str,
    fits: fn(&Json) -> bool,
) -> Result<Option<Json>, TaskError> {
    match fields.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(value) if fits(value) => Ok(Some(value.clone())),
        Some(other) => Err(wrong(key, expected, other)),
    }
}

fn wrong(key: &str, expected: &str, found: &Json) -> TaskError {
    TaskError(format!("{key} should be {expected} but is {}", kind(found)))
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(positional: Vec<Json>) -> Result<Task, String> {
        Task::read(&Arguments { positional, named: Map::new() }).map_err(|error| error.to_string())
    }

    #[test]
    fn a_task_as_the_server_sends_it_is_read_and_its_other_keys_are_left_alone() {
        let task = read(vec![json!({
            "executionId": "EX1", "flowId": "V2a", "flowVersion": 3, "timestamp": 1, "maxRetries": 3, "debug": false,
            "maxDepth": 100, "maxTimeoutMs": 6_000_000, "inputs": {"name": "Ada"}
        })])
        .unwrap();
        assert_eq!(task.execution_id.as_deref(), Some("EX1"));
        assert_eq!(task.flow_id.as_deref(), Some("V2a"));
        assert_eq!(task.inputs["name"], "Ada");
        assert_eq!(task.max_depth, Some(100));
        assert_eq!((task.flow_version, task.debug), (Some(3), false));
    }

    #[test]
    fn keyword_arguments_alone_are_a_task() {
        let named = json!({"flowId": "V2a"}).as_object().unwrap().clone();
        let task = Task::read(&Arguments { positional: vec![], named }).unwrap();
        assert_eq!(task.flow_id.as_deref(), Some("V2a"));
    }

    #[test]
    fn a_wrong_shape_names_what_is_wrong() {
        for (arguments, part) in [
            (vec![], "there are no arguments"),
            (vec![json!("V2a")], "it is a text"),
            (vec![json!({}), json!(1)], "2 arguments"),
            (vec![json!({})], "neither flowId nor executionId"),
            (vec![json!({"flowId": 7})], "flowId should be a text but is a number"),
            (vec![json!({"flowId": " "})], "flowId is blank"),
            (vec![json!({"flowId": "a\0"})], "flowId holds a NUL"),
            (vec![json!({"flowId": "a", "inputs": [1]})], "inputs should be an object"),
            (vec![json!({"flowId": "a", "events": {}})], "events should be a list"),
        ] {
            let error = read(arguments).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
