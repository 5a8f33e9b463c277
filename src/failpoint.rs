//! Places where a test may end, break or hold the program: between every two durable statements.
//!
//! Compiled with the feature `failpoints` only, which tests switch on and no release has. What happens where is said by the
//! variable `FIREFLOW_FAILPOINTS`: `claim.written=kill`, `checkpoint.locked=pause@3` for the third time only,
//! `flow.begins/EX1=kill` for one execution; several with `;` between. The actions are `kill` (SIGKILL, to itself), `panic`,
//! `pause` (for ever) and `error`, where the place can fail.

/// Mark a place, by the name of its [`Point`]. `failpoint!(Point)`, `failpoint!(Point, about = text)`, and with
/// `error = value` where an asked-for error is returned, `when = condition` where not each time counts.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($point:ident) => {
        _ = $crate::failpoint::reach($crate::failpoint::Point::$point, "").await
    };
    ($point:ident, about = $about:expr) => {
        _ = $crate::failpoint::reach($crate::failpoint::Point::$point, $about).await
    };
    ($point:ident, when = $when:expr) => {
        if $when {
            _ = $crate::failpoint::reach($crate::failpoint::Point::$point, "").await
        }
    };
    ($point:ident, error = $error:expr) => {
        if $crate::failpoint::reach($crate::failpoint::Point::$point, "").await {
            return Err($error);
        }
    };
}

/// Nothing: the program has no such places.
#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($($anything:tt)*) => {};
}

pub(crate) use failpoint;

#[cfg(feature = "failpoints")]
pub(crate) use points::reach;
#[cfg(feature = "failpoints")]
pub use points::{ALL, Point};

#[cfg(feature = "failpoints")]
mod points {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    };

    macro_rules! points {
        ($($name:ident $text:literal $meaning:literal,)+) => {
            /// A place.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Point {
                $(#[doc = $meaning] $name,)+
            }

            /// All places, so that a walk through them forgets none.
            pub const ALL: &[Point] = &[$(Point::$name,)+];

            impl Point {
                /// As the variable names it.
                pub fn name(self) -> &'static str {
                    match self { $(Point::$name => $text,)+ }
                }
            }
        };
    }

    points! {
        LeaseRegistering "lease.registering" "Before the lease is acquired.",
        LeaseRegistered "lease.registered" "It is; nothing was recovered yet.",
        RecoveryOwn "recovery.own" "What earlier lives left is on the queue.",
        RecoveryBefore "recovery.before" "Before a look for dead workers.",
        RecoveryAfter "recovery.after" "What they left is on the queue.",
        RecoveryAdopted "recovery.adopted" "So is what adopted executors left.",
        RecoverySettled "recovery.settled" "Accounts of crashes that don't matter any more are gone.",
        RecoveryStranded "recovery.stranded" "Claims of this worker that it doesn't run are on the queue.",
        DispatchRound "dispatch.round" "A dispatch loop comes round; nothing is claimed yet.",
        ClaimBegun "claim.begun" "A claim under a shared limit has a connection.",
        ClaimWritten "claim.written" "It has its rows, and isn't committed.",
        ClaimCommitted "claim.committed" "A claim is committed, and nobody knows of it yet.",
        ClaimParking "claim.parking" "A workflow that was started too often is to be parked.",
        ClaimParked "claim.parked" "It is.",
        FlowBegins "flow.begins" "The engine is about to run; about: the execution's id.",
        CheckpointBegun "checkpoint.begun" "A batch of checkpoints has a connection.",
        CheckpointLocked "checkpoint.locked" "Its rows are locked and compared.",
        CheckpointSteps "checkpoint.steps" "Its steps are written.",
        CheckpointReceives "checkpoint.receives" "Its messages are received.",
        CheckpointConsumes "checkpoint.consumes" "Its commands are consumed.",
        CheckpointAppends "checkpoint.appends" "Its stream items are written.",
        CheckpointRows "checkpoint.rows" "The application's rows are.",
        CheckpointStarts "checkpoint.starts" "Its children are enqueued.",
        CheckpointFinishes "checkpoint.finishes" "Its outcomes are written.",
        CheckpointWritten "checkpoint.written" "All of it is written, and not committed.",
        CheckpointCommitted "checkpoint.committed" "It is committed, and nobody knows of it yet.",
        MessageCommitted "message.committed" "As that, with a message received.",
        ChildCommitted "child.committed" "As that, with a child enqueued.",
        OutcomeCommitted "outcome.committed" "As that, with an outcome.",
        CheckpointAnswered "checkpoint.answered" "Its executions have been told.",
        DrainAnnounced "drain.announced" "The workers table says that this one drains.",
        DrainHanding "drain.handing" "Executions have stopped in order to be given back.",
        DrainHanded "drain.handed" "They are on the queue.",
        LeaseReleasing "lease.releasing" "All has ended; the lease is still held.",
        LeaseReleased "lease.released" "It is given up.",
    }

    enum Action {
        Kill,
        Panic,
        Pause,
        Error,
    }

    struct Rule {
        point: Point,
        about: Option<String>,
        action: Action,
        /// The n-th time only, counted from 1.
        at: Option<u64>,
        reached: AtomicU64,
    }

    fn rules() -> &'static [Rule] {
        static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
        RULES.get_or_init(|| {
            let text = std::env::var("FIREFLOW_FAILPOINTS").unwrap_or_default();
            text.split(';').filter(|rule| !rule.is_empty()).map(read).collect()
        })
    }

    /// Only tests write these, so that a wrong one may end the program.
    fn read(text: &str) -> Rule {
        let wrong = || -> ! { panic!("FIREFLOW_FAILPOINTS: \"{text}\" is not POINT[/ABOUT]=ACTION[@TIME]") };
        let Some((place, action)) = text.split_once('=') else { wrong() };
        let (name, about) = match place.split_once('/') {
            Some((name, about)) => (name, Some(about.to_owned())),
            None => (place, None),
        };
        let (action, at) = match action.split_once('@') {
            Some((action, at)) => (action, Some(at.parse().unwrap_or_else(|_| wrong()))),
            None => (action, None),
        };
        let Some(point) = ALL.iter().copied().find(|point| point.name() == name) else { wrong() };
        let action = match action {
            "kill" => Action::Kill,
            "panic" => Action::Panic,
            "pause" => Action::Pause,
            "error" => Action::Error,
            _ => wrong(),
        };
        Rule { point, about, action, at, reached: AtomicU64::new(0) }
    }

    /// The program has come to this place. Whether it is to fail here.
    pub(crate) async fn reach(point: Point, about: &str) -> bool {
        let met = |rule: &&Rule| {
            rule.point == point
                && rule.about.as_deref().is_none_or(|wanted| wanted == about)
                && rule.at.is_none_or(|at| rule.reached.fetch_add(1, SeqCst) + 1 == at)
        };
        let Some(rule) = rules().iter().find(met) else { return false };
        match rule.action {
            Action::Kill => {
                let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                panic!("still alive: {killed:?}");
            }
            Action::Panic => panic!("failpoint {}", point.name()),
            Action::Pause => std::future::pending().await,
            Action::Error => true,
        }
    }
}
