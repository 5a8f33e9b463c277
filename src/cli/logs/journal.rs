//! The system's journal, by its own protocol: each line is an entry with fields that can be searched for, such as
//! `journalctl FIREFLOW_EXECUTION=EX1`, and with its true priority.
//!
//! An entry is one datagram: `NAME=value` and a newline for each field, or, where the value has newlines, the name, a
//! newline, the value's length in eight bytes, the value and a newline.
//!
//! A journal that takes nothing must not stop the work. It gets a tenth of a second, and then nothing for a while.

use std::{
    io::{self, ErrorKind},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::Map;
use tracing::Level;

use super::{
    REDACTOR, lines,
    record::{Record, plain, text},
};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// A journal that takes nothing for so long doesn't get the line, and for a while no other one.
const PATIENCE: Duration = Duration::from_millis(100);
/// That while: doubles from the first to the second.
const DEAF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Most bytes of one field, so that an entry fits a datagram.
const LONGEST: usize = 16 << 10;

/// Entries to the journal; to stderr, with their priority in front, while it can't be reached. Where stderr leads into the journal
/// as well, an entry that it doesn't take is lost, and counted.
pub(super) struct Journal {
    path: PathBuf,
    /// Whether stderr is another way to it.
    stderr_is_it: bool,
    link: Mutex<Link>,
    lost: AtomicU64,
}

/// The way to it.
#[derive(Default)]
struct Link {
    socket: Option<UnixDatagram>,
    /// It took nothing; until when it gets nothing, and how long that is.
    deaf: Option<(Instant, Duration)>,
}

impl Journal {
    /// The journal that listens here.
    pub fn open(path: impl AsRef<Path>, stderr_is_it: bool) -> Journal {
        Journal { path: path.as_ref().to_owned(), stderr_is_it, link: Mutex::default(), lost: AtomicU64::default() }
    }

    /// Write an entry, without secrets.
    pub fn write(&self, record: &Record) {
        match self.send(&entry(record)) {
            Ok(()) => self.tell_of_the_lost(),
            Err(error) if is_full(&error) && self.stderr_is_it => drop(self.lost.fetch_add(1, Relaxed)),
            Err(_) => lines::text(lines::prefix(&record.level), text(record).as_bytes(), false),
        }
    }

    fn tell_of_the_lost(&self) {
        let lost = if self.lost.load(Relaxed) > 0 { self.lost.swap(0, Relaxed) } else { 0 };
        if lost > 0 {
            let record = Record {
                time: jiff::Timestamp::now(),
                level: Level::WARN,
                target: module_path!().into(),
                message: "lines of this log are lost: the journal took nothing".into(),
                fields: Map::from_iter([("lines".into(), lost.into())]),
            };
            if self.send(&entry(&record)).is_err() {
                self.lost.fetch_add(lost, Relaxed); // it is told the next time
            }
        }
    }

    /// # Errors
    /// [`is_full`], at once or after [`PATIENCE`], where the journal takes nothing; else it can't be reached.
    fn send(&self, entry: &[u8]) -> io::Result<()> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if link.deaf.is_some_and(|(until, _)| Instant::now() < until) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let sent = self.try_send(&mut link, entry);
        link.deaf = match &sent {
            Err(error) if is_full(error) => {
                let pause = link.deaf.map_or(DEAF.0, |(_, pause)| (pause * 2).min(DEAF.1));
                Some((Instant::now() + pause, pause))
            }
            _ => None,
        };
        sent
    }

    fn try_send(&self, link: &mut Link, entry: &[u8]) -> io::Result<()> {
        if let Some(open) = &link.socket {
            match open.send(entry) {
                Ok(_) => return Ok(()),
                Err(error) if is_full(&error) => return Err(error),
                Err(_) => link.socket = None, // perhaps the journal was started anew
            }
        }
        let fresh = self.connect()?;
        let sent = fresh.send(entry);
        link.socket = Some(fresh);
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
        let journal = Journal::open(&path, false);
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
        let journal = Journal::open(&path, true);
        journal.write(&record(&"ä".repeat(1 << 20)));
        let mut bytes = vec![0; 1 << 20];
        let length = listener.recv(&mut bytes).unwrap();
        assert!((LONGEST..2 * LONGEST).contains(&length), "{length}");
        // Nobody reads: the socket's queue fills, and then each line takes no longer than the patience.
        let entry = vec![b'x'; 100_000];
        let refused = (0..10_000).find_map(|_| journal.send(&entry).err()).unwrap();
        assert!(is_full(&refused), "{refused}");
        // And after that, those that follow take no time at all. They are lost, and counted.
        let began = Instant::now();
        for _ in 0..1000 {
            journal.write(&record("nobody hears it"));
        }
        assert!(began.elapsed() < DEAF.0, "{:?}", began.elapsed());
        assert_eq!(journal.lost.load(Relaxed), 1000);
        // A second try, and a longer while.
        let until = |journal: &Journal| journal.link.lock().unwrap().deaf;
        let (_, first) = until(&journal).unwrap();
        journal.link.lock().unwrap().deaf = Some((Instant::now(), first));
        assert!(is_full(&journal.send(&entry).unwrap_err()));
        assert_eq!(until(&journal).unwrap().1, first * 2);
        // It is back, and told what it has missed.
        listener.set_nonblocking(true).unwrap();
        while listener.recv(&mut bytes).is_ok() {}
        journal.link.lock().unwrap().deaf = Some((Instant::now(), first));
        journal.write(&record("it is back"));
        let mut heard =
            || listener.recv(&mut bytes).map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned());
        assert!(heard().unwrap().contains("it is back"));
        assert!(heard().unwrap().contains("the journal took nothing lines=1000"));
        assert!(until(&journal).is_none() && heard().is_err());
    }
}
