//! What waits on the queues, for metrics. Only a worker that is scraped asks, and at most every few seconds, however often
//! it is scraped; a statement that takes long is asked for less often still. So a fleet costs the database next to nothing, and
//! each worker tells all of its queues: whichever of them a monitoring system reaches, it sees the backlog.

use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Backlog, sysdb::SystemDatabase};

/// Shortest pause between two questions.
const EVERY: Duration = Duration::from_secs(5);
/// The pause is so many times the time that the question took, so that it doesn't take more than that share of a connection;
/// unless the figures would grow too old to be shown meanwhile.
const SHARE: u32 = 20;
/// Longest time for a question, with the wait for a connection. The server ends it sooner.
const PATIENCE: Duration = Duration::from_secs(4);
/// A scrape waits so long for new figures; then it takes the ones that are there.
const WAIT: Duration = Duration::from_millis(250);
/// Older figures aren't shown: none are better than wrong ones.
const FRESH: Duration = Duration::from_secs(60);

/// What was heard, and when.
type Heard = Option<(Instant, Vec<Backlog>)>;

/// Connects those who scrape with the one who asks.
pub(super) struct Asking {
    wanted: Notify,
    heard: watch::Sender<Heard>,
}

impl Default for Asking {
    fn default() -> Asking {
        Asking { wanted: Notify::new(), heard: watch::Sender::new(None) }
    }
}

impl Asking {
    /// The figures: at most so old as questions are apart, or none.
    pub async fn figures(&self) -> Vec<Backlog> {
        let mut heard = self.heard.subscribe();
        let age = |heard: &Heard| heard.as_ref().map(|(at, _)| at.elapsed());
        if age(&heard.borrow_and_update()).is_none_or(|age| age >= EVERY) {
            self.wanted.notify_one();
            let _ = tokio::time::timeout(WAIT, heard.changed()).await; // else the ones that are there
        }
        let heard = heard.borrow();
        let fresh = heard.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
        fresh.map(|(_, backlog)| backlog.clone()).unwrap_or_default()
    }

    /// Ask when somebody wants to know, until `stop`.
    pub async fn run(&self, sysdb: SystemDatabase, queues: Vec<String>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = stop.cancelled() => return,
            }
            let began = Instant::now();
            let asked = tokio::select! {
                asked = tokio::time::timeout(PATIENCE, sysdb.backlog(&queues)) => asked,
                () = stop.cancelled() => return,
            };
            match asked {
                Ok(Ok(backlog)) => drop(self.heard.send_replace(Some((Instant::now(), backlog)))),
                Ok(Err(error)) => tracing::debug!(%error, "can't ask what waits on the queues"),
                Err(_) => tracing::debug!("what waits on the queues isn't told in time"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause(began.elapsed())) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// The pause after a question that took so long.
fn pause(took: Duration) -> Duration {
    (took * SHARE).clamp(EVERY, FRESH / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_database_is_asked_less_often_and_often_enough() {
        for (took, expected) in [(1, 5000), (500, 10_000), (1500, 30_000), (4000, 30_000)] {
            assert_eq!(pause(Duration::from_millis(took)), Duration::from_millis(expected), "{took}");
        }
        // The next figures are there before the last ones are too old.
        assert!(pause(PATIENCE) + PATIENCE < FRESH);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_waits_for_a_moment_and_asks_only_when_figures_are_old() {
        let asking = Asking::default();
        assert_eq!(asking.figures().await, [], "nobody answers");
        let backlog = vec![Backlog { queue: "q".into(), depth: 3, oldest: Duration::from_secs(1) }];
        let answers = async {
            asking.wanted.notified().await; // from the scrape above
            asking.heard.send_replace(Some((Instant::now(), backlog.clone())));
        };
        let (figures, ()) = tokio::join!(asking.figures(), answers);
        assert_eq!(figures, backlog);
        assert_eq!(asking.figures().await, backlog);
        // Who sees fresh figures wants no others.
        let asked = tokio::time::timeout(Duration::from_secs(1), asking.wanted.notified()).await;
        assert!(asked.is_err());
        let long_ago = Instant::now().checked_sub(FRESH).unwrap();
        asking.heard.send_replace(Some((long_ago, backlog)));
        assert_eq!(asking.figures().await, [], "too old to be shown");
    }
}
