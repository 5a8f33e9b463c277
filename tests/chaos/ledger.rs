//! What nodes did, told by themselves: each asks a server here for a while, with the name of the process that it runs in. It
//! is held in memory, and written to an append-only file for whoever looks into a failure.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing::get};

/// Microseconds since the epoch.
pub type Time = i64;

/// This moment. The database and all processes are on this machine, and so have the same clock.
pub fn now() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as Time)
}

/// A node at work.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its execution, as its inputs say.
    pub execution: String,
    /// Which of its nodes.
    pub part: String,
    /// The life of a worker that it ran in.
    pub life: String,
    /// When it began.
    pub begin: Time,
    /// When it ended; nothing while it goes on.
    pub end: Option<Time>,
    /// The worker left before it had its answer.
    pub cut: bool,
}

/// All work. Clones are the same ledger.
#[derive(Clone)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    base: String,
}

struct Book {
    entries: Vec<Work>,
    file: BufWriter<File>,
    /// Executions that are at work, by life; each with the number of its nodes.
    inside: HashMap<String, HashMap<String, u32>>,
}

impl Ledger {
    /// Open the server, and the file.
    pub async fn open(file: &Path) -> std::io::Result<Ledger> {
        let file = BufWriter::new(File::options().create_new(true).append(true).open(file)?);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let book = Book { entries: Vec::new(), file, inside: HashMap::new() };
        let ledger = Ledger { book: Arc::new(Mutex::new(book)), base };
        let router = Router::new().route("/work/{time}/{execution}/{part}", get(work)).with_state(ledger.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(ledger)
    }

    /// Where nodes ask: `/work/MILLISECONDS/EXECUTION/PART`, with the life in the header `X-Life`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// All that was done, in the order of its begin.
    pub fn entries(&self) -> Vec<Work> {
        let mut book = self.lock();
        let _ = book.file.flush(); // it is for people
        book.entries.clone()
    }

    fn enter(&self, execution: &str, part: &str, life: &str) -> AtWork {
        let mut book = self.lock();
        let number = book.entries.len();
        let begin = now();
        let entry =
            Work { execution: execution.into(), part: part.into(), life: life.into(), begin, end: None, cut: false };
        let _ = writeln!(book.file, "{begin} begin {number} {execution} {part} {life}");
        book.entries.push(entry);
        *book.inside.entry(life.into()).or_default().entry(execution.into()).or_default() += 1;
        AtWork { ledger: self.clone(), number, done: false }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves when dropped: with its answer, or because its worker is gone.
struct AtWork {
    ledger: Ledger,
    number: usize,
    done: bool,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut book = self.ledger.lock();
        let end = now();
        let entry = &mut book.entries[self.number];
        (entry.end, entry.cut) = (Some(end), !self.done);
        let (life, execution) = (entry.life.clone(), entry.execution.clone());
        let how = if self.done { "end" } else { "cut" };
        let _ = writeln!(book.file, "{end} {how} {} {execution}", self.number);
        if let Some(inside) = book.inside.get_mut(&life)
            && let Some(nodes) = inside.get_mut(&execution)
        {
            *nodes -= 1;
            if *nodes == 0 {
                inside.remove(&execution);
            }
        }
    }
}

async fn work(
    State(ledger): State<Ledger>,
    UrlPath((time, execution, part)): UrlPath<(u64, String, String)>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let life = headers.get("x-life").and_then(|life| life.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let mut at_work = ledger.enter(&execution, &part, life);
    tokio::time::sleep(Duration::from_millis(time)).await;
    at_work.done = true;
    Ok(format!("{execution}/{part}"))
}
