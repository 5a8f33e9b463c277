//! The service manager: what systemd is told of the worker, and when (`Type=notify-reload`).
//!
//! Nothing is said unless the manager asks for it by `NOTIFY_SOCKET`. It hears the truth: READY when executions are taken, and
//! WATCHDOG only while every loop turns that the worker depends on (`worker/heartbeat.rs`). This runs on the runtime of
//! the work, so a runtime that is stuck is silent by itself.

mod notify;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use self::notify::{NotifySocket, Say};
use crate::worker::{Phase, Reloader, Silence, Snapshot, Status};

/// Pause between two looks, at most; a change of phase is told at once.
const EVERY: Duration = Duration::from_secs(1);
/// While it starts or drains, the worker asks for so much more time with every look.
const MORE: Duration = Duration::from_secs(15);
/// What giving back, and ending what is left, may take after the drain.
const AFTERWARDS: Duration = Duration::from_secs(30);
/// Statuses of one phase are at least so far apart.
const APART: Duration = Duration::from_secs(2);
/// Queues that are named in a status.
const NAMED: usize = 4;
/// Loops beat every half second: one that is silent for less than this need not hang, whatever the manager asks for.
const HANGS: Duration = Duration::from_secs(2);

/// Tells the manager, if there is one. Clones are the same.
#[derive(Clone)]
pub(crate) struct Service(Option<Arc<Inner>>);

struct Inner {
    socket: NotifySocket,
    watchdog: Option<Duration>,
    status: Arc<Status>,
    reloader: Reloader,
    said: Mutex<Said>,
}

/// What the manager knows.
#[derive(Default)]
struct Said {
    ready: bool,
    reloading: bool,
    /// Since when it has known that the worker ends.
    stopping: Option<Instant>,
    status: Option<(Phase, String, Instant)>,
    /// The last reload was refused, for this reason.
    refused: Option<String>,
    /// That loops hang is logged once.
    hangs: bool,
    /// What it couldn't be told, and has to know.
    owed: Vec<Say>,
}

impl Service {
    /// By the variables of this process.
    pub fn of_this_process(status: Arc<Status>, reloader: Reloader) -> Service {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Service(None);
        };
        let watchdog = notify::watchdog(|name| std::env::var(name).ok());
        match NotifySocket::connect(&address) {
            Ok(socket) => Service(Some(Arc::new(Inner { socket, watchdog, status, reloader, said: Mutex::default() }))),
            Err(error) => {
                tracing::warn!(%error, address = %address.display(), "can't reach the service manager (NOTIFY_SOCKET)");
                Service(None)
            }
        }
    }

    /// Tell what there is to tell, for as long as this is polled.
    pub async fn watch(self) {
        let Some(inner) = &self.0 else { return };
        // Twice within what is asked for, and once more for a message that is late.
        let every = inner.watchdog.map_or(EVERY, |watchdog| EVERY.min(watchdog / 4));
        loop {
            let phase = inner.look().await;
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = inner.status.left(phase) => {}
            }
        }
    }

    /// Settings are being read again.
    pub async fn reloading(&self) {
        let Some(inner) = &self.0 else { return };
        let mut said = inner.said.lock().await;
        // A manager asks only a service that is ready; by hand it may come at any time.
        if said.ready && said.stopping.is_none() {
            said.reloading = true;
            inner.say(&mut said, &[Say::Reloading, Say::Status("reloading".into())]).await;
        }
    }

    /// They were; `refused` says why the old ones stay.
    pub async fn reloaded(&self, refused: Option<String>) {
        let Some(inner) = &self.0 else { return };
        let mut said = inner.said.lock().await;
        said.refused = refused;
        if std::mem::take(&mut said.reloading) && said.stopping.is_none() {
            let status = inner.status(&mut said, true);
            inner.say(&mut said, &[vec![Say::Ready], status].concat()).await;
        }
    }

    /// The worker has ended; `error` says why, unless it was told to.
    pub async fn ended(&self, error: Option<&dyn std::fmt::Display>) {
        let Some(inner) = &self.0 else { return };
        let text = error.map_or_else(|| "stopped".to_owned(), |error| format!("failed: {error}"));
        let mut said = inner.said.lock().await;
        said.stopping.get_or_insert_with(Instant::now);
        inner.say(&mut said, &[Say::Stopping, Say::Status(text)]).await;
    }
}

