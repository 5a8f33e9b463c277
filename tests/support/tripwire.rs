//! A proxy between a worker and PostgreSQL with a tripwire: at the k-th boundary between two statements the worker is
//! killed. There are two boundaries a statement: before the server has seen it, and after it was done, when the worker
//! hasn't heard yet.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The proxy. Serves until the test's runtime ends.
#[derive(Clone)]
pub struct Tripwire(Arc<Wire>);

struct Wire {
    server: String,
    url: String,
    /// Boundaries until the kill; below zero when there is none to come.
    left: AtomicI64,
    worker: AtomicU32,
}

impl Tripwire {
    /// Before the server of this URL, which has neither TLS nor a socket.
    pub async fn before(url: &str) -> Tripwire {
        let mut parsed: url::Url = url.parse().unwrap();
        let server = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        parsed.set_host(Some("127.0.0.1")).unwrap();
        parsed.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        parsed.set_query(Some("sslmode=disable"));
        let wire = Wire { server, url: parsed.into(), left: AtomicI64::new(-1), worker: AtomicU32::new(0) };
        let tripwire = Tripwire(Arc::new(wire));
        let serving = tripwire.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(client));
            }
        });
        tripwire
    }

    /// Where a worker finds it.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Kill this process at the k-th boundary from now, counted from 1.
    pub fn arm(&self, worker: Pid, boundary: i64) {
        self.0.worker.store(worker.as_raw_nonzero().get().cast_unsigned(), SeqCst);
        self.0.left.store(boundary, SeqCst);
    }

    /// Let it live. Whether it was killed.
    pub fn disarm(&self) -> bool {
        self.0.left.swap(-1, SeqCst) <= 0
    }

    /// Whether it was killed.
    pub fn has_tripped(&self) -> bool {
        self.0.left.load(SeqCst) == 0
    }

    /// A boundary. False when nothing goes on from here.
    fn pass(&self) -> bool {
        let counted = self.0.left.fetch_update(SeqCst, SeqCst, |left| (left > 0).then_some(left - 1));
        match counted {
            Ok(1) => {
                let worker = Pid::from_raw(self.0.worker.load(SeqCst).cast_signed()).unwrap();
                kill_process(worker, Signal::KILL).unwrap();
                false
            }
            Ok(_) => true,
            // Killed already: what is under way mustn't arrive. Or not armed.
            Err(left) => left != 0,
        }
    }

    async fn serve(self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.0.server).await else { return };
        // Small messages go out at once, or each would wait for the last one's acknowledgement.
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        // Sync and simple queries end a statement on its way there, ReadyForQuery on its way back.
        let there = self.relay(BufReader::new(client_in), server_out, true, b"SQ");
        let back = self.relay(BufReader::new(server_in), client_out, false, b"Z");
        tokio::select! {
            () = there => {}
            () = back => {}
        }
    }

    /// Message by message, until an end of a statement that is none to pass.
    async fn relay(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        untyped: bool,
        ends: &[u8],
    ) {
        let mut first = untyped; // a client's first message has no type
        let mut held = Vec::new();
        loop {
            let mut head = [0; 5];
            let length = if first { 4 } else { 5 };
            if from.read_exact(&mut head[..length]).await.is_err() {
                return;
            }
            let size = u32::from_be_bytes(head[length - 4..length].try_into().unwrap()) as usize - 4;
            let mut body = vec![0; size];
            if from.read_exact(&mut body).await.is_err() {
                return;
            }
            held.extend_from_slice(&head[..length]);
            held.extend_from_slice(&body);
            let ended = !first && ends.contains(&head[0]);
            // A statement goes there as a whole; answers come back as they come, and passwords aren't statements.
            let alone = first || !untyped || head[0] == b'p';
            first = false;
            if ended && !self.pass() {
                return;
            }
            if ended || alone {
                if to.write_all(&held).await.is_err() {
                    return;
                }
                held.clear();
            }
        }
    }
}
