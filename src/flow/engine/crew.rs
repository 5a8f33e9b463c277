//! The tasks of nodes that wait for something. Each belongs to the run: when the run ends, so do they.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::machine::WorkEnd;
use crate::flow::model::NodeIndex;
use crate::nodes::{Effect, NodeError, NodeRun};

/// What a node does in a task of its own.
pub(super) type Work = for<'a> fn(&'a mut NodeRun) -> BoxFuture<'a, Result<(), NodeError>>;

/// News from a node at work.
pub(super) enum News {
    /// It did something.
    Effect(NodeIndex, Effect),
    /// It has ended, having begun at that time.
    Ended(NodeIndex, WorkEnd, Instant),
}

/// News that the engine has not looked at yet; beyond that many, nodes wait.
const BACKLOG: usize = 256;

/// The nodes at work.
pub(super) struct Crew {
    tasks: JoinSet<()>,
    sender: mpsc::Sender<News>,
    receiver: mpsc::Receiver<News>,
    at_work: usize,
}

impl Crew {
    pub fn new() -> Crew {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        Crew { tasks: JoinSet::new(), sender, receiver, at_work: 0 }
    }

    /// How many nodes have not ended.
    pub fn at_work(&self) -> usize {
        self.at_work
    }

    /// Let a node work, no longer than `limit`. What it logs says which node it is, and whose.
    pub fn employ(&mut self, node: NodeIndex, id: &str, job: Job, limit: Duration) {
        let news = self.sender.clone();
        self.at_work += 1;
        let began = Instant::now();
        let work = async move {
            let end = job.run(limit, |effect| news.send(News::Effect(node, effect)).map(|_| ())).await;
            let _ = news.send(News::Ended(node, end, began)).await; // nobody listens: the run is over
        };
        self.tasks.spawn(work.instrument(tracing::error_span!("node", node = id)));
    }

    /// The next news. Never ends while the crew lives, so ask only while somebody works.
    pub async fn news(&mut self) -> Option<News> {
        let news = self.receiver.recv().await;
        if let Some(News::Ended(..)) = &news {
            self.at_work -= 1;
            while self.tasks.try_join_next().is_some() {}
        }
        news
    }

    /// End all tasks, and wait for that.
    pub async fn dismiss(mut self) {
        self.receiver.close();
        self.tasks.shutdown().await;
    }
}

/// A node's work with all it needs.
pub(super) struct Job {
    pub work: Work,
    pub run: NodeRun,
    pub effects: UnboundedReceiver<Effect>,
    pub cancel: CancellationToken,
}

impl Job {
    /// Work until the end or the limit, telling of effects as they come. A panic is an end like another.
    async fn run<F: Future<Output = ()>>(self, limit: Duration, mut tell: impl FnMut(Effect) -> F) -> WorkEnd {
        let Job { work, mut run, mut effects, cancel } = self;
        let result = {
            let mut working = pin!(AssertUnwindSafe(async { work(&mut run).await }).catch_unwind());
            let mut timeout = pin!(tokio::time::sleep(limit));
            loop {
                tokio::select! {
                    biased;
                    Some(effect) = effects.recv() => tell(effect).await,
                    result = &mut working => break Some(result),
                    () = &mut timeout => {
                        cancel.cancel();
                        break None;
                    }
                }
            }
        };
        while let Ok(effect) = effects.try_recv() {
            tell(effect).await;
        }
        match result {
            Some(Ok(result)) => WorkEnd::Returned(run.into_ports(), result),
            Some(Err(panic)) => WorkEnd::Panicked(panic_text(&*panic)),
            None => WorkEnd::TimedOut,
        }
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".into())
}
