//! `ServerTimeNode`: the present time as text and numbers, in one of several time zones.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::port::{NUMBER, TEXT, input, output};
use super::utilities::utility;
use super::{Behaviour, NodeError, NodeRun, NodeType};
use crate::flow::number::trim;

/// The types of this file.
pub(super) const TYPES: &[NodeType] = &[utility(
    "ServerTimeNode",
    "The present time: as text in a time zone, and in seconds and milliseconds since the epoch",
    const {
        &[
            input("timeFormat", FORMAT),
            input("customFormat", r#"{"type":"string","defaultValue":"YYYY-MM-DD HH:mm:ss"}"#),
            input("timezone", ZONE),
            output("formattedTime", TEXT),
            output("timestampSeconds", NUMBER),
            output("timestampMilliseconds", NUMBER),
        ]
    },
    Behaviour::Pure(server_time),
)];

const FORMAT: &str = r#"{"type":"enum","defaultValue":"ISO","options":[
    {"id":"ISO","type":"string","defaultValue":"ISO"},
    {"id":"Locale","type":"string","defaultValue":"Locale"},
    {"id":"Custom","type":"string","defaultValue":"Custom"}]}"#;

const ZONE: &str = r#"{"type":"enum","defaultValue":"UTC","options":[
    {"id":"UTC","type":"string","defaultValue":"UTC"},
    {"id":"America/New_York","type":"string","defaultValue":"America/New_York"},
    {"id":"America/Los_Angeles","type":"string","defaultValue":"America/Los_Angeles"},
    {"id":"America/Chicago","type":"string","defaultValue":"America/Chicago"},
    {"id":"Europe/London","type":"string","defaultValue":"Europe/London"},
    {"id":"Europe/Paris","type":"string","defaultValue":"Europe/Paris"},
    {"id":"Europe/Berlin","type":"string","defaultValue":"Europe/Berlin"},
    {"id":"Asia/Tokyo","type":"string","defaultValue":"Asia/Tokyo"},
    {"id":"Asia/Shanghai","type":"string","defaultValue":"Asia/Shanghai"},
    {"id":"Asia/Kolkata","type":"string","defaultValue":"Asia/Kolkata"},
    {"id":"Australia/Sydney","type":"string","defaultValue":"Australia/Sydney"}]}"#;

/// What a blank custom format stands for.
const DEFAULT_FORMAT: &str = "YYYY-MM-DD HH:mm:ss";
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn server_time(run: &mut NodeRun) -> Result<(), NodeError> {
    let now = Timestamp::now();
    let text = formatted(now, &run.text("timeFormat"), &run.text("timezone"), &run.text("customFormat"));
    let milliseconds = now.as_millisecond();
    run.set("formattedTime", text);
    run.set("timestampSeconds", milliseconds.div_euclid(1000) as f64);
    run.set("timestampMilliseconds", milliseconds as f64);
    Ok(())
}

/// A time as text. What can't be formatted so, for want of the zone or the format, is ISO in UTC.
fn formatted(time: Timestamp, format: &str, zone: &str, custom: &str) -> String {
    let Ok(time_zone) = TimeZone::get(zone) else { return iso(time) };
    let local = time.to_zoned(time_zone);
    match format {
        "Locale" => local.strftime(&format!("%B %-d, %Y at %-I:%M:%S %p {}", zone_name(&local, zone))).to_string(),
        "Custom" => by_tokens(&local, if trim(custom).is_empty() { DEFAULT_FORMAT } else { custom }),
        "ISO" if zone != "UTC" => local.strftime("%Y-%m-%dT%H:%M:%SGMT%:z").to_string(),
        _ => iso(time),
    }
}

