//! Lines on stderr.

use std::{
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
    prefix: &'static str,
}

impl Lines {
    /// Lines as they are.
    pub fn plain() -> Lines {
        Lines { priorities: false, prefix: "" }
    }

    /// Each with its priority in front, which the journal takes away again.
    pub fn with_priorities() -> Lines {
        Lines { priorities: true, prefix: "" }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write(self.prefix, line);
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

/// One line, ended and without secrets.
pub(super) fn write(prefix: &str, line: &[u8]) {
    let line = match REDACTOR.get() {
        Some(redactor) => redactor.bytes(line),
        None => line.into(),
    };
    let _ = match prefix {
        "" => io::stderr().write_all(&line),
        prefix => io::stderr().write_all(&[prefix.as_bytes(), &line].concat()),
    };
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
    fn a_stream_is_the_journal_when_systemd_means_this_one() {
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let is = rustix::fs::fstat(&one).unwrap();
        let said = format!("{}:{}", is.st_dev, is.st_ino);
        assert!(is_stream(&one, &said));
        assert!(!is_stream(&other, &said), "stderr was sent elsewhere since");
        assert!(!is_stream(&one, "nonsense"));
    }
}
