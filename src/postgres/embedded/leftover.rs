//! A server that outlived the process that started it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::Error;
use super::error::Context;

/// How long a leftover server may take for its fast shutdown, and then for an immediate one.
const PATIENCE: [(Signal, Duration); 2] =
    [(Signal::INT, Duration::from_secs(20)), (Signal::QUIT, Duration::from_secs(5))];

/// Stop a server that still runs on `cluster`, and remove a stale pid file that would keep a new one from starting.
///
/// The caller holds the data folder's lock, so no live process of ours uses that server.
pub(super) fn stop_leftover(data: &Path, cluster: &Path) -> Result<(), Error> {
    let pid_file = cluster.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&pid_file) else { return Ok(()) };
    let number = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).unwrap_or(0);
    let Some(pid) = Pid::from_raw(number).filter(|_| number > 1) else { return remove(&pid_file) };
    if !is_alive(pid) || !serves(pid, cluster) {
        return remove(&pid_file);
    }
    tracing::warn!(pid = number, folder = %data.display(), "stopping a PostgreSQL server left over from an earlier run");
    for (signal, patience) in PATIENCE {
        let _ = kill_process(pid, signal); // gone or not ours: the wait tells
        let until = Instant::now() + patience;
        while Instant::now() < until {
            // The file goes with the server, also where the dead process itself stays as a zombie.
            if !is_alive(pid) || !pid_file.exists() {
                return remove(&pid_file);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::Leftover { folder: data.to_owned(), pid: number })
}

fn remove(pid_file: &Path) -> Result<(), Error> {
    match std::fs::remove_file(pid_file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context("can't remove", pid_file),
    }
}

fn is_alive(pid: Pid) -> bool {
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Whether the process is a PostgreSQL server on this cluster: process numbers are used again.
fn serves(pid: Pid, cluster: &Path) -> bool {
    let number = pid.as_raw_nonzero();
    // A server's working directory is its data directory.
    if let Ok(directory) = std::fs::read_link(format!("/proc/{number}/cwd")) {
        return cluster.canonicalize().is_ok_and(|cluster| cluster == directory);
    }
    let output = Command::new("ps").args(["-ww", "-o", "command=", "-p", &number.to_string()]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&*cluster.to_string_lossy()))
}