fn iso(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The zone as American English abbreviates it: by letters at home, by its offset elsewhere.
fn zone_name(local: &jiff::Zoned, zone: &str) -> String {
    if zone == "UTC" {
        return zone.to_owned();
    }
    if zone.starts_with("America/") {
        return local.strftime("%Z").to_string();
    }
    let minutes = local.offset().seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    match (minutes.abs() / 60, minutes.abs() % 60) {
        (0, 0) => "GMT".to_owned(),
        (hours, 0) => format!("GMT{sign}{hours}"),
        (hours, minutes) => format!("GMT{sign}{hours}:{minutes:02}"),
    }
}

/// Tokens are replaced one kind after the other, the later ones in what the earlier ones gave: the `a` of `at` is one.
fn by_tokens(local: &jiff::Zoned, format: &str) -> String {
    let mut text = format.to_owned();
    let month = usize::try_from(local.month()).unwrap_or(1);
    for (token, value) in [
        ("MMM", MONTHS[(month - 1) % MONTHS.len()].to_owned()),
        ("YYYY", format!("{:04}", local.year())),
        ("MM", format!("{month:02}")),
        ("DD", format!("{:02}", local.day())),
        ("HH", format!("{:02}", local.hour())),
        ("mm", format!("{:02}", local.minute())),
        ("ss", format!("{:02}", local.second())),
    ] {
        text = text.replace(token, &value);
    }
    if format.contains("h:") || format.contains("h ") {
        let hour = match local.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        text = text.replace('h', &hour.to_string());
        text = text.replace('a', if local.hour() < 12 { "AM" } else { "PM" });
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nodes::testing::ports;

    #[test]
    fn times_are_written_as_the_original_does() {
        // Locale texts are those of Node 20's Intl.
        let winter: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let summer: Timestamp = "2026-07-02T13:46:40.123Z".parse().unwrap();
        for (time, format, zone, custom, text) in [
            (winter, "ISO", "UTC", "", "2026-01-02T03:04:05.678Z"),
            (winter, "ISO", "Asia/Tokyo", "", "2026-01-02T12:04:05GMT+09:00"),
            (winter, "ISO", "America/New_York", "", "2026-01-01T22:04:05GMT-05:00"),
            (summer, "ISO", "Asia/Kolkata", "", "2026-07-02T19:16:40GMT+05:30"),
            (winter, "ISO", "Europe/London", "", "2026-01-02T03:04:05GMT+00:00"),
            (winter, "Locale", "UTC", "", "January 2, 2026 at 3:04:05 AM UTC"),
            (winter, "Locale", "Asia/Tokyo", "", "January 2, 2026 at 12:04:05 PM GMT+9"),
            (winter, "Locale", "America/Chicago", "", "January 1, 2026 at 9:04:05 PM CST"),
            (summer, "Locale", "America/Los_Angeles", "", "July 2, 2026 at 6:46:40 AM PDT"),
            (winter, "Locale", "Europe/London", "", "January 2, 2026 at 3:04:05 AM GMT"),
            (summer, "Locale", "Europe/London", "", "July 2, 2026 at 2:46:40 PM GMT+1"),
            (summer, "Locale", "Asia/Kolkata", "", "July 2, 2026 at 7:16:40 PM GMT+5:30"),
            (winter, "Locale", "Australia/Sydney", "", "January 2, 2026 at 2:04:05 PM GMT+11"),
            (winter, "Custom", "UTC", "YYYY-MM-DD HH:mm:ss", "2026-01-02 03:04:05"),
            (winter, "Custom", "UTC", "  ", "2026-01-02 03:04:05"),
            // The twelve-hour letters are looked for in what the others gave: January has an `a` of its own.
            (winter, "Custom", "Asia/Tokyo", "DD MMM YYYY, h:mm a", "02 JPMn 2026, 12:04 PM"),
            (winter, "Custom", "UTC", "MMM MM", "Jan 01"),
            ("2026-03-04T00:05:06Z".parse().unwrap(), "Custom", "UTC", "MMM h a", "MAMr 12 AM"),
            (winter, "Custom", "UTC", "at HH", "at 03"),
            (winter, "Custom", "Mars/Olympus", "YYYY", "2026-01-02T03:04:05.678Z"),
            (winter, "Stardate", "UTC", "", "2026-01-02T03:04:05.678Z"),
        ] {
            assert_eq!(formatted(time, format, zone, custom), text, "{format} {zone} {custom}");
        }
    }

    #[test]
    fn every_zone_on_the_list_is_known_without_the_systems_data() {
        let options: serde_json::Value = serde_json::from_str(ZONE).unwrap();
        for option in options["options"].as_array().unwrap() {
            assert!(TimeZone::get(option["id"].as_str().unwrap()).is_ok(), "{option}");
        }
    }

    #[test]
    fn text_and_numbers_are_of_one_moment() {
        let ports = ports("ServerTimeNode", &json!({}));
        let text: Timestamp = ports["formattedTime"].as_str().unwrap().parse().unwrap();
        assert_eq!(json!(text.as_millisecond()), ports["timestampMilliseconds"]);
        assert_eq!(json!(text.as_second()), ports["timestampSeconds"]);
        assert!(text.as_second() > 1_767_000_000);
    }
}
