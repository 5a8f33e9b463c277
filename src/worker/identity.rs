//! Who this process is: the worker's id, which outlives it, and what tells it from its predecessors.

use uuid::Uuid;

/// One life of a worker.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The worker's id, which is the executor id in the database.
    pub id: String,
    /// This life. Two lives never share one, even with the same id.
    pub incarnation: Uuid,
    /// The host's name.
    pub host: String,
    /// Machine, boot and process namespace, where the system tells them: process ids compare only within one.
    pub namespace: Option<String>,
    /// Process id.
    pub pid: i32,
    /// When the process started, in the system's ticks since boot; process ids are used again.
    pub started: Option<i64>,
}

impl Identity {
    /// This process, as a worker with this id (default: the host's name).
    pub fn of_this_process(id: Option<&str>) -> Identity {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Identity {
            id: id.map_or_else(|| host.clone(), str::to_owned),
            incarnation: Uuid::new_v4(),
            host,
            namespace: namespace(),
            pid,
            started: process_start(pid),
        }
    }

    /// Whether a process of an earlier life, as registered, is certainly gone. False when that can't be told from here.
    pub(super) fn is_gone(&self, namespace: Option<&str>, pid: i32, started: Option<i64>) -> bool {
        match (&self.namespace, namespace, started) {
            (Some(ours), Some(theirs), Some(started)) if ours == theirs => process_start(pid) != Some(started),
            _ => false,
        }
    }
}

fn namespace() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pids = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), pids.display()))
}

/// Field 22 of `/proc/PID/stat`, counted after the command, which may hold blanks and brackets. `None` for a zombie:
/// it has ended, and only its parent hasn't looked yet.
fn process_start(pid: i32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn an_earlier_life_is_gone_when_its_process_is() {
        let me = Identity::of_this_process(Some("w"));
        assert!(!me.is_gone(me.namespace.as_deref(), me.pid, me.started), "this process lives");
        assert!(me.is_gone(me.namespace.as_deref(), me.pid, Some(1)), "the id was used again by this process");
        assert!(!me.is_gone(Some("another machine"), 1, Some(1)), "can't be told from here");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = process_start(pid);
        assert!(!me.is_gone(me.namespace.as_deref(), pid, started));
        child.kill().unwrap();
        // Ended, but not waited for: a zombie.
        while process_start(pid).is_some() {
            std::thread::yield_now();
        }
        assert!(me.is_gone(me.namespace.as_deref(), pid, started));
        child.wait().unwrap();
        assert!(me.is_gone(me.namespace.as_deref(), pid, started));
    }
}
