//! The decisions about a lease that is held: when to renew it, which answers count, when it has to be given up.
//!
//! A plain state machine. It knows no clock, no task and no database: time comes in as an argument, questions go out as
//! orders. `keeper.rs` feeds it with the real ones, `simulation` with thousands of bad days.
//!
//! What makes it sound: the lease's end is counted from *before* the question was sent, so it is never later than the end
//! that the database wrote when it answered; it is given up a margin earlier, which covers a clock that runs slow and
//! the time that stopping takes; and nothing revives it, not even an answer that says yes.

use std::time::Duration;

use super::moment::Moment;

/// Pause after a question that failed.
const RETRY: Duration = Duration::from_millis(250);
/// Bounds of the margin: executions have to stop within it, and need no hour.
const MARGIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Executions get at least this long to stop: on a machine that is merely overloaded they aren't stuck.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Ask the database for a renewal, now. A question that is still open may go on: it counts when it is answered.
    Ask,
    /// Nothing before this moment.
    Wait(Moment),
    /// The lease is lost: stop everything that runs under it.
    Stop(Loss),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The lease is renewed.
    Granted,
    /// It isn't ours any more.
    Refused(Refusal),
    /// No answer: the connection or the server failed.
    Failed,
}

/// Why the database doesn't renew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Another process has the id.
    #[error("process {pid} on {host} has taken over this worker's id")]
    TakenOver {
        /// Its host.
        host: String,
        /// Its process there.
        pid: i32,
    },
    /// By the database's clock it had ended; others may have acted on that.
    #[error("by the database's clock the lease had ended")]
    Ended,
    /// The worker's row is gone.
    #[error("the worker's row is gone")]
    Gone,
}

/// Why a lease is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Loss {
    /// The database said so.
    #[error(transparent)]
    Refused(Refusal),
    /// No renewal came in time.
    #[error("the lease couldn't be renewed in time")]
    Late,
    /// Nobody looked at the clock for so long that the lease ended meanwhile.
    #[error("this process or its machine stood still for {}", humantime::format_duration(Duration::from_millis(u64::try_from(.0.as_millis()).unwrap_or(u64::MAX))))]
    StoodStill(Duration),
}

/// A lease that is held, until it is lost.
#[derive(Clone, Debug)]
pub(super) struct LeaseClock {
    lease: Duration,
    margin: Duration,
    /// When the last renewal that was granted had been asked for.
    granted: Moment,
    /// When the last question was asked.
    asked: Moment,
    /// No question before this.
    next: Moment,
    /// When somebody last looked.
    seen: Moment,
    lost: Option<(Loss, Moment)>,
}

/// Time before the end at which a lease is given up.
pub(super) fn margin(lease: Duration) -> Duration {
    (lease / 6).clamp(MARGIN.0, MARGIN.1)
}

impl LeaseClock {
    /// A lease of this length that was acquired by a question asked at this moment. The first order is to ask at once: so
    /// the renewal has its connection before the work takes what the server has left.
    pub fn new(lease: Duration, asked: Moment) -> LeaseClock {
        LeaseClock { lease, margin: margin(lease), granted: asked, asked, next: asked, seen: asked, lost: None }
    }

    /// What to do now. [`Order::Ask`] counts as done.
    pub fn order(&mut self, now: Moment) -> Order {
        self.look(now);
        if let Some((loss, _)) = &self.lost {
            return Order::Stop(loss.clone());
        }
        if now < self.next {
            return Order::Wait(self.next.min(self.until()));
        }
        // Where no answer comes, another question goes over another connection: this one may be dead without a word.
        let left = self.until().since(now);
        self.next = now + (left / 3).max(RETRY);
        self.asked = now;
        Order::Ask
    }

    /// The answer to the question that was asked at that moment.
    pub fn answered(&mut self, asked: Moment, now: Moment, answer: Answer) {
        self.look(now);
        if self.lost.is_some() {
            return; // an answer that comes too late says yes to nobody
        }
        match answer {
            Answer::Granted if asked > self.granted => {
                self.granted = asked;
                self.next = asked + self.lease / 4;
            }
            Answer::Granted => {} // an earlier question than one that was answered
            Answer::Refused(refusal) => self.lost = Some((Loss::Refused(refusal), now)),
            Answer::Failed if asked == self.asked => self.next = now + RETRY,
            Answer::Failed => {} // another question is on its way
        }
    }

    /// Whether work may be claimed, started and written now.
    #[cfg_attr(not(test), expect(dead_code, reason = "the fence asks for the moment once, and compares by itself"))]
    pub fn may_work(&self, now: Moment) -> bool {
        self.lost.is_none() && now < self.until()
    }

    /// When the lease has to be taken as lost, if nothing comes: everything stops then.
    pub fn until(&self) -> Moment {
        if self.lost.is_some() { Moment::LONG_AGO } else { self.granted + (self.lease - self.margin) }
    }

