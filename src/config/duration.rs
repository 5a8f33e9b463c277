//! Durations as people write them: `"1s"`, `"250ms"`, `"5m"`. A bare number is refused, since its unit is anyone's guess.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)
        .map_err(|_| D::Error::custom("expected a duration in quotes, such as \"30s\", \"250ms\" or \"5m\""))?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format!("\"{text}\" is not a duration such as \"30s\" or \"250ms\": {error}"))
    })
}
