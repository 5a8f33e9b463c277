//! Lines on stderr.

use std::{
    borrow::Cow,
    io::{self, Write},
    os::fd::AsFd,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::REDACTOR;

/// Writes lines to stderr. Each comes in one piece. One that can't be written, to a full disk or a closed pipe, is lost
/// without an error: the subscriber would complain of it on stderr, and that would panic in whatever task wrote the line.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    /// Whether lines begin with their priority, as the journal takes it.
    priorities: bool,
    colours: bool,
    prefix: &'static str,
}

impl Lines {
    /// Lines as they are; with colours, where those are put in.
    pub fn plain(colours: bool) -> Lines {
        Lines { priorities: false, colours, prefix: "" }
    }

    /// Each with its priority in front, which the journal takes away again.
    pub fn with_priorities() -> Lines {
        Lines { priorities: true, colours: false, prefix: "" }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        text(self.prefix, line, self.colours);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        *self
    }

    fn make_writer_for(&self, about: &Metadata<'_>) -> Lines {
        let prefix = if self.priorities { prefix(about.level()) } else { "" };
        Lines { prefix, ..*self }
    }
}

/// One line of JSON, ended and without secrets.
pub(super) fn json(line: &str) {
    put("", &clean(line.as_bytes()));
}

/// One line of text, without secrets, and ended. `colours`: those that were put in stay.
pub(super) fn text(prefix: &str, line: &[u8], colours: bool) {
    let line = clean(line);
    let line = String::from_utf8_lossy(&line);
    let line = on_one_line(line.strip_suffix('\n').unwrap_or(&line), colours);
    put(prefix, format!("{line}\n").as_bytes());
}

fn clean(line: &[u8]) -> Cow<'_, [u8]> {
    match REDACTOR.get() {
        Some(redactor) => redactor.bytes(line),
        None => line.into(),
    }
}

fn put(prefix: &str, line: &[u8]) {
    let _ = match prefix {
        "" => io::stderr().write_all(line),
        prefix => io::stderr().write_all(&[prefix.as_bytes(), line].concat()),
    };
}

/// With control characters written out: an id or an error that somebody else wrote must neither look like a line of its own, nor
/// move a terminal's cursor.
fn on_one_line(text: &str, colours: bool) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for (place, c) in text.char_indices() {
        match c {
            '\t' => line.push(c),
            '\x1b' if colours && is_colour(&text[place + 1..]) => line.push(c),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    Cow::Owned(line)
}

/// Whether it goes on with `[`, numbers, and the `m` that makes them a colour.
fn is_colour(rest: &str) -> bool {
    let numbers = rest.strip_prefix('[').and_then(|rest| rest.split_once('m'));
    numbers.is_some_and(|(numbers, _)| numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'))
}

/// A level as syslog counts.
pub(super) fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The same in front of a line.
pub(super) fn prefix(level: &Level) -> &'static str {
    match priority(level) {
        3 => "<3>",
        4 => "<4>",
        6 => "<6>",
        _ => "<7>",
    }
}

/// Whether this stream leads into the journal: systemd says which one does.
pub(super) fn is_the_journal(stream: &impl AsFd) -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    is_stream(stream, &said)
}

fn is_stream(stream: &impl AsFd, said: &str) -> bool {
    rustix::fs::fstat(stream).is_ok_and(|is| said == format!("{}:{}", is.st_dev, is.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_line_of_its_own_and_moves_no_cursor() {
        let foreign = "id=a\nERROR all is lost\r\x1b[2J\u{9b}2J\x1b[31mred\x1b[0m\tend ä";
        let plain = "id=a\\nERROR all is lost\\r\\u{1b}[2J\\u{9b}2J\\u{1b}[31mred\\u{1b}[0m\tend ä";
        assert_eq!(on_one_line(foreign, false), plain);
        let coloured = plain.replace("\\u{1b}[31m", "\x1b[31m").replace("\\u{1b}[0m", "\x1b[0m");
        assert_eq!(on_one_line(foreign, true), coloured);
        assert!(matches!(on_one_line("as it is", false), Cow::Borrowed(_)));
    }

    #[test]
    fn a_stream_is_the_journal_when_systemd_means_this_one() {
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let is = rustix::fs::fstat(&one).unwrap();
        let said = format!("{}:{}", is.st_dev, is.st_ino);
        assert!(is_stream(&one, &said));
        assert!(!is_stream(&other, &said), "stderr was sent elsewhere since");
        assert!(!is_stream(&one, "nonsense"));
    }
}
