//! Tables and times as people read them: bounded cells, ages, durations; and ISO for scripts.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::output::{self, Tone};

/// A thousand years.
const LONGEST: Duration = Duration::from_secs(1000 * 31_557_600);

/// A cell of a table: one line, without control characters.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A text, cut to this many columns of a terminal.
    pub fn new(text: impl AsRef<str>, width: usize) -> Cell {
        Cell { text: clip(text.as_ref(), width), tone: None }
    }

    /// A text, or a dash where there is none.
    pub fn or_dash(text: Option<impl AsRef<str>>, width: usize) -> Cell {
        text.map_or_else(|| Cell::from("-"), |text| Cell::new(text, width))
    }

    /// In this colour.
    #[must_use]
    pub fn toned(self, tone: Option<Tone>) -> Cell {
        Cell { tone, ..self }
    }

    /// In its colour.
    pub fn painted(&self) -> String {
        self.tone.map_or_else(|| self.text.clone(), |tone| output::paint(&self.text, tone))
    }
}

impl<T: ToString> From<T> for Cell {
    /// What is short by its nature: a number, a word.
    fn from(text: T) -> Cell {
        Cell { text: text.to_string(), tone: None }
    }
}

/// A table with a header, each column as wide as its widest cell.
pub(super) fn table(header: &[&str], rows: &[Vec<Cell>]) -> String {
    let header: Vec<Cell> = header.iter().map(Cell::from).collect();
    let columns = header.len();
    let mut widths = vec![0; columns];
    for row in std::iter::once(&header).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&cell.painted());
            if place + 1 < columns {
                line.extend(std::iter::repeat_n(' ', width - cell.text.width() + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines of a name and a value each, the values below each other.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// One line of at most so many columns; what doesn't fit is three dots.
pub(super) fn clip(text: &str, width: usize) -> String {
    let (mut clipped, mut used) = (String::new(), 0);
    let mut characters = text.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }).peekable();
    while let Some(character) = characters.next() {
        let wide = character.width().unwrap_or(0);
        let rest = usize::from(characters.peek().is_some());
        if used + wide + rest > width {
            clipped.push('…');
            return clipped;
        }
        clipped.push(character);
        used += wide;
    }
    clipped
}

/// How long ago, in one unit: `12s`, `3m`, `5h`, `8d`.
pub(super) fn age(now: i64, then: i64) -> String {
    let seconds = now.saturating_sub(then).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time that is over as `12s ago`, one that is to come as `in 12s`.
pub(super) fn relative(now: i64, then: i64) -> String {
    if then > now { format!("in {}", age(then, now)) } else { format!("{} ago", age(now, then)) }
}

/// A stretch of milliseconds, in at most two units: `35ms`, `2.4s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub(super) fn duration(milliseconds: i64) -> String {
    let milliseconds = milliseconds.max(0);
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}.{}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A time as ISO 8601 in UTC, of milliseconds since the epoch.
pub(super) fn iso(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds).map_or_else(|_| milliseconds.to_string(), |time| time.to_string())
}

/// A count that is bounded: so many and more are shown as "at least".
pub(super) fn count(count: i64, bound: i64) -> String {
    if count >= bound { format!("{bound}+") } else { count.to_string() }
}

/// A point in time: ISO 8601, a day in UTC, or a duration before now. In milliseconds since the epoch.
pub(super) fn time(text: &str) -> Result<i64, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(before_now(ago));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    // Without a zone it is UTC's, and without a time midnight.
    let time = text.parse::<jiff::civil::DateTime>().ok().and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok());
    time.map(|time| time.timestamp().as_millisecond()).ok_or_else(|| {
        "expected a duration before now (90s, 2h, 3d), a day (2026-11-26) or a time (2026-11-26T12:00:00Z)".into()
    })
}

/// A stretch of time with which one can reckon: longer than nothing, and at most a thousand years.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span < Duration::from_millis(1) || span > LONGEST {
        return Err("expected a duration from 1ms to 1000years".into());
    }
    Ok(span)
}

fn before_now(ago: Duration) -> i64 {
    let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_millisecond().saturating_sub(ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_one_line_of_bounded_width() {
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("longer", 5), "long…");
        assert_eq!(clip("two\nlines\u{1b}[31m", 40), "two lines [31m");
        assert_eq!(clip("日本語の名前", 7), "日本語…");
        let rows = [vec![Cell::from("日本"), Cell::from(1)], vec![Cell::from("a"), Cell::new("", 3)]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME  N\n日本  1\na\n");
        assert_eq!(fields(&[("id", "a".into()), ("status", "b".into())]), "id      a\nstatus  b\n");
    }

    #[test]
    fn times_are_short_for_people_and_exact_for_scripts() {
        let hour = 3_600_000;
        assert_eq!([0, 59_999, 60_000, 3 * hour, 80 * hour].map(|ago| age(ago, 0)), ["0s", "59s", "1m", "3h", "3d"]);
        assert_eq!((relative(5000, 0), relative(0, 5000)), ("5s ago".into(), "in 5s".into()));
        let shown = [-1, 35, 2450, 200_000, 2 * hour + 300_000, 76 * hour].map(duration);
        assert_eq!(shown, ["0ms", "35ms", "2.4s", "3m 20s", "2h 5m", "3d 4h"]);
        assert_eq!(iso(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!((count(99, 100), count(100, 100)), ("99".into(), "100+".into()));
    }

    #[test]
    fn points_in_time_are_read_in_three_ways() {
        assert_eq!(time("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(time("2023-11-14"), Ok(1_699_920_000_000));
        assert_eq!(time("2023-11-14T22:13:20"), Ok(1_700_000_000_000));
        let hour = jiff::Timestamp::now().as_millisecond() - time("1h").unwrap();
        assert!((3_600_000..3_601_000).contains(&hour), "{hour}");
        assert!(time("yesterday").unwrap_err().contains("2026-11-26"));
    }

    #[test]
    fn a_stretch_of_time_can_be_reckoned_with() {
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert!(tokio::time::Instant::now().checked_add(span("1000years").unwrap()).is_some());
        for wrong in ["0s", "0ms", "1001years", "500000000000years", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
