//! The renewal, on a thread, a runtime and a connection of its own: flows that hog every thread of the worker's runtime, or
//! every connection of its pool, don't cost the lease.
//!
//! The thread feeds `clock.rs` and does as it is told. It logs nothing, since a log that nobody reads blocks whoever
//! writes to it; what it has to say goes through a channel.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle, JoinSet},
};
use tokio_postgres::{Client, types::Type};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Identity, heartbeat::Heartbeat, running::Running},
    clock::{Answer, LeaseClock, Loss, Order, Refusal},
    moment::Moment,
};
use crate::{
    metrics::{self, Metrics},
    postgres,
    sysdb::Fence,
};

/// Questions under way at once: one may hang on a connection that is dead while others go over new ones.
const OPEN: usize = 3;
/// Longest sleep: timers stand still while the machine is suspended, so after it the thread finds out within this time.
const LOOK: Duration = Duration::from_millis(500);

/// Executions that could not be stopped by the end of the lease: something in them never yields, and what it does can't be
/// called back. Nothing that it does is recorded any more, but only the end of the process ends it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stuck {
    /// The worker's id.
    pub worker: String,
    /// How many.
    pub executions: usize,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { worker, executions } = self;
        write!(
            f,
            "the lease of worker \"{worker}\" has ended, and {executions} executions could not be stopped; \
             others may run them by now"
        )
    }
}

/// Called with what is stuck, on a thread where it may block.
pub(crate) type OnStuck = Arc<dyn Fn(&Stuck) + Send + Sync>;

/// What the thread renews, and by which statement.
pub(super) struct Renewal {
    pub connect: postgres::Settings,
    pub statement: String,
    pub me: Identity,
    pub lease: Duration,
}

#[derive(Clone, Debug, PartialEq)]
enum Held {
    Yes,
    /// It is lost, for this reason.
    Lost(String),
    /// It is lost, and what ran under it should have stopped by now.
    Over(String),
}

/// A lease that is held by renewing it. Ends with this value: dropped, its fence closes at once.
pub(in crate::worker) struct Keeper {
    held: watch::Receiver<Held>,
    until: Until,
    stop: CancellationToken,
}

/// Up to when the lease may be relied on.
#[derive(Clone)]
struct Until(Arc<AtomicU64>);

impl Until {
    fn set(&self, moment: Moment) {
        self.0.store(moment.nanoseconds(), Ordering::SeqCst);
    }

    fn is_ahead(&self) -> bool {
        Moment::now().nanoseconds() < self.0.load(Ordering::SeqCst)
    }
}

/// How long a lease may still be relied on, if nothing renews it.
pub(in crate::worker) struct Remaining(Until);

impl Remaining {
    /// Now.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.0.load(Ordering::SeqCst).saturating_sub(Moment::now().nanoseconds()))
    }
}

/// Who is told how the renewal goes.
pub(in crate::worker) struct Told {
    pub heartbeat: Heartbeat,
    pub on_stuck: OnStuck,
    pub metrics: Arc<Metrics>,
}

impl Keeper {
    /// Keep a lease that was acquired by a question asked at `asked`. `running` is what runs under it. The heartbeat ends when
    /// the lease is over: whatever still goes on then shouldn't.
    pub(super) fn start(renewal: Renewal, asked: Moment, running: Running, told: Told) -> io::Result<Keeper> {
        let Told { heartbeat, on_stuck, metrics } = told;
        let clock = LeaseClock::new(renewal.lease, asked);
        let until = Until(Arc::default());
        until.set(clock.until());
        let (held, watch) = watch::channel(Held::Yes);
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let task = Task {
            renewal: Arc::new(renewal),
            clock,
            until: until.clone(),
            held,
            stop: stop.clone(),
            running,
            heartbeat,
            on_stuck,
            metrics,
        };
        std::thread::Builder::new().name("lease".into()).spawn(move || runtime.block_on(task.run()))?;
        Ok(Keeper { held: watch, until, stop })
    }

    /// A fence that is open while the lease may be relied on, by this machine's clock: it closes by itself, whether or not
    /// anybody has noticed.
    pub fn fence(&self) -> Fence {
        let until = self.until.clone();
        Fence::new(move || until.is_ahead())
    }

    /// How long it may be relied on, asked at any time.
    pub fn remaining(&self) -> Remaining {
        Remaining(self.until.clone())
    }

    /// Completes when the lease is lost, with the reason.
    pub async fn lost(&self) -> String {
        self.until_held(|held| *held != Held::Yes).await
    }

    /// Completes when the lease is lost and all that ran under it should have stopped.
    pub async fn over(&self) -> String {
        self.until_held(|held| matches!(held, Held::Over(_))).await
    }

    async fn until_held(&self, change: impl FnMut(&Held) -> bool) -> String {
        match self.held.clone().wait_for(change).await.as_deref() {
            Ok(Held::Lost(why) | Held::Over(why)) => why.clone(),
            Ok(Held::Yes) | Err(_) => "the thread that renews the lease has ended".into(),
        }
    }

    /// Stop renewing, and wait until no question is under way any more.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut held = self.held.clone();
        while held.changed().await.is_ok() {} // the thread drops the other end
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.until.set(Moment::LONG_AGO);
        self.stop.cancel();
    }
}

struct Task {
    renewal: Arc<Renewal>,
    clock: LeaseClock,
    until: Until,
    held: watch::Sender<Held>,
    stop: CancellationToken,
    running: Running,
    heartbeat: Heartbeat,
    on_stuck: OnStuck,
    metrics: Arc<Metrics>,
}

