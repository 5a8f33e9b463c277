//! The system's journal, by its own protocol: each line is an entry with fields that can be searched for, such as
//! `journalctl FIREFLOW_EXECUTION=EX1`, and with its true priority.
//!
//! An entry is one datagram: `NAME=value` and a newline for each field, or, where the value has newlines, the name, a
//! newline, the value's length in eight bytes, the value and a newline.

use std::{
    io::{self, ErrorKind},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    REDACTOR, lines,
    record::{Record, plain, text},
};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// A journal that takes nothing for so long gets the line not at all: a log must not stop the work.
const PATIENCE: Duration = Duration::from_millis(100);
/// Most bytes of one field, so that an entry fits a datagram.
const LONGEST: usize = 16 << 10;

/// Entries to the journal; to stderr, with their priority in front, while it can't be reached.
pub(super) struct Journal {
    path: PathBuf,
    socket: Mutex<Option<UnixDatagram>>,
}

impl Journal {
    /// The journal that listens here.
    pub fn open(path: impl AsRef<Path>) -> Journal {
        Journal { path: path.as_ref().to_owned(), socket: Mutex::default() }
    }

    /// Write an entry, without secrets.
    pub fn write(&self, record: &Record) {
        if self.send(&entry(record)).is_err() {
            lines::write(lines::prefix(&record.level), format!("{}\n", text(record)).as_bytes());
        }
    }

    fn send(&self, entry: &[u8]) -> io::Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*socket {
            match open.send(entry) {
                Ok(_) => return Ok(()),
                Err(error) if is_full(&error) => return Err(error),
                Err(_) => *socket = None, // perhaps the journal was started anew
            }
        }
        let fresh = self.connect()?;
        let sent = fresh.send(entry);
        *socket = Some(fresh);
        sent.map(drop)
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&self.path)?;
        Ok(socket)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn entry(record: &Record) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    put(&mut entry, "MESSAGE", &text(record));
    put(&mut entry, "PRIORITY", &lines::priority(&record.level).to_string());
    put(&mut entry, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    put(&mut entry, "FIREFLOW_TARGET", &record.target);
    for (name, value) in &record.fields {
        put(&mut entry, &field_name(name), &plain(value));
    }
    entry
}

/// Of the journal's fields, those that begin with `FIREFLOW_` are ours. It takes capitals, digits and `_`, up to 64.
fn field_name(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "FIREFLOW_".chars().chain(name.chars().map(fit)).take(64).collect()
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = match REDACTOR.get() {
        Some(redactor) => redactor.text(value),
        None => value.into(),
    };
    let end = (0..=value.len().min(LONGEST)).rev().find(|end| value.is_char_boundary(*end));
    let value = &value[..end.unwrap_or(0)];
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tracing::Level;

    use super::*;

    fn record(message: &str) -> Record {
        let fields = json!({"execution": "EX1", "attempt": 2, "text": "a\nb", "odd.name": true});
        Record {
            time: jiff::Timestamp::UNIX_EPOCH,
            level: Level::WARN,
            target: "fireflow_worker::worker".into(),
            message: message.into(),
            fields: fields.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn an_entry_has_message_priority_and_fields_to_search_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = Journal::open(&path);
        journal.write(&record("nobody listens yet")); // goes to stderr
        let mut listener = UnixDatagram::bind(&path).unwrap();
        let mut bytes = vec![0; 1 << 20];
        for turn in 0..2 {
            journal.write(&record("it broke"));
            let length = listener.recv(&mut bytes).unwrap();
            let expected = [
                b"MESSAGE\n\x37\0\0\0\0\0\0\0it broke execution=EX1 attempt=2 text=a\nb odd.name=true\n".as_slice(),
                b"PRIORITY=4\nSYSLOG_IDENTIFIER=fireflow-worker\nFIREFLOW_TARGET=fireflow_worker::worker\n",
                b"FIREFLOW_EXECUTION=EX1\nFIREFLOW_ATTEMPT=2\n",
                b"FIREFLOW_TEXT\n\x03\0\0\0\0\0\0\0a\nb\nFIREFLOW_ODD_NAME=true\n",
            ]
            .concat();
            assert_eq!(bytes[..length], expected, "turn {turn}: {}", String::from_utf8_lossy(&bytes[..length]));
            // The journal is started anew: the next entry finds it.
            std::fs::remove_file(&path).unwrap();
            listener = UnixDatagram::bind(&path).unwrap();
        }
    }

    #[test]
    fn an_entry_that_is_too_long_is_cut_and_a_journal_that_takes_nothing_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path);
        journal.write(&record(&"ä".repeat(1 << 20)));
        let mut bytes = vec![0; 1 << 20];
        let length = listener.recv(&mut bytes).unwrap();
        assert!((LONGEST..2 * LONGEST).contains(&length), "{length}");
        // Nobody reads: the socket's queue fills, and then each line takes no longer than the patience.
        let entry = vec![b'x'; 100_000];
        let refused = (0..10_000).find_map(|_| journal.send(&entry).err()).unwrap();
        assert!(is_full(&refused), "{refused}");
    }
}
