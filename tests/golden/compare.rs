//! Recorded values against ours: by structure, where marks stand for anything of their kind.

use std::collections::BTreeSet;

use serde_json::Value as Json;

/// How far a time may be from the recorded one, in milliseconds: runs differ by seconds, deadlines by minutes.
const LEEWAY: i64 = 60_000;

/// Compares, and keeps what differs.
#[derive(Default)]
pub struct Comparison {
    /// When our execution was created, milliseconds since the epoch; without it, times only have to be times.
    pub created_at: Option<i64>,
    /// Where they differ, in words.
    pub found: Vec<String>,
}

impl Comparison {
    /// Compare a recorded value with ours.
    pub fn compare(&mut self, path: &str, recorded: &Json, ours: &Json) {
        let same = match mark(recorded) {
            Some((name, value)) => self.fits(path, name, value, ours),
            None if path.ends_with("/metadata/version") => ours.is_u64(), // counts changes, so runs differ
            None => match (recorded, ours) {
                (Json::Object(recorded), Json::Object(ours)) => {
                    let keys: BTreeSet<&String> = recorded.keys().chain(ours.keys()).collect();
                    for key in keys {
                        match (recorded.get(key), ours.get(key)) {
                            (Some(recorded), Some(ours)) => self.compare(&format!("{path}/{key}"), recorded, ours),
                            (Some(recorded), None) => {
                                self.found.push(format!("{path}/{key}: missing, recorded {recorded}"))
                            }
                            (_, ours) => self.found.push(format!("{path}/{key}: not recorded, ours {ours:?}")),
                        }
                    }
                    true
                }
                (Json::Array(recorded), Json::Array(ours)) if recorded.len() == ours.len() => {
                    for (index, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
                        self.compare(&format!("{path}/{index}"), recorded, ours);
                    }
                    true
                }
                (Json::Number(recorded), Json::Number(ours)) => recorded.as_f64() == ours.as_f64(),
                (recorded, ours) => recorded == ours,
            },
        };
        if !same {
            self.found.push(format!("{path}: recorded {recorded}, ours {ours}"));
        }
    }

    fn fits(&mut self, path: &str, name: &str, value: &Json, ours: &Json) -> bool {
        let text = ours.as_str();
        match name {
            "$json" => match text.map(|text| (text, serde_json::from_str::<Json>(text))) {
                Some((text, Ok(parsed))) => {
                    self.compare(path, value, &parsed);
                    *text == *parsed.to_string() // written compactly, as clients compare texts
                }
                _ => false,
            },
            "$ms" => ours.as_i64().is_some_and(|ours| self.is_about(value, ours)),
            "$ts" => text
                .filter(|text| !text.ends_with('Z'))
                .and_then(|text| format!("{text}Z").parse::<jiff::Timestamp>().ok())
                .is_some_and(|ours| self.is_about(value, ours.as_millisecond())),
            "$iso" => text
                .filter(|text| text.len() == "2026-01-02T03:04:05.678Z".len() && text.ends_with('Z'))
                .and_then(|text| text.parse::<jiff::Timestamp>().ok())
                .is_some_and(|ours| self.is_about(value, ours.as_millisecond())),
            "$took" => ours.is_u64(),
            "$uuid" => text.is_some_and(|text| uuid::Uuid::parse_str(text).is_ok()),
            "$errorText" => text.is_some_and(|text| !text.is_empty() && text != "{}"),
            "$stack" => text.is_some(),
            "$text" => ours == value,
            _ => panic!("{path}: unknown mark {name}"),
        }
    }

    /// Whether a time is where the recorded one was, counted from the creation of each execution.
    fn is_about(&self, recorded: &Json, ours: i64) -> bool {
        match (self.created_at, recorded.as_i64()) {
            (Some(created_at), Some(recorded)) => (ours - created_at - recorded).abs() < LEEWAY,
            _ => true,
        }
    }
}

/// The name and the value of a mark.
pub fn mark(value: &Json) -> Option<(&str, &Json)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let (name, value) = object.iter().next()?;
    name.starts_with('$').then_some((name.as_str(), value))
}
