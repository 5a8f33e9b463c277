//! Signs of life: whether the loops that everything depends on still turn.
//!
//! A loop beats by itself, in its own task: when it comes round, and while it waits for what may take its time. What it asks of
//! the database has a limit above all time-outs there, and beyond it the loop counts as hung. So a database that is away
//! silences nobody, and no timer covers for a loop that hangs.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};

use tokio::time::Instant;

use crate::config::Settings;

/// Pause between two beats of who waits.
const TICK: Duration = Duration::from_millis(500);
/// A loop that hasn't beaten for so long hangs. It beats every half second, so this leaves room for a machine that is
/// merely overloaded.
pub(super) const LIMIT: Duration = Duration::from_secs(15);

/// The loops that have to turn. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Heartbeats(Arc<Mutex<Vec<Arc<Loop>>>>);

struct Loop {
    name: String,
    last: Mutex<Last>,
}

#[derive(Clone, Copy)]
struct Last {
    at: Instant,
    doing: &'static str,
}

/// The heartbeat of one loop. Given up with this value, unless that goes in a panic: then the loop is missing, and is silent
/// for ever.
pub(super) struct Heartbeat {
    beats: Arc<Loop>,
    all: Heartbeats,
}

/// A loop that has been silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Which.
    pub name: String,
    /// What it was about to do.
    pub doing: &'static str,
    /// When it was last heard.
    pub since: jiff::Timestamp,
    /// How long ago that is.
    pub length: Duration,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Silence { name, doing, since, length } = self;
        let length = humantime::format_duration(Duration::from_secs(length.as_secs()));
        write!(f, "{name} has been silent since {since:.0} (for {length}), {doing}")
    }
}

impl Heartbeats {
    /// From now on, a loop of this name has to turn.
    pub fn begin(&self, name: impl Into<String>) -> Heartbeat {
        let last = Last { at: Instant::now(), doing: "beginning" };
        let beats = Arc::new(Loop { name: name.into(), last: Mutex::new(last) });
        self.lock().push(beats.clone());
        Heartbeat { beats, all: self.clone() }
    }

    /// Those that have been silent for longer than this.
    pub fn silent(&self, limit: Duration) -> Vec<Silence> {
        let silent = |one: &Arc<Loop>| {
            let Last { at, doing } = *one.last();
            let length = at.elapsed();
            let since = jiff::Timestamp::now().checked_sub(length).unwrap_or_default();
            (length > limit).then(|| Silence { name: one.name.clone(), doing, since, length })
        };
        self.lock().iter().filter_map(silent).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Loop>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loop {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat {
    /// It turns, and is about to do this. Never waits: a beat that meets somebody who looks is left out.
    pub fn beat(&self, doing: &'static str) {
        let mut last = match self.beats.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(last)) => last.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        *last = Last { at: Instant::now(), doing };
    }

    /// Wait for what may take any time, such as for work.
    pub async fn wait<T>(&self, doing: &'static str, what: impl Future<Output = T>) -> T {
        self.until(None, doing, what).await
    }

    /// Wait for what is over within this time, unless something hangs.
    pub async fn within<T>(&self, limit: Duration, doing: &'static str, what: impl Future<Output = T>) -> T {
        self.until(Some(limit), doing, what).await
    }

    async fn until<T>(&self, limit: Option<Duration>, doing: &'static str, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        let begun = Instant::now();
        loop {
            if limit.is_none_or(|limit| begun.elapsed() < limit) {
                self.beat(doing);
            }
            tokio::select! {
                biased;
                done = &mut what => {
                    self.beat("going on");
                    return done;
                }
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.all.lock().retain(|one| !Arc::ptr_eq(one, &self.beats));
        }
    }
}

impl fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().iter().map(|one| &one.name)).finish()
    }
}

/// What one question to the database may take at most, however that fails: connections to each of a few hosts, and
/// a transaction of a few statements whose server stops answering at the end of each one's time.
pub(super) fn database_patience(settings: &Settings) -> Duration {
    let database = &settings.database;
    database.connect_timeout * 4 + (database.statement_timeout + Duration::from_secs(5)) * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &Heartbeats) -> Vec<String> {
        all.silent(LIMIT).into_iter().map(|silence| silence.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_beats_and_who_hangs_does_not() {
        let all = Heartbeats::default();
        let (waits, hangs) = (all.begin("waits"), all.begin("hangs"));
        hangs.beat("hanging");
        waits.wait("waiting", tokio::time::sleep(Duration::from_secs(3600))).await;
        let silent = all.silent(LIMIT);
        assert_eq!((silent.len(), silent[0].name.as_str(), silent[0].doing), (1, "hangs", "hanging"));
        let text = silent[0].to_string();
        assert!(text.starts_with("hangs has been silent since 20") && text.ends_with("(for 1h), hanging"), "{text}");
        hangs.beat("turning");
        assert_eq!(names(&all), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_may_take_its_time_and_no_longer() {
        let all = Heartbeats::default();
        let (asks, limit) = (all.begin("asks"), Duration::from_secs(60));
        let answer = async {
            tokio::time::sleep(limit).await;
            assert_eq!(names(&all), [""; 0], "it waits for the database");
            tokio::time::sleep(LIMIT + TICK * 2).await;
            assert_eq!(names(&all), ["asks"]);
            7
        };
        assert_eq!(asks.within(limit, "asking", answer).await, 7);
        assert_eq!(names(&all), [""; 0], "it was slow, and goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn who_ends_is_not_missed_and_who_panics_is() {
        let all = Heartbeats::default();
        let (ends, cut_off, panics) = (all.begin("ends"), all.begin("is cut off"), all.begin("panics"));
        tokio::spawn(async move { ends.beat("ending") }).await.unwrap();
        let task = tokio::spawn(async move { cut_off.wait("waiting", std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        let task = tokio::spawn(async move { panics.wait("falling", async { panic!("on purpose") }).await });
        assert!(task.await.unwrap_err().is_panic());
        tokio::time::sleep(LIMIT * 2).await;
        assert_eq!(names(&all), ["panics"]);
    }
}
