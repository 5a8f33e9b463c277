//! What the admin listener of a worker answers.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::worker::{PATIENCE, WorkerProcess};

/// Settings that let a worker listen on a free port.
pub const LISTENING: [(&str, &str); 2] = [("admin.enabled", "true"), ("admin.listen", "127.0.0.1:0")];

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    pub body: String,
}

/// Where a worker listens.
pub async fn address(worker: &WorkerProcess) -> String {
    worker.says("admin listener address=").await;
    let log = worker.log();
    let (_, rest) = log.split_once("admin listener address=").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

/// Ask for a path, as a client that takes this.
pub async fn get(address: &str, path: &str, accept: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// The samples of a scrape: `name{labels}` as written, and values.
#[derive(Debug)]
pub struct Samples(pub BTreeMap<String, f64>);

impl Samples {
    /// Of a text.
    pub fn of(text: &str) -> Samples {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        Samples(lines.map(sample).collect())
    }

    /// One of them.
    pub fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.0))
    }

    /// Whether there is one.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Scrape a worker.
pub async fn scrape(address: &str) -> Samples {
    Samples::of(&get(address, "/metrics", "*/*").await.body)
}

/// Scrape until it is so.
pub async fn until(address: &str, mut so: impl FnMut(&Samples) -> bool) -> Samples {
    let waits = async {
        loop {
            let samples = scrape(address).await;
            if so(&samples) {
                return samples;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waits).await {
        Ok(samples) => samples,
        Err(_) => panic!("it didn't come to be so: {:#?}", scrape(address).await),
    }
}
