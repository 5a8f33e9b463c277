//! What stands between one worker and the database, and breaks: connections that are cut at a chosen moment, that hang, or
//! that aren't taken.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Now.
    Now,
    /// In the middle of the next message to the server: it gets a half.
    MidStatement,
    /// When the next COMMIT has been sent and has not arrived.
    BeforeCommit,
    /// When the next COMMIT has been done, before its answer arrives.
    AfterCommit,
}

/// The way of one worker to the database. Clones are the same way.
#[derive(Clone)]
pub struct Proxy(Arc<Way>);

struct Way {
    server: String,
    port: u16,
    /// To be done at the next occasion.
    pending: Mutex<Option<Cut>>,
    /// Changes when all connections are to be cut.
    cut: watch::Sender<u64>,
    /// Nothing goes through, and nobody is told.
    stalled: watch::Sender<bool>,
    /// New connections are closed at once.
    refuses: AtomicBool,
}

impl Proxy {
    /// A way to the server at this address.
    pub async fn to(server: String) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let way = Way {
            server,
            port: listener.local_addr()?.port(),
            pending: Mutex::new(None),
            cut: watch::Sender::new(0),
            stalled: watch::Sender::new(false),
            refuses: AtomicBool::new(false),
        };
        let proxy = Proxy(Arc::new(way));
        let serving = proxy.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) if !serving.0.refuses.load(SeqCst) => {
                        tokio::spawn(serving.clone().serve(client));
                    }
                    Ok(_) => {} // closed by being dropped
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        Ok(proxy)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Cut connections.
    pub fn cut(&self, when: Cut) {
        match when {
            Cut::Now => self.0.cut.send_modify(|cuts| *cuts += 1),
            later => *self.pending() = Some(later),
        }
    }

    /// Forget a cut that has found no occasion. Whether there was one.
    pub fn forget(&self) -> bool {
        self.pending().take().is_some()
    }

    /// Let nothing through for a while; then all that hung is cut.
    pub async fn stall(&self, time: Duration) {
        self.0.stalled.send_replace(true);
        tokio::time::sleep(time).await;
        self.cut(Cut::Now);
        self.0.stalled.send_replace(false);
    }

    /// Cut, and take no connection for a while.
    pub async fn refuse(&self, time: Duration) {
        self.0.refuses.store(true, SeqCst);
        self.cut(Cut::Now);
        tokio::time::sleep(time).await;
        self.0.refuses.store(false, SeqCst);
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Option<Cut>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, client: TcpStream) {
        let mut cut = self.0.cut.subscribe();
        let relayed = async {
            let Ok(server) = TcpStream::connect(&self.0.server).await else { return };
            for end in [&client, &server] {
                let _ = end.set_nodelay(true); // only slower without
            }
            let (mut client_in, mut client_out) = client.into_split();
            let (mut server_in, mut server_out) = server.into_split();
            // Set when a COMMIT is under way whose answer is not to arrive.
            let doomed = AtomicBool::new(false);
            let there = async {
                let mut buffer = vec![0; 32 << 10];
                while let Ok(count @ 1..) = client_in.read(&mut buffer).await {
                    self.flow().await;
                    let data = &buffer[..count];
                    let commits = data.windows(7).any(|window| window == b"COMMIT\0");
                    let occasion = {
                        let mut pending = self.pending();
                        match *pending {
                            Some(Cut::MidStatement) if count > 1 => pending.take(),
                            Some(Cut::BeforeCommit | Cut::AfterCommit) if commits => pending.take(),
                            _ => None,
                        }
                    };
                    match occasion {
                        Some(Cut::MidStatement) => {
                            let _ = server_out.write_all(&data[..count / 2]).await; // it breaks anyway
                            return;
                        }
                        Some(Cut::BeforeCommit) => return,
                        Some(Cut::AfterCommit) => doomed.store(true, SeqCst),
                        Some(Cut::Now) | None => {}
                    }
                    if server_out.write_all(data).await.is_err() {
                        return;
                    }
                }
            };
            let back = async {
                let mut buffer = vec![0; 32 << 10];
                while let Ok(count @ 1..) = server_in.read(&mut buffer).await {
                    self.flow().await;
                    if doomed.load(SeqCst) || client_out.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = there => {}
                () = back => {}
            }
        };
        tokio::select! {
            () = relayed => {}
            _ = cut.changed() => {}
        }
    }

    /// Wait while nothing goes through.
    async fn flow(&self) {
        let mut stalled = self.0.stalled.subscribe();
        let _ = stalled.wait_for(|stalled| !stalled).await; // its sender is ours
    }
}