impl Inner {
    /// Look at the worker, and tell what is new; its phase.
    async fn look(&self) -> Phase {
        let mut said = self.said.lock().await;
        let phase = self.status.phase();
        let silent = self.status.silent_for(hangs_after(self.watchdog));
        let mut say = Vec::new();
        match phase {
            Phase::Starting if silent.is_empty() => say.push(Say::Extend(MORE)),
            Phase::Running if !said.ready => {
                said.ready = true;
                say.push(Say::Ready);
            }
            Phase::Draining => {
                if said.stopping.is_none() {
                    say.push(Say::Stopping);
                }
                let since = *said.stopping.get_or_insert_with(Instant::now);
                let drain = self.reloader.settings().worker.drain_timeout;
                if since.elapsed() < drain + AFTERWARDS {
                    say.push(Say::Extend(MORE));
                }
            }
            Phase::Starting | Phase::Running | Phase::Suspended | Phase::Stopped => {}
        }
        if self.watchdog.is_some() && silent.is_empty() {
            say.push(Say::Watchdog);
        }
        self.complain(&mut said, &silent);
        say.extend(self.status(&mut said, false));
        if !say.is_empty() || !said.owed.is_empty() {
            self.say(&mut said, &say).await;
        }
        phase
    }

    /// The status, if it is another one than the last; `now`, whenever that was.
    fn status(&self, said: &mut Said, now: bool) -> Vec<Say> {
        let snapshot = self.status.snapshot();
        let text = text(&snapshot, said.refused.as_deref());
        let due = match &said.status {
            _ if said.reloading => false,
            Some((phase, last, at)) => *last != text && (now || *phase != snapshot.phase || at.elapsed() >= APART),
            None => true,
        };
        if !(due || now) {
            return Vec::new();
        }
        said.status = Some((snapshot.phase, text.clone(), Instant::now()));
        vec![Say::Status(text)]
    }

    fn complain(&self, said: &mut Said, silent: &[Silence]) {
        if !std::mem::replace(&mut said.hangs, !silent.is_empty())
            && let Some(watchdog) = self.watchdog
        {
            for silence in silent {
                let watchdog = humantime::format_duration(watchdog);
                tracing::error!(%watchdog, "{silence}; the service manager isn't told that this process is well");
            }
        }
    }

    /// Say this, after what it couldn't be told before. What changes the manager's mind is told until it has heard it.
    async fn say(&self, said: &mut Said, what: &[Say]) {
        let mut owed = std::mem::take(&mut said.owed).into_iter();
        while let Some(one) = owed.next() {
            if let Err(error) = self.socket.say(std::slice::from_ref(&one)).await {
                tracing::debug!(%error, ?one, "still can't tell the service manager");
                said.owed = [one].into_iter().chain(owed).chain(has_to_know(what)).collect();
                return;
            }
        }
        if let Err(error) = self.socket.say(what).await {
            tracing::debug!(%error, ?what, "can't tell the service manager");
            said.owed = has_to_know(what).collect();
            said.status = None;
        }
    }
}

fn has_to_know(what: &[Say]) -> impl Iterator<Item = Say> {
    what.iter().filter(|say| matches!(say, Say::Ready | Say::Reloading | Say::Stopping)).cloned()
}

/// When a loop counts as one that hangs, if the manager wants to hear of this process so often. Half of that time: it is to hear
/// of such a loop by hearing nothing.
fn hangs_after(watchdog: Option<Duration>) -> Duration {
    watchdog.map_or(Duration::MAX, |watchdog| (watchdog / 2).max(HANGS))
}

