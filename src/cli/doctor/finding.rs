//! What a check found, and how it is said.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::sysdb::doctor::Seen;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Good to know; nothing suffers.
    Note,
    /// Something suffers, or will.
    Warning,
    /// Something doesn't work, or may be lost.
    Error,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// What one check found. A check may find several things.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// The check's name, which stays.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in a sentence.
    pub found: String,
    /// What to do about it; nothing where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The same as figures.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub figures: Map<String, Json>,
}

impl Finding {
    fn new(check: &'static str, level: Level, found: impl Into<String>, advice: Option<String>) -> Finding {
        Finding { check, level, found: found.into(), advice, figures: Map::new() }
    }

    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Level::Ok, found, None)
    }

    /// Good to know.
    pub fn note(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(check, Level::Note, found, Some(advice.into()))
    }

    /// Something suffers.
    pub fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(check, Level::Warning, found, Some(advice.into()))
    }

    /// Something doesn't work.
    pub fn error(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(check, Level::Error, found, Some(advice.into()))
    }

    /// With a figure.
    pub fn figure(mut self, name: &str, value: impl Into<Json>) -> Finding {
        self.figures.insert(name.to_owned(), value.into());
        self
    }

    /// With the figures of rows.
    pub fn of(self, seen: &Seen) -> Finding {
        let oldest = seen.oldest.round();
        self.figure("count", seen.count)
            .figure("capped", seen.capped)
            .figure("oldest_seconds", oldest)
            .figure("examples", seen.examples.clone())
    }
}

/// What was found, or that all is well.
pub(super) fn or_ok(found: Vec<Finding>, check: &'static str, text: impl Into<String>) -> Vec<Finding> {
    if found.is_empty() { vec![Finding::ok(check, text)] } else { found }
}

/// So many of a thing: `1 row`, `3 rows`, `10000 rows or more`.
pub(super) fn many(count: i64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

/// The number of rows that were seen.
pub(super) fn counted(seen: &Seen, one: &str) -> String {
    let more = if seen.capped { " or more" } else { "" };
    format!("{}{more}", many(seen.count, one))
}

/// A time for people, in the largest unit that fits.
pub(super) fn age(seconds: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s")];
    match UNITS.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => format!("{:.0} {unit}", (seconds / length).floor()),
        None => "less than 1 s".into(),
    }
}

/// A size for people.
pub(super) fn size(bytes: i64) -> String {
    bytesize::ByteSize::b(u64::try_from(bytes).unwrap_or(0)).display().iec().to_string()
}

/// A few names in a row.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_numbers_read_well() {
        assert_eq!([0.4, 59.9, 60.0, 7300.0, 864_000.0].map(age), ["less than 1 s", "59 s", "1 min", "2 h", "10 d"]);
        assert_eq!(
            (many(1, "row"), many(0, "row"), many(7, "row")),
            ("1 row".into(), "0 rows".into(), "7 rows".into())
        );
        let seen = Seen { count: 5, capped: true, ..Seen::default() };
        assert_eq!(counted(&seen, "execution"), "5 executions or more");
        let names: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
        assert_eq!((list(&names[..2]), list(&names)), ("a, b".into(), "a, b, c, d, e and 1 more".into()));
    }
}
