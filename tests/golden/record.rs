//! Our rows as a scenario's recorded ones: what varies between runs becomes a mark.

use serde_json::{Map, Value as Json, json};

/// Mark the rows of an execution that was created at this time.
pub fn record(rows: &Map<String, Json>, created_at: i64) -> Json {
    rows.iter()
        .map(|(table, rows)| {
            let rows: Vec<Json> = rows.as_array().unwrap().iter().map(|row| marked(row, created_at)).collect();
            (table.clone(), json!(rows))
        })
        .collect()
}

fn marked(value: &Json, created_at: i64) -> Json {
    match value {
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
        ("duration" | "executionTime" | "transferTime" | "actualDuration", Json::Number(_)) => json!({"$took": value}),
        ("error_message" | "reason", Json::String(_)) => json!({"$errorText": true}),
        ("output" | "error" | "inputs" | "value" | "message", Json::String(text)) => {
            match serde_json::from_str::<Json>(text) {
                // A timer's wake-up time is a bare number.
                Ok(Json::Number(number)) => json!({"$json": {"$ms": number.as_i64().unwrap() - created_at}}),
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
