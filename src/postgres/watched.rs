//! A socket that gives up a server which takes questions and doesn't answer.
//!
//! TCP notices a peer that is gone. It doesn't notice one that acknowledges and does nothing more: a stopped process,
//! a proxy in between whose other side is gone. Whoever waits for such an answer would wait for ever.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, ToSocketAddrs, UnixStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_postgres::Config;

/// A connected socket, or the reason why there is none.
pub struct Watched {
    socket: Socket,
    /// How long after the last write something must have come.
    limit: Option<Duration>,
    /// When it must have, while something is awaited.
    deadline: Pin<Box<Sleep>>,
    awaiting: bool,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// The driver makes its errors itself, so that one from connecting has to come out of a socket.
    Failed(io::ErrorKind, String),
}

impl Watched {
    fn new(socket: Socket, limit: Option<Duration>) -> Watched {
        Watched { socket, limit, deadline: Box::pin(sleep(limit.unwrap_or_default())), awaiting: false }
    }

    /// Connect over TCP, with the keepalive and time-out of `config`.
    pub(super) async fn tcp(
        address: impl ToSocketAddrs,
        config: &Config,
        limit: Option<Duration>,
    ) -> io::Result<Watched> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            keepalive = keepalive.with_retries(retries);
        }
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(config.get_tcp_user_timeout().copied())?;
        Ok(Watched::new(Socket::Tcp(stream), limit))
    }

    /// Connect to a socket of this name.
    pub(super) async fn unix(path: &Path, limit: Option<Duration>) -> io::Result<Watched> {
        Ok(Watched::new(Socket::Unix(UnixStream::connect(path).await?), limit))
    }

    /// A socket that fails with this on its first use.
    pub(super) fn failed(error: &io::Error) -> Watched {
        Watched::new(Socket::Failed(error.kind(), error.to_string()), None)
    }

    /// Something was sent, so something has to come.
    fn sent(&mut self, context: &mut Context<'_>) {
        if let Some(limit) = self.limit {
            self.awaiting = true;
            self.deadline.as_mut().reset(Instant::now() + limit);
            let _ = self.deadline.as_mut().poll(context); // who sends is who reads: wake it at the deadline
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Socket::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
            Socket::Failed(kind, why) => Poll::Ready(Err(io::Error::new(*kind, why.clone()))),
        };
        if read.is_ready() {
            this.awaiting = false;
        } else if this.awaiting && this.deadline.as_mut().poll(context).is_ready() {
            let seconds = this.limit.unwrap_or_default().as_secs();
            let why = format!("the server hasn't answered for {seconds} s");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Failed(kind, why) => Poll::Ready(Err(io::Error::new(*kind, why.clone()))),
        };
        if matches!(written, Poll::Ready(Ok(1..))) {
            this.sent(context);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Socket::Unix(socket) => Pin::new(socket).poll_flush(context),
            Socket::Failed(..) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Failed(..) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(limit: Duration) -> (Watched, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config::new();
        let (watched, server) = tokio::join!(Watched::tcp(address, &config, Some(limit)), listener.accept());
        (watched.unwrap(), server.unwrap().0)
    }

    #[tokio::test]
    async fn a_server_that_takes_a_question_and_says_nothing_is_given_up() {
        let (mut watched, _server) = pair(Duration::from_millis(50)).await;
        watched.write_all(b"question").await.unwrap();
        let error = watched.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[tokio::test]
    async fn who_was_asked_nothing_may_be_silent_and_an_answer_ends_the_wait() {
        let (mut watched, mut server) = pair(Duration::from_millis(50)).await;
        let silent = tokio::time::timeout(Duration::from_millis(150), watched.read_u8()).await;
        assert!(silent.is_err(), "nothing was asked: {silent:?}");
        watched.write_all(b"question").await.unwrap();
        server.write_all(b"a").await.unwrap();
        assert_eq!(watched.read_u8().await.unwrap(), b'a');
        let silent = tokio::time::timeout(Duration::from_millis(150), watched.read_u8()).await;
        assert!(silent.is_err(), "it was answered: {silent:?}");
    }
}
