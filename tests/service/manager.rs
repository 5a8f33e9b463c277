//! A service manager, as far as a service sees it: a socket that hears its notifications.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::sync::watch;

use super::support::worker::PATIENCE;

pub struct Manager {
    address: String,
    heard: watch::Receiver<Vec<String>>,
    _folder: Option<tempfile::TempDir>,
}

impl Manager {
    /// At a path.
    pub fn at_a_path() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = StdDatagram::bind(&path).unwrap();
        Manager::hear(socket, path.to_str().unwrap().to_owned(), Some(folder))
    }

    /// At a name of the abstract namespace.
    pub fn at_a_name() -> Manager {
        let name = format!("fireflow-test-{}", uuid::Uuid::new_v4());
        let socket = StdDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager::hear(socket, format!("@{name}"), None)
    }

    fn hear(socket: StdDatagram, address: String, folder: Option<tempfile::TempDir>) -> Manager {
        socket.set_nonblocking(true).unwrap();
        let socket = UnixDatagram::from_std(socket).unwrap();
        let (sender, heard) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut message = vec![0; 65536];
            while let Ok(length) = socket.recv(&mut message).await {
                let text = String::from_utf8(message[..length].to_vec()).unwrap();
                sender.send_modify(|heard: &mut Vec<String>| heard.push(text));
            }
        });
        Manager { address, heard, _folder: folder }
    }

    /// The variables of a service; with a watchdog, if there is a time.
    pub fn manage(&self, command: &mut Command, watchdog: Option<Duration>) {
        command.env("NOTIFY_SOCKET", &self.address);
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
    }

    /// All messages so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.borrow().clone()
    }

    /// How many messages have a line that begins so.
    pub fn times(&self, line: &str) -> usize {
        self.heard().iter().filter(|message| has(message, line)).count()
    }

    /// Wait until so many messages have a line that begins so; gives the last of them.
    pub async fn hears(&self, line: &str, times: usize) -> String {
        let mut heard = self.heard.clone();
        let wait = heard.wait_for(|heard| heard.iter().filter(|message| has(message, line)).count() >= times);
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Ok(heard)) => heard.iter().filter(|message| has(message, line)).nth(times - 1).unwrap().clone(),
            _ => panic!("{line} isn't heard {times} times: {:#?}", self.heard()),
        }
    }

    /// Wait until a status holds this text.
    pub async fn is_told(&self, text: &str) {
        let mut heard = self.heard.clone();
        let told = |message: &String| message.lines().any(|line| line.starts_with("STATUS=") && line.contains(text));
        let wait = heard.wait_for(|heard| heard.iter().any(told));
        let waited = tokio::time::timeout(PATIENCE, wait).await.is_ok_and(|heard| heard.is_ok());
        assert!(waited, "no status has {text:?}: {:#?}", self.heard());
    }
}

fn has(message: &str, line: &str) -> bool {
    message.lines().any(|found| found.starts_with(line))
}