/// What `systemctl status` shows.
fn text(snapshot: &Snapshot, refused: Option<&str>) -> String {
    let Snapshot { running, waiting, claimed, completed, failed, queues, .. } = snapshot;
    let mut text = snapshot.unready.clone().unwrap_or_else(|| "running".into());
    if snapshot.phase == Phase::Running || snapshot.phase == Phase::Draining || *running > 0 {
        text += &format!("; {running} in flight, {waiting} of them waiting");
    }
    if snapshot.phase == Phase::Running {
        for queue in queues.iter().take(NAMED) {
            let more = if queue.queued { "more is queued" } else { "nothing is queued" };
            text += &format!("; {}: {} of {} slots, {more}", queue.name, queue.busy, queue.slots);
        }
        if let Some(more) = queues.len().checked_sub(NAMED).filter(|more| *more > 0) {
            text += &format!("; and {more} queues");
        }
    }
    if *claimed > 0 {
        text += &format!("; since the start {claimed} taken, {completed} completed, {failed} failed");
    }
    // First, since a long status is cut.
    refused.map_or(text.clone(), |refused| format!("the last reload was refused ({refused}); {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::QueueFigures;

    #[test]
    fn a_loop_that_beats_in_time_does_not_hang_whatever_the_manager_asks_for() {
        for (watchdog, limit) in [(None, u64::MAX), (Some(1), 2), (Some(4), 2), (Some(60), 30)] {
            assert_eq!(hangs_after(watchdog.map(Duration::from_secs)).as_secs(), limit, "{watchdog:?}");
        }
    }

    /// A service, and the manager's end of its socket.
    fn managed() -> (Service, std::os::unix::net::UnixDatagram, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let worker = crate::worker::Worker::new(crate::config::Settings::default());
        let (status, reloader) = (worker.status(), worker.reloader());
        let socket = NotifySocket::connect(path.as_os_str()).unwrap();
        let said = Mutex::default();
        (Service(Some(Arc::new(Inner { socket, watchdog: None, status, reloader, said }))), manager, folder)
    }

    fn heard(manager: &std::os::unix::net::UnixDatagram) -> String {
        let (mut text, mut message) = (String::new(), [0; 4096]);
        while let Ok(length) = manager.recv(&mut message) {
            text += std::str::from_utf8(&message[..length]).unwrap();
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_manager_has_not_heard_is_told_again() {
        let (service, manager, _folder) = managed();
        let inner = service.0.as_ref().unwrap();
        // It doesn't read: its queue fills.
        let stuffed = async {
            loop {
                inner.socket.say(&[Say::Watchdog]).await?;
            }
        };
        let full: Result<std::convert::Infallible, std::io::Error> = stuffed.await;
        assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        inner.status.enter(Phase::Running);
        inner.look().await;
        assert!(!heard(&manager).contains("READY"), "it was lost");
        inner.look().await;
        let told = heard(&manager);
        assert!(told.starts_with("READY=1\n") && told.contains("STATUS=running"), "{told}");
        inner.look().await;
        assert!(!heard(&manager).contains("READY"), "once is enough");
    }

    #[test]
    fn a_status_has_the_phase_what_is_in_flight_and_the_queues() {
        let mut snapshot = Status::new("w1", "flows").snapshot();
        assert_eq!(text(&snapshot, None), "starting");
        (snapshot.phase, snapshot.unready) = (Phase::Running, None);
        (snapshot.running, snapshot.waiting, snapshot.claimed, snapshot.completed) = (3, 1, 9, 6);
        snapshot.queues = vec![QueueFigures { name: "flows".into(), queued: true, busy: 2, slots: 5 }];
        let full = "running; 3 in flight, 1 of them waiting; flows: 2 of 5 slots, more is queued; since the start 9 taken, \
                    6 completed, 0 failed";
        assert_eq!(text(&snapshot, None), full);
        assert_eq!(text(&snapshot, Some("bad")), format!("the last reload was refused (bad); {full}"));
        (snapshot.phase, snapshot.unready) = (Phase::Draining, Some("draining: told to end".into()));
        assert!(text(&snapshot, None).starts_with("draining: told to end; 3 in flight, 1 of them waiting; since"));
        snapshot.phase = Phase::Running;
        snapshot.queues = vec![snapshot.queues[0].clone(); 7];
        assert!(text(&snapshot, None).contains("; and 3 queues;"));
    }
}
