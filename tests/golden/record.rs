//! Our rows as a scenario's recorded ones: what varies between runs becomes a mark, and each row is one line.

use serde_json::{Value as Json, json};

use crate::{golden::compare::is_compact, rows::Rows};

/// Mark the rows of an execution; times are counted from `created_at`, when its root was created.
pub fn record(rows: &Rows, created_at: i64) -> Json {
    rows.iter()
        .map(|(table, rows)| {
            let rows: Vec<Json> = rows.as_array().unwrap().iter().map(|row| marked(row, created_at)).collect();
            (table.clone(), json!(rows))
        })
        .collect()
}

/// A scenario as text: its fields, and of its rows each on a line of its own, so that a change shows as one.
pub fn text(scenario: &Json) -> String {
    let mut lines = Vec::new();
    for (key, value) in scenario.as_object().unwrap().iter().filter(|(key, _)| *key != "executions") {
        lines.push(format!(" {}: {value}", json!(key)));
    }
    let executions: Vec<String> = scenario["executions"].as_array().unwrap().iter().map(execution).collect();
    lines.push(format!(" \"executions\": [{}]", executions.join(",\n ")));
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn execution(execution: &Json) -> String {
    let tables = execution["rows"].as_object().unwrap().iter().map(|(table, rows)| {
        let rows: Vec<String> = rows.as_array().unwrap().iter().map(|row| format!("\n   {row}")).collect();
        format!("  {}: [{}]", json!(table), rows.join(","))
    });
    let tables = tables.collect::<Vec<_>>().join(",\n");
    format!("{{\"execution\": {}, \"rows\": {{\n{tables}\n }}}}", execution["execution"])
}

fn marked(value: &Json, created_at: i64) -> Json {
    match value {
        // What a sleep took, as the value of a port.
        Json::Object(port) if port.get("config").is_some_and(|config| config["id"] == json!("actualDuration")) => {
            let value = port.get("value").filter(|value| **value != json!(0));
            let mut port = port.clone();
            value.map(|value| port.insert("value".into(), json!({"$took": value})));
            port.into()
        }
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), field(key, value, created_at))).collect()
        }
        Json::Array(items) => items.iter().map(|item| marked(item, created_at)).collect(),
        value => value.clone(),
    }
}

fn field(key: &str, value: &Json, created_at: i64) -> Json {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond() - created_at);
    match (key, value) {
        ("message_uuid" | "owner_xid", Json::String(_)) => json!({"$uuid": true}),
        ("duration" | "executionTime" | "transferTime", Json::Number(_)) => json!({"$took": value}),
        (output, Json::Number(_)) if output.ends_with(".actualDuration") => json!({"$took": value}),
        ("error_message" | "reason", Json::String(_)) => json!({"$errorText": true}),
        ("output" | "error" | "inputs" | "value" | "message", Json::String(text)) => {
            match serde_json::from_str::<Json>(text) {
                // A timer's wake-up time is a bare number.
                Ok(Json::Number(number)) => json!({"$json": {"$ms": number.as_i64().unwrap() - created_at}}),
                Ok(parsed) if !is_compact(text, &parsed) => value.clone(), // not by a serialiser: literally
                Ok(parsed) => json!({"$json": marked(&parsed, created_at)}),
                Err(_) if key == "message" => json!({"$errorText": true}),
                Err(_) => value.clone(),
            }
        }
        ("createdAt" | "updatedAt", _) => value.clone(), // of the flow's document
        (_, Json::String(text)) if text.len() > 18 && time(text).is_some() => json!({"$iso": time(text)}),
        (_, Json::String(text)) if text.len() > 18 && time(&format!("{text}Z")).is_some() => {
            json!({"$ts": time(&format!("{text}Z"))})
        }
        (_, Json::Number(number)) if number.as_i64().is_some_and(|number| number > 1_000_000_000_000) => {
            json!({"$ms": number.as_i64().unwrap() - created_at})
        }
        (_, value) => marked(value, created_at),
    }
}
