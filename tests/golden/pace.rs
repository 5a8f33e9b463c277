//! Where a scenario is played at another pace than the original had: the rows are the same, but for the times.

use serde_json::{Value as Json, json};

use crate::golden::compare::mark;

/// Change a scenario, both what is played and what is recorded.
pub fn change(scenario: &mut Json) {
    match scenario["name"].as_str() {
        // Nobody waits for five minutes.
        Some("never-started") => {
            scenario["settings"] = json!({"execution.start_timeout": "1s"});
            let executions = scenario["executions"].take();
            scenario["executions"] = earlier(&executions, 299_000);
        }
        // 60 ms of sleep within a limit of 90 ms leave too little room on a busy machine.
        Some("flow-timeout") => *scenario = slower(scenario, 10.0),
        // Here the command is obeyed, so that somebody has to end the pause.
        Some("pause-ignored") => {
            let steps = scenario["steps"].as_array_mut().unwrap();
            let pause = steps.iter().position(|step| *step == json!("API pause with a reason")).unwrap();
            let more = ["wait for debug:breakpoint-hit", "API resume"].map(Json::from);
            steps.splice(pause + 1..=pause, more);
        }
        _ => {}
    }
}

/// Times after the wait, but not the deadline of the whole, come earlier.
fn earlier(value: &Json, by: i64) -> Json {
    match (mark(value), value) {
        (Some((name @ ("$ms" | "$ts"), at)), _) => {
            let at = at.as_i64().unwrap();
            json!({ name: if (300_000..400_000).contains(&at) { at - by } else { at } })
        }
        (_, Json::Object(fields)) => fields.iter().map(|(key, value)| (key.clone(), earlier(value, by))).collect(),
        (_, Json::Array(items)) => items.iter().map(|item| earlier(item, by)).collect(),
        (_, value) => value.clone(),
    }
}

/// Sleeps and limits are so many times longer.
fn slower(value: &Json, times: f64) -> Json {
    let longer = |value: &Json| value.as_f64().map_or_else(|| value.clone(), |time| json!((time * times) as u64));
    match value {
        Json::Object(fields) => {
            let is_sleep = fields.get("config").is_some_and(|config| config["id"] == json!("duration"));
            let scaled = |key: &str| match key {
                "value" => is_sleep,
                key => matches!(key, "flowTimeoutMs" | "maxTimeoutMs"),
            };
            let field = |(key, value): (&String, &Json)| {
                (key.clone(), if scaled(key) { longer(value) } else { slower(value, times) })
            };
            fields.iter().map(field).collect()
        }
        Json::Array(items) => items.iter().map(|item| slower(item, times)).collect(),
        value => value.clone(),
    }
}
