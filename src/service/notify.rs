//! The notification socket: lines of `NAME=value` in a datagram, as sd_notify(3) has it.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram as StdDatagram},
        },
    },
    path::Path,
    time::Duration,
};

use tokio::net::UnixDatagram;

/// A manager that doesn't take a message within this time misses it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest status, in characters: it is one line for people.
const LONGEST: usize = 400;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Say {
    Ready,
    Reloading,
    Stopping,
    Watchdog,
    /// The start, the reload or the end may take so much longer, from now on.
    Extend(Duration),
    Status(String),
}

/// The socket of whoever started this process.
#[derive(Debug)]
pub(super) struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// By the address in `NOTIFY_SOCKET`: a path, or a name in the abstract namespace after an `@`. Needs a runtime.
    ///
    /// # Errors
    /// Nobody listens there, or it is an address of another kind.
    pub fn connect(address: &OsStr) -> io::Result<NotifySocket> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(Path::new(address))?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
        };
        let socket = StdDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        Ok(NotifySocket(UnixDatagram::from_std(socket)?))
    }

    /// Say all of this at once.
    ///
    /// # Errors
    /// The other side is gone, or takes nothing.
    pub async fn say(&self, what: &[Say]) -> io::Result<()> {
        let message: String = what.iter().map(Say::lines).collect();
        match tokio::time::timeout(PATIENCE, self.0.send(message.as_bytes())).await {
            Ok(sent) => sent.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Say {
    fn lines(&self) -> String {
        match self {
            Say::Ready => "READY=1\n".into(),
            // The manager tells by the time whether a READY that follows belongs to its own request.
            Say::Reloading => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.tv_sec * 1_000_000 + now.tv_nsec / 1000)
            }
            Say::Stopping => "STOPPING=1\n".into(),
            Say::Watchdog => "WATCHDOG=1\n".into(),
            Say::Extend(by) => format!("EXTEND_TIMEOUT_USEC={}\n", by.as_micros()),
            Say::Status(text) => {
                let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let cut = line.char_indices().nth(LONGEST).map_or(line.len(), |(end, _)| end);
                format!("STATUS={}\n", &line[..cut])
            }
        }
    }
}

/// How often the manager wants to hear that this process is well, by its variables; `None` when it doesn't.
pub(super) fn watchdog(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    // Those of another process, whose variables this one has inherited.
    if variable("WATCHDOG_PID").is_some_and(|pid| pid.trim().parse() != Ok(std::process::id())) {
        return None;
    }
    let micros: u64 = variable("WATCHDOG_USEC")?.trim().parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_reach_paths_and_abstract_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("fireflow-test-{}", uuid::Uuid::new_v4());
        let by_path = StdDatagram::bind(&path).unwrap();
        let by_name = StdDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, address) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let notify = NotifySocket::connect(&address).unwrap();
            let extend = Say::Extend(Duration::from_millis(1500));
            notify.say(&[Say::Ready, extend, Say::Status("two\nlines".into())]).await.unwrap();
            let mut message = [0; 1000];
            let length = socket.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS=two lines\n");
        }
        for address in ["vsock:2:1234", "", "relative", "/no/such/socket"] {
            assert!(NotifySocket::connect(address.as_ref()).is_err(), "{address}");
        }
    }

    #[test]
    fn a_status_is_one_line_that_ends() {
        let line = Say::Status("ä\n".repeat(3000)).lines();
        assert_eq!((line.chars().count(), line.matches('\n').count()), ("STATUS=\n".len() + LONGEST, 1));
    }

    #[test]
    fn a_reload_has_the_time_that_the_manager_asks_for() {
        let before = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
        let lines = Say::Reloading.lines();
        let time: i64 = lines.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end().parse().unwrap();
        assert!((before * 1_000_000..(before + 10) * 1_000_000).contains(&time), "{lines}");
    }

    #[test]
    fn the_watchdog_is_ours_alone() {
        let me = std::process::id().to_string();
        let asked = |usec: Option<&str>, pid: Option<&str>| {
            watchdog(|name| if name == "WATCHDOG_USEC" { usec } else { pid }.map(str::to_owned))
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(asked(Some("1000000"), None), second);
        assert_eq!(asked(Some("1000000"), Some(&me)), second);
        assert_eq!(asked(Some("1000000"), Some("1")), None);
        assert_eq!(asked(Some("1000000"), Some("nobody")), None);
        assert_eq!((asked(None, Some(&me)), asked(Some("0"), None), asked(Some("soon"), None)), (None, None, None));
    }
}
