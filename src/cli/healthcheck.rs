//! `healthcheck`: what a probe asks from within a container, where there is no curl and no shell.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use super::{Global, exit, output};
use crate::config;

/// Answers are a line of text; what is longer doesn't come from a worker.
const LONGEST: u64 = 16 << 10;

/// Ask the worker of this configuration whether it lives.
///
/// It is asked at its admin listener, from the same machine or container. Exit code 0 when it answers that all is well, 1
/// when it says otherwise, or says nothing in time. Nothing of the configuration is read but `[admin]`.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// Ask whether it takes executions (/readyz), and not only whether it lives (/livez)
    #[arg(long)]
    ready: bool,
    /// Longest time to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Healthcheck {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self.ask(global).await {
            Ok(answer) => {
                output::line(answer);
                Ok(ExitCode::SUCCESS)
            }
            // Whoever runs health checks knows two codes, whatever is the matter.
            Err(error) => {
                exit::report(&error);
                Ok(ExitCode::from(exit::FAILURE))
            }
        }
    }

    /// What the worker answers; an error unless all is well.
    async fn ask(&self, global: &Global) -> anyhow::Result<String> {
        let admin = config::load_admin(global.config.as_deref(), std::env::vars())?;
        if !admin.enabled {
            bail!("admin.enabled is false, so the worker can't be asked; switch its listener on");
        }
        let listen = admin.listen.to_string();
        let place = Place::of(&listen)?;
        let path = if self.ready { "/readyz" } else { "/livez" };
        let answer = match tokio::time::timeout(self.timeout, place.ask(path)).await {
            Ok(answer) => answer.with_context(|| format!("{path} at {listen} (admin.listen)"))?,
            Err(_) => bail!(
                "{path} at {listen} (admin.listen): no answer within {} (--timeout)",
                humantime::format_duration(self.timeout)
            ),
        };
        match answer {
            Answer { code: 200, text } => Ok(text),
            Answer { code, text } => bail!("{path} at {listen} (admin.listen): {code}: {text}"),
        }
    }
}

/// Where to ask, from the same machine.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

impl Place {
    /// From the text of `admin.listen`.
    fn of(listen: &str) -> anyhow::Result<Place> {
        if let Some(path) = listen.strip_prefix("unix:") {
            return Ok(Place::Socket(path.into()));
        }
        let mut address: SocketAddr =
            listen.parse().with_context(|| format!("admin.listen: {listen:?} is no address"))?;
        if address.port() == 0 {
            bail!("admin.listen has port 0, so nobody knows where the worker listens; give it a port");
        }
        // Who listens on all networks also does on loopback.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Ok(Place::Address(address))
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Answer> {
        const NOBODY: &str = "no worker listens there";
        match self {
            Place::Address(address) => exchange(TcpStream::connect(address).await.context(NOBODY)?, path).await,
            Place::Socket(socket) => exchange(UnixStream::connect(socket).await.context(NOBODY)?, path).await,
        }
    }
}

struct Answer {
    code: u16,
    text: String,
}

/// One request. In HTTP 1.0, where an answer comes in one piece and ends with its connection: there is nothing here that
/// would need a client's library, and nothing that a proxy of the environment could redirect.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> anyhow::Result<Answer> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.get(..3)?.parse().ok());
    let (Some(code), Some((_, text))) = (code, answer.split_once("\r\n\r\n")) else {
        bail!("what answers is no HTTP server");
    };
    Ok(Answer { code, text: text.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_networks_is_reached_by_loopback() {
        for (listen, place) in [
            ("0.0.0.0:7420", "127.0.0.1:7420"),
            ("[::]:7420", "[::1]:7420"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:7420", "10.0.0.7:7420"),
        ] {
            assert_eq!(Place::of(listen).unwrap(), Place::Address(place.parse().unwrap()));
        }
        assert!(Place::of("127.0.0.1:0").is_err() && Place::of("nowhere").is_err());
    }

    #[tokio::test]
    async fn a_socket_is_asked_as_an_address_is() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let place = Place::of(&format!("unix:{}", socket.display())).unwrap();
        assert!(place.ask("/livez").await.is_err());
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap().0;
            request(&mut stream).await;
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok\n").await.unwrap();
        });
        let answer = place.ask("/livez").await.unwrap();
        assert_eq!((answer.code, answer.text.as_str()), (200, "ok"));
    }

    /// A request, to its end: a peer that leaves something unread resets the connection.
    async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        request
    }

    /// What this peer's bytes are read as; none for an error.
    async fn read(peer: &'static [u8]) -> Option<(u16, String)> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let peer = tokio::spawn(async move {
            assert!(request(&mut theirs).await.starts_with(b"GET /livez HTTP/"));
            let _ = theirs.write_all(peer).await;
        });
        let answer = exchange(ours, "/livez").await;
        peer.await.unwrap();
        answer.ok().map(|answer| (answer.code, answer.text))
    }

    #[tokio::test]
    async fn answers_are_read_and_anything_else_is_refused() {
        assert_eq!(read(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok\n").await, Some((200, "ok".into())));
        assert_eq!(read(b"HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n").await, Some((503, "draining".into())));
        assert_eq!(read(b"").await, None);
        assert_eq!(read(b"HTTP/1.0 200 OK\r\n").await, None);
        assert_eq!(read(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await, None);
        assert_eq!(read(b"HTTP/1.0 \xff\xff\xff\r\n\r\n").await, None);
    }

    #[tokio::test]
    async fn an_endless_answer_ends() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        tokio::spawn(async move { while theirs.write_all(&[b'x'; 1 << 10]).await.is_ok() {} });
        assert!(exchange(ours, "/livez").await.is_err());
    }
}
