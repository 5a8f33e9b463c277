//! How the listener is opened and served: an address or a Unix socket, with a limit on all that a client may take of it.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::DefaultBodyLimit};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Listen;

/// Connections at once; more wait until one ends.
const CONNECTIONS: usize = 128;
/// For the head of a request, and for the next one on a connection that is kept open.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For a connection as a whole, whatever comes over it. Clients connect anew.
const LIFETIME: Duration = Duration::from_secs(60);
/// Largest head of a request, in bytes, and most header lines.
const HEAD: usize = 16 * 1024;
const HEADERS: usize = 64;
/// Largest body that a handler may read, in bytes. Nothing here wants one.
const BODY: usize = 64 * 1024;
/// For answers that are under way when the listener stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// Who may connect to the socket: its owner, and its group.
const SOCKET_MODE: u32 = 0o660;

/// The listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address is taken, or not one of this machine's.
    #[error(
        "can't listen on {address} (admin.listen): {source}; choose another port, 0 for a free one, or admin.enabled = false"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The socket can't be made.
    #[error("can't listen on unix:{} (admin.listen): {why}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The token can't be used.
    #[error("admin.token_file {}: {why}", file.display())]
    Token {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

impl ListenError {
    /// Whether it is the configuration that is wrong, so that the same would fail again.
    pub fn is_configuration(&self) -> bool {
        matches!(self, ListenError::Token { .. })
    }
}

/// An open listener.
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "removes the file when dropped")] Socket),
}

/// The file of a socket; removed when dropped, if it is still ours.
pub(super) struct Socket {
    path: PathBuf,
    inode: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.path.symlink_metadata().is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path); // what is left over is replaced at the next start
        }
    }
}

impl Bound {
    /// Open it.
    ///
    /// # Errors
    /// [`ListenError`], for instance when the port is taken.
    pub async fn open(listen: &Listen) -> Result<Bound, ListenError> {
        match listen {
            Listen::Tcp(address) => {
                let failed = |source| ListenError::Address { address: *address, source };
                TcpListener::bind(address).await.map(Bound::Tcp).map_err(failed)
            }
            Listen::Unix(path) => {
                let failed = |why| ListenError::Socket { path: path.clone(), why };
                free(path).await.map_err(failed)?;
                let (listener, socket) = make(path).map_err(|error| failed(next_step(path, &error)))?;
                Ok(Bound::Unix(listener, socket))
            }
        }
    }

    /// Address and port, which may have been chosen by the system; none for a socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            Bound::Unix(..) => None,
        }
    }

    /// Answer until told to stop.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let router = router.layer(DefaultBodyLimit::max(BODY));
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        let connections = TaskTracker::new();
        loop {
            let seat = tokio::select! {
                () = stop.cancelled() => break,
                seat = seats.clone().acquire_owned() => seat,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok(connection) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    connections.spawn(async move {
                        answer(connection, router, stop).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    // Mostly there are too many open files, and some may be closed soon.
                    tracing::debug!(%error, "the admin listener can't take a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self);
        connections.close();
        let _ = timeout(FAREWELL, connections.wait()).await;
    }

    async fn accept(&self) -> io::Result<Connection> {
        Ok(match self {
            Bound::Tcp(listener) => Connection(Box::new(listener.accept().await?.0)),
            Bound::Unix(listener, _) => Connection(Box::new(listener.accept().await?.0)),
        })
    }
}

/// A connection of either kind.
struct Connection(Box<dyn Stream>);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn answer(connection: Connection, router: Router, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD).max_headers(HEADERS);
    let serving = builder.serve_connection(TokioIo::new(connection.0), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = serving.as_mut() => {
            if let Err(error) = served {
                tracing::trace!(%error, "a connection of the admin listener ended");
            }
            return;
        }
        () = stop.cancelled() => {}
        () = sleep(LIFETIME) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(FAREWELL, serving).await;
}

/// Make sure that nothing is in the socket's place but what a process left that is gone.
async fn free(path: &Path) -> Result<(), String> {
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => {
            return Err("something else than a socket is there; name another path, or move it away".into());
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(next_step(path, &error)),
    }
    match timeout(Duration::from_secs(2), UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) => Err(next_step(path, &error)),
        Ok(Ok(_)) | Err(_) => {
            Err("another process listens there; give each worker of this machine a path of its own".into())
        }
    }
}

/// A socket of the right mode from its first moment on: made where nobody else gets to, then moved to its place.
fn make(path: &Path) -> io::Result<(UnixListener, Socket)> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let private = folder.join(format!(".{}", std::process::id()));
    let clear = || {
        let _ = std::fs::remove_file(private.join("s"));
        let _ = std::fs::remove_dir(&private);
    };
    clear(); // of an earlier process of this number
    std::fs::create_dir(&private)?;
    let made = (|| {
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700))?;
        let first = private.join("s");
        let listener = UnixListener::bind(&first)?;
        std::fs::set_permissions(&first, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        let inode = first.symlink_metadata()?.ino();
        std::fs::rename(&first, path)?;
        Ok((listener, Socket { path: path.to_owned(), inode }))
    })();
    clear();
    made
}

fn next_step(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{error}; make the folder {folder} first (RuntimeDirectory= in a systemd unit)")
        }
        io::ErrorKind::PermissionDenied => format!("{error}; the worker's user must be allowed to write in {folder}"),
        _ => error.to_string(),
    }
}
