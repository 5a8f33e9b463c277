//! Limits of a run, from the options that an execution was created with.

use std::time::Duration;

use serde_json::Value as JsonValue;

/// Limits of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// How many nodes may be at work at once.
    pub max_concurrency: usize,
    /// How long one node may work.
    pub node_timeout: Duration,
    /// How long a flow may run; looked at when a node ends.
    pub flow_timeout: Duration,
    /// Whether debugging was asked for. Changes nothing by itself.
    pub debug: bool,
    /// Ids of nodes that are held before their transfers, where the run has a debugger and debugging was asked for.
    pub breakpoints: Vec<String>,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            max_concurrency: 50,
            node_timeout: Duration::from_secs(3600),
            flow_timeout: Duration::from_secs(10_800),
            debug: false,
            breakpoints: Vec::new(),
        }
    }
}

/// An option that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the execution's options: `{key}` must be {expected}, not {found}")]
pub struct OptionsError {
    /// Where in the options.
    pub key: &'static str,
    /// What would make sense.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

/// Longer than any run; keeps deadlines within what clocks can add.
const LONGEST_MS: f64 = 10.0 * 365.0 * 86_400_000.0;

impl RunOptions {
    /// From an execution's options: `{execution?: {maxConcurrency?, nodeTimeoutMs?, flowTimeoutMs?}, debug?,
    /// breakpoints?}`. Other keys are left alone; what is absent or null has its default.
    pub fn from_json(options: &JsonValue) -> Result<RunOptions, OptionsError> {
        let mut read = RunOptions::default();
        let wrong = |key, expected, found: &JsonValue| OptionsError { key, expected, found: found.to_string() };
        if !options.is_object() && !options.is_null() {
            return Err(wrong("options", "an object", options));
        }
        let execution = options.get("execution").unwrap_or(&JsonValue::Null);
        if !execution.is_object() && !execution.is_null() {
            return Err(wrong("execution", "an object", execution));
        }
        let number = |key: &'static str| match execution.get(key) {
            None | Some(JsonValue::Null) => Ok(None),
            Some(found) => match found.as_f64().filter(|number| *number > 0.0) {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(key, "a number above 0", found)),
            },
        };
        let time = |milliseconds: f64| Duration::from_secs_f64(milliseconds.min(LONGEST_MS) / 1000.0);
        if let Some(count) = number("maxConcurrency")? {
            read.max_concurrency = (count as usize).max(1);
        }
        if let Some(milliseconds) = number("nodeTimeoutMs")? {
            read.node_timeout = time(milliseconds);
        }
        if let Some(milliseconds) = number("flowTimeoutMs")? {
            read.flow_timeout = time(milliseconds);
        }
        match options.get("debug") {
            None | Some(JsonValue::Null) => {}
            Some(JsonValue::Bool(debug)) => read.debug = *debug,
            Some(found) => return Err(wrong("debug", "true or false", found)),
        }
        match options.get("breakpoints") {
            None | Some(JsonValue::Null) => {}
            Some(found) => {
                let ids = found.as_array().map(|ids| ids.iter().map(|id| id.as_str().map(str::to_owned)).collect());
                read.breakpoints = ids.flatten().ok_or_else(|| wrong("breakpoints", "a list of node ids", found))?;
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_options_have_defaults_and_bad_ones_are_named() {
        assert_eq!(RunOptions::from_json(&JsonValue::Null), Ok(RunOptions::default()));
        let given = json!({"execution": {"maxConcurrency": 2, "nodeTimeoutMs": 1.5, "flowTimeoutMs": null}, "debug": true,
                "breakpoints": ["n1"]});
        let expected = RunOptions {
            max_concurrency: 2,
            node_timeout: Duration::from_micros(1500),
            debug: true,
            breakpoints: vec!["n1".into()],
            ..RunOptions::default()
        };
        assert_eq!(RunOptions::from_json(&given), Ok(expected));
        for (given, key) in [
            (json!([]), "options"),
            (json!({"execution": 5}), "execution"),
            (json!({"execution": {"maxConcurrency": "many"}}), "maxConcurrency"),
            (json!({"execution": {"nodeTimeoutMs": 0}}), "nodeTimeoutMs"),
            (json!({"execution": {"flowTimeoutMs": -1}}), "flowTimeoutMs"),
            (json!({"debug": "yes"}), "debug"),
            (json!({"breakpoints": "n1"}), "breakpoints"),
            (json!({"breakpoints": ["n1", 2]}), "breakpoints"),
        ] {
            assert_eq!(RunOptions::from_json(&given).unwrap_err().key, key);
        }
        assert!(RunOptions::from_json(&json!({"execution": {"nodeTimeoutMs": 1e300}})).is_ok());
    }
}