impl Drop for Task {
    /// Also in a panic: without the thread there is no lease.
    fn drop(&mut self) {
        self.until.set(Moment::LONG_AGO);
    }
}

/// A connection, and the task that drives it.
struct Link {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What came of a question, and the connection if it still serves.
struct Answered {
    asked: Moment,
    answer: Result<Result<(), Refusal>, String>,
    link: Option<Link>,
}

impl Task {
    async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        let mut trouble = String::new();
        let loss = self.renew(&mut trouble).await;
        self.until.set(Moment::LONG_AGO);
        let why = match loss {
            Loss::Late if !trouble.is_empty() => format!("{loss}: {trouble}"),
            loss => loss.to_string(),
        };
        let _ = self.held.send(Held::Lost(why.clone())); // nobody listens any more
        let by = self.clock.stopped_by().unwrap_or(Moment::LONG_AGO); // it is lost, so there is one
        while Moment::now() < by {
            self.heartbeat.beat("giving the lease up");
            tokio::time::sleep(by.since(Moment::now()).min(LOOK)).await;
        }
        let executions = self.running.len();
        if executions > 0 {
            (self.on_stuck)(&Stuck { worker: self.renewal.me.id.clone(), executions });
        }
        let _ = self.held.send(Held::Over(why));
        std::future::pending().await
    }

    /// Renew until the lease is lost. `trouble` is what went wrong last.
    async fn renew(&mut self, trouble: &mut String) -> Loss {
        let mut questions: JoinSet<Answered> = JoinSet::new();
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        let mut link: Option<Link> = None;
        loop {
            self.heartbeat.beat("renewing");
            let pause = match self.clock.order(Moment::now()) {
                Order::Stop(loss) => {
                    self.metrics.renewals.of(metrics::Renewal::Failed).add(open.len() as u64); // they are given up
                    return loss;
                }
                Order::Wait(until) => until.since(Moment::now()).min(LOOK),
                Order::Ask => {
                    if !open.is_empty() {
                        "the database didn't answer".clone_into(trouble);
                    }
                    while open.len() >= OPEN {
                        open.pop_front().inspect(AbortHandle::abort);
                    }
                    open.push_back(questions.spawn(ask(self.renewal.clone(), link.take())));
                    continue;
                }
            };
            let answered = tokio::select! {
                Some(answered) = questions.join_next() => answered,
                () = tokio::time::sleep(pause) => continue,
            };
            open.retain(|question| !question.is_finished());
            let Ok(answered) = answered else {
                self.metrics.renewals.of(metrics::Renewal::Failed).increment(); // it hung, and was aborted
                continue;
            };
            let answer = match answered.answer {
                Ok(Ok(())) => Answer::Granted,
                Ok(Err(refusal)) => Answer::Refused(refusal),
                Err(error) => {
                    *trouble = error;
                    Answer::Failed
                }
            };
            self.metrics
                .renewals
                .of(match &answer {
                    Answer::Granted => metrics::Renewal::Granted,
                    Answer::Refused(_) => metrics::Renewal::Refused,
                    Answer::Failed => metrics::Renewal::Failed,
                })
                .increment();
            link = answered.link.or(link);
            self.clock.answered(answered.asked, Moment::now(), answer);
            self.until.set(self.clock.until());
        }
    }
}

/// One question. What it asks with is not used again unless it was answered.
async fn ask(renewal: Arc<Renewal>, link: Option<Link>) -> Answered {
    let asked = Moment::now();
    let answer = async {
        let link = match link.filter(|link| !link.client.is_closed()) {
            Some(link) => link,
            None => connect(&renewal.connect).await?,
        };
        let seconds = renewal.lease.as_secs_f64();
        let Identity { id, incarnation, .. } = &renewal.me;
        let rows = link
            .client
            // In one round trip, and without a prepared statement, which a pooler may not know the next time.
            .query_typed(&renewal.statement, &[(id, Type::TEXT), (incarnation, Type::UUID), (&seconds, Type::FLOAT8)])
            .await
            .map_err(|error| crate::sysdb::SysdbError::from(error).to_string())?;
        let answer = match rows.first() {
            None => Err(Refusal::Gone),
            Some(row) => judge(row).map_err(|error| error.to_string())?,
        };
        Ok::<_, String>((answer, link))
    };
    match answer.await {
        Ok((answer, link)) => Answered { asked, answer: Ok(answer), link: Some(link) },
        Err(error) => Answered { asked, answer: Err(error), link: None },
    }
}

fn judge(row: &tokio_postgres::Row) -> Result<Result<(), Refusal>, tokio_postgres::Error> {
    let (ours, renewed): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (ours, renewed) {
        (true, true) => Ok(()),
        (true, false) => Err(Refusal::Ended),
        (false, _) => {
            let host = row.try_get::<_, Option<String>>(2)?.unwrap_or_default();
            Err(Refusal::TakenOver { host, pid: row.try_get::<_, Option<i32>>(3)?.unwrap_or(0) })
        }
    })
}

async fn connect(settings: &postgres::Settings) -> Result<Link, String> {
    let (client, driver) = postgres::single(settings).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(async {
        let _ = driver.await; // its client tells what went wrong
    });
    if let Some(setup) = settings.single_setup() {
        client.batch_execute(&setup).await.map_err(|error| error.to_string())?;
    }
    Ok(Link { client, driver })
}
