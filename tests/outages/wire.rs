//! A proxy in front of PostgreSQL that loses what a test wants lost: one question before it arrives, one answer after the
//! server has done what was asked, or everything, in silence.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::support::worker::PATIENCE;

/// Where a connection is cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// In a transaction that has sent a statement with this in it.
    pub within: &'static str,
    /// At the statement with this in it.
    pub at: &'static str,
    /// When the server has done it, and not before it has seen it.
    pub done: bool,
    /// From then on the proxy takes no connection.
    pub for_good: bool,
}

/// The proxy. Serves until the test's runtime ends.
#[derive(Clone)]
pub struct Wire(Arc<State>);

struct State {
    server: String,
    url: String,
    port: u16,
    cut: Mutex<Option<Cut>>,
    tripped: watch::Sender<u32>,
    silent: watch::Sender<bool>,
    closed: watch::Sender<bool>,
}

impl Wire {
    /// Before the server of this URL, which has neither TLS nor a socket.
    pub async fn before(url: &str) -> Wire {
        let mut parsed: url::Url = url.parse().unwrap();
        let server = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        parsed.set_port(Some(port)).unwrap();
        parsed.set_query(Some("sslmode=disable"));
        let wire = Wire(Arc::new(State {
            server,
            url: parsed.into(),
            port,
            cut: Mutex::default(),
            tripped: watch::Sender::new(0),
            silent: watch::Sender::new(false),
            closed: watch::Sender::new(false),
        }));
        let serving = wire.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !*serving.0.closed.borrow() {
                    tokio::spawn(serving.clone().serve(client));
                }
            }
        });
        wire
    }

    /// Where a worker finds it.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Cut the next connection that comes there.
    pub fn arm(&self, cut: Cut) {
        *self.0.cut.lock().unwrap() = Some(cut);
    }

    /// Wait until so many connections were cut.
    pub async fn tripped(&self, times: u32) {
        let mut tripped = self.0.tripped.subscribe();
        let wait = tripped.wait_for(|tripped| *tripped >= times);
        tokio::time::timeout(PATIENCE, wait).await.expect("a connection is cut").unwrap();
    }

    /// Take everything, and pass on nothing; or pass things on again. What was taken is lost.
    pub fn silence(&self, silent: bool) {
        self.0.silent.send_replace(silent);
    }

    async fn serve(self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.0.server).await else { return };
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        let cut_at_answer = watch::Sender::new(false);
        let mut closed = self.0.closed.subscribe();
        tokio::select! {
            () = self.there(client_in, server_out, &cut_at_answer) => {}
            () = self.back(server_in, client_out, &cut_at_answer) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }

    /// What the client says, message by message.
    async fn there(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        cut: &watch::Sender<bool>,
    ) {
        let mut first = true; // it has no type
        let mut prepared: HashMap<Vec<u8>, String> = HashMap::new();
        let mut transaction = String::new();
        while let Some((kind, message)) = read(&mut from, first).await {
            let body = &message[if first { 4 } else { 5 }..];
            first = false;
            let mut parts = body.split(|byte| *byte == 0);
            let mut text = |skip: usize| parts.nth(skip).unwrap_or_default().to_vec();
            let said = match kind {
                b'Q' => String::from_utf8_lossy(&text(0)).into_owned(),
                b'P' => {
                    let name = text(0);
                    prepared.insert(name, String::from_utf8_lossy(&text(0)).into_owned());
                    String::new()
                }
                b'B' => prepared.get(&text(1)).cloned().unwrap_or_default(),
                _ => String::new(),
            };
            if said.starts_with("START TRANSACTION") || said.starts_with("BEGIN") {
                transaction.clear();
            }
            let hit = {
                let mut armed = self.0.cut.lock().unwrap();
                let hit = armed.as_ref().is_some_and(|cut| said.contains(cut.at) && transaction.contains(cut.within));
                if hit { armed.take() } else { None }
            };
            transaction.push_str(&said);
            if self.is_silent() {
                continue;
            }
            match hit {
                Some(Cut { done: false, for_good, .. }) => return self.trip(for_good),
                Some(Cut { done: true, for_good, .. }) => {
                    cut.send_replace(true);
                    let _ = to.write_all(&message).await;
                    // The other half ends the connection when the server has answered.
                    let mut answered = cut.subscribe();
                    let _ = answered.wait_for(|waiting| !*waiting).await;
                    return self.trip(for_good);
                }
                None => {}
            }
            if to.write_all(&message).await.is_err() {
                return;
            }
        }
    }

    /// What the server says.
    async fn back(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, cut: &watch::Sender<bool>) {
        while let Some((kind, message)) = read(&mut from, false).await {
            if *cut.borrow() {
                if kind == b'Z' {
                    cut.send_replace(false);
                    std::future::pending::<()>().await;
                }
                continue;
            }
            if !self.is_silent() && to.write_all(&message).await.is_err() {
                return;
            }
        }
    }

    fn trip(&self, for_good: bool) {
        self.0.closed.send_if_modified(|closed| std::mem::replace(closed, *closed || for_good) != *closed);
        self.0.tripped.send_modify(|tripped| *tripped += 1);
    }

    fn is_silent(&self) -> bool {
        *self.0.silent.borrow()
    }
}

/// One message with its head: its type, if it has one, and all of it.
async fn read(from: &mut (impl AsyncRead + Unpin), untyped: bool) -> Option<(u8, Vec<u8>)> {
    let head = if untyped { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).await.ok()?;
    let size = u32::from_be_bytes(message[head - 4..].try_into().unwrap()) as usize - 4;
    message.resize(head + size, 0);
    from.read_exact(&mut message[head..]).await.ok()?;
    Some((if untyped { 0 } else { message[0] }, message))
}
