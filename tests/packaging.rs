//! What the worker is shipped in: image, compose file, Kubernetes manifests and Debian package say what the binary does, and
//! the binary does what they ask of it, as process 1 as well.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "packaging/compose.rs"]
mod compose;
#[cfg(target_os = "linux")]
#[path = "packaging/container.rs"]
mod container;
#[path = "packaging/debian.rs"]
mod debian;
#[path = "packaging/dockerfile.rs"]
mod dockerfile;
#[cfg(target_os = "linux")]
#[path = "packaging/first.rs"]
mod first;
#[path = "packaging/healthcheck.rs"]
mod healthcheck;
#[path = "packaging/image.rs"]
mod image;
#[path = "packaging/kubernetes.rs"]
mod kubernetes;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hand-over after the drain may take so long when the database doesn't answer (see `worker::drain`).
const HAND_OVER: Duration = Duration::from_secs(25);

/// A file or folder of this repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The port of the admin listener.
fn admin_port(settings: &fireflow_worker::config::Settings) -> String {
    let listen = settings.admin.listen.to_string();
    listen.rsplit_once(':').expect("an address and a port").1.to_owned()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A JSON list of texts.
fn texts(list: &serde_json::Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|item| item.as_str().unwrap_or_else(|| panic!("no text: {item}")).to_owned()).collect()
}