    /// When others may act, if the lease is lost, and so everything must have stopped. A process that stood still for
    /// longer gets the margin from the moment at which it found out: it can't have stopped anything before. With leases
    /// below 12 seconds, whose margins are short, it may also take a moment longer.
    pub fn stopped_by(&self) -> Option<Moment> {
        let (_, found) = self.lost.as_ref()?;
        Some((self.granted + self.lease).max(*found + self.margin.max(PATIENCE)))
    }

    fn look(&mut self, now: Moment) {
        let gap = now.since(self.seen);
        self.seen = self.seen.max(now);
        if self.lost.is_none() && now >= self.until() {
            let loss = if gap >= self.margin { Loss::StoodStill(gap) } else { Loss::Late };
            self.lost = Some((loss, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    /// Acquired at 0, and renewed by the first question, asked at 0 as well.
    fn held() -> LeaseClock {
        let mut clock = LeaseClock::new(LEASE, at(-1.0));
        assert_eq!(clock.order(at(0.0)), Order::Ask, "at once");
        clock.answered(at(0.0), at(0.0), Answer::Granted);
        clock
    }

    fn at(seconds: f64) -> Moment {
        Moment::of_nanoseconds(0) + Duration::from_secs_f64(1000.0 + seconds)
    }

    #[test]
    fn it_asks_at_a_quarter_and_again_while_there_is_time() {
        let mut clock = held();
        assert_eq!(clock.order(at(0.1)), Order::Wait(at(7.5)));
        assert_eq!(clock.order(at(10.0)), Order::Ask);
        assert_eq!(clock.order(at(10.0)), Order::Wait(at(15.0)), "a third of what is left");
        clock.answered(at(10.0), at(11.0), Answer::Failed);
        assert_eq!(clock.order(at(11.0)), Order::Wait(at(11.25)));
        assert_eq!(clock.order(at(11.25)), Order::Ask);
        clock.answered(at(11.25), at(12.0), Answer::Granted);
        assert_eq!(clock.until(), at(11.25 + 25.0), "from before the question");
        assert_eq!(clock.order(at(12.0)), Order::Wait(at(18.75)));
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again_and_may_still_be_answered() {
        let mut clock = held();
        assert_eq!(clock.order(at(10.0)), Order::Ask);
        assert_eq!(clock.order(at(15.0)), Order::Ask);
        clock.answered(at(10.0), at(16.0), Answer::Granted);
        assert_eq!(clock.until(), at(35.0));
        clock.answered(at(15.0), at(17.0), Answer::Granted);
        clock.answered(at(10.0), at(18.0), Answer::Granted);
        assert_eq!(clock.until(), at(40.0), "an earlier question takes nothing back");
    }

    #[test]
    fn it_is_lost_a_margin_before_its_end_and_nothing_revives_it() {
        let mut clock = held();
        for tenth in 1..250 {
            let now = at(f64::from(tenth) / 10.0);
            let _ = clock.order(now);
            assert!(clock.may_work(now));
        }
        assert!(!clock.may_work(at(25.0)), "also while nobody asks for orders");
        assert_eq!(clock.order(at(25.0)), Order::Stop(Loss::Late));
        clock.answered(at(24.0), at(25.1), Answer::Granted);
        assert_eq!(clock.order(at(25.2)), Order::Stop(Loss::Late));
        assert!(!clock.may_work(at(25.2)) && clock.until() < at(0.0));
        assert_eq!(clock.stopped_by(), Some(at(30.0)), "its true end");
    }

    #[test]
    fn one_that_stood_still_finds_out_whatever_it_hears_first() {
        let asleep = held();
        assert!(!asleep.may_work(at(500.0)));
        let mut ordered = asleep.clone();
        assert_eq!(ordered.order(at(500.0)), Order::Stop(Loss::StoodStill(Duration::from_secs(500))));
        assert_eq!(ordered.stopped_by(), Some(at(505.0)), "it gets a moment to stop");
        let mut answered = asleep;
        answered.answered(at(10.0), at(500.0), Answer::Granted);
        assert!(matches!(answered.order(at(500.0)), Order::Stop(Loss::StoodStill(_))));
        assert_eq!(
            Loss::StoodStill(Duration::from_micros(12_345_678)).to_string(),
            "this process or its machine stood still for 12s 345ms"
        );
    }

    #[test]
    fn a_refusal_is_final() {
        let mut clock = held();
        assert_eq!(clock.order(at(10.0)), Order::Ask);
        clock.answered(at(10.0), at(10.1), Answer::Refused(Refusal::Ended));
        assert!(!clock.may_work(at(10.1)));
        assert_eq!(clock.order(at(10.2)), Order::Stop(Loss::Refused(Refusal::Ended)));
        assert_eq!(clock.stopped_by(), Some(at(30.0)));
    }

    #[test]
    fn margins_leave_time_to_stop_and_to_renew() {
        let margins = [2.0, 3.0, 30.0, 3600.0].map(|lease| margin(Duration::from_secs_f64(lease)).as_secs_f64());
        assert_eq!(margins, [0.5, 0.5, 5.0, 10.0]);
    }
}
