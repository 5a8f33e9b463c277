//! Runs a flow: ready ports decide, nodes run side by side, events stream out.
//!
//! One loop owns the run's state. Quick nodes run in it; nodes that wait run in tasks that see a copy of their ports and
//! send what they do through a channel. Nothing outlives the run.

mod crew;
mod debugger;
mod gate;
mod machine;
mod observer;
mod options;
mod outlet;
mod state;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

pub use self::debugger::{DebugState, Debugger};
pub use self::observer::{NodeEnd, Observer};
pub use self::options::{OptionsError, RunOptions};
pub use self::state::Emitted;

use self::crew::{Crew, Job, News, panic_text};
use self::machine::{Begun, Machine, WorkEnd};
use self::outlet::Outlet;
use super::events::Event;
use super::model::{Flow, Json, NodeIndex, Status};
use super::ports::Orphans;
use super::{Input, Value};
use crate::nodes::{Behaviour, Effect, NodeRun, RunContext};

/// How long nodes may take to react when their run is called off, before they are cut off.
const GRACE: Duration = Duration::from_millis(250);

/// After so many quick nodes the loop lets other tasks of the process have a turn, and looks at the clock.
const QUICK_NODES: usize = 64;

/// Why a run is called off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// Somebody wants it so, in these words: the flow is cancelled.
    Text(String),
    /// Something went wrong: the flow fails.
    Error(String),
    /// No reason: the flow fails.
    None,
}

impl From<&str> for AbortReason {
    fn from(text: &str) -> AbortReason {
        AbortReason::Text(text.into())
    }
}

/// Calls off a run. Clones call off the same one.
#[derive(Clone, Debug, Default)]
pub struct Abort {
    token: CancellationToken,
    reason: Arc<OnceLock<AbortReason>>,
}

impl Abort {
    /// For one run.
    pub fn new() -> Abort {
        Abort::default()
    }

    /// Call it off. The first reason counts.
    pub fn abort(&self, reason: impl Into<AbortReason>) {
        let _ = self.reason.set(reason.into());
        self.token.cancel();
    }

    /// Ends when the run is called off.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    fn end(&self) -> End {
        match self.reason.get() {
            Some(AbortReason::Text(reason)) => End::Cancelled { reason: reason.clone() },
            Some(AbortReason::Error(error)) => End::Failed { error: error.clone() },
            Some(AbortReason::None) | None => End::Failed { error: "the run was called off without a reason".into() },
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All that could run did, with success or not.
    Completed,
    /// The flow as a whole failed.
    Failed {
        /// Why.
        error: String,
    },
    /// It was called off.
    Cancelled {
        /// Why, in the words of who did it.
        reason: String,
    },
}

/// What became of a node.
#[derive(Clone, Debug)]
pub struct NodeOutcome {
    /// The node's id.
    pub id: Arc<str>,
    /// Where it stands.
    pub status: Status,
    /// Whether it had its turn in this run.
    pub ran: bool,
    /// Its root ports by key, system ports first.
    pub ports: Vec<(Arc<str>, Value)>,
    /// What its ports below something absent hold.
    pub(in crate::flow) orphans: Orphans,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// How long it took.
    pub duration: Duration,
    /// Events that nodes emitted, in order.
    pub emitted: Vec<Emitted>,
    /// What the flow gives, by name.
    pub outputs: Json,
    /// The nodes, in the flow's order.
    pub nodes: Vec<NodeOutcome>,
}

/// Run a flow to its end. Events go to `events` in order, and all are sent before this returns; when nobody receives
/// them any more, the flow runs on. `events` is the channel's only sender: what waits in it is bounded in bytes, too.
/// Breakpoints are passed by: nobody is there to go on from them.
pub async fn run(
    flow: &Flow,
    options: &RunOptions,
    context: RunContext,
    inputs: Vec<Input>,
    events: mpsc::Sender<Event>,
    abort: &Abort,
) -> Outcome {
    run_debugged(flow, options, context, inputs, events, abort, None).await
}

/// As [`run`], with a debugger: it pauses the run where it is told to, and, if debugging is asked for in the options, at
/// their breakpoints.
pub async fn run_debugged(
    flow: &Flow,
    options: &RunOptions,
    context: RunContext,
    inputs: Vec<Input>,
    events: mpsc::Sender<Event>,
    abort: &Abort,
    debugger: Option<&Debugger>,
) -> Outcome {
    run_attended(flow, options, context, inputs, events, abort, Attendants { debugger, observer: None }).await
}

/// Who looks after a run.
#[derive(Clone, Copy, Default)]
pub struct Attendants<'a> {
    /// Pauses it.
    pub debugger: Option<&'a Debugger>,
    /// Is told how long nodes took.
    pub observer: Option<&'a dyn Observer>,
}

/// As [`run_debugged`], with an observer.
pub async fn run_attended(
    flow: &Flow,
    options: &RunOptions,
    context: RunContext,
    inputs: Vec<Input>,
    events: mpsc::Sender<Event>,
    abort: &Abort,
    Attendants { debugger, observer }: Attendants<'_>,
) -> Outcome {
    let context = RunContext { falsy: flow.falsy, ..context };
    let mut machine = Machine::new(flow, context.event.clone(), inputs);
    if debugger.is_some() {
        machine.debug(if options.debug { &options.breakpoints } else { &[] });
    }
    let (effect_sender, effects) = mpsc::unbounded_channel();
    let mut runner = Runner {
        flow,
        options,
        context: Arc::new(context),
        machine,
        crew: Crew::new(),
        cancel: CancellationToken::new(),
        events: Outlet::new(events),
        effect_sender,
        effects,
        debugger,
        observer,
        obeyed: 0,
    };
    let end = runner.run(abort).await;
    runner.finish(end).await
}

struct Runner<'a> {
    flow: &'a Flow,
    options: &'a RunOptions,
    context: Arc<RunContext>,
    machine: Machine<'a>,
    crew: Crew,
    /// Ends when the run is called off; nodes hold children of it.
    cancel: CancellationToken,
    events: Outlet,
    /// For nodes that run in the loop; empty between them.
    effect_sender: UnboundedSender<Effect>,
    effects: UnboundedReceiver<Effect>,
    debugger: Option<&'a Debugger>,
    observer: Option<&'a dyn Observer>,
    /// Orders of the debugger that were obeyed.
    obeyed: u64,
}

impl Runner<'_> {
    async fn run(&mut self, abort: &Abort) -> End {
        self.machine.open();
        let mut since_pause = 0;
        let mut clock_due = false; // a node has ended since the clock was last looked at
        loop {
            self.tell().await;
            if abort.token().is_cancelled() {
                return abort.end();
            }
            if since_pause >= QUICK_NODES {
                since_pause = 0;
                if self.overdue() {
                    return self.timed_out();
                }
                tokio::task::yield_now().await;
            }
            if let Some(end) = self.obey() {
                return end;
            }
            if let Some((node, begun)) = self.machine.next_released() {
                clock_due |= self.set_to_work(node, begun);
                since_pause += 1;
                continue;
            }
            if self.busy() < self.options.max_concurrency
                && let Some(node) = self.machine.next_ready()
            {
                let begun = self.machine.begin(node);
                clock_due |= self.set_to_work(node, begun);
                since_pause += 1;
                continue;
            }
            // Nothing left: a limit that ran out with the last node goes unnoticed.
            if self.busy() == 0 {
                return End::Completed;
            }
            if std::mem::take(&mut clock_due) && self.overdue() {
                return self.timed_out();
            }
            self.show();
            let debugger = self.debugger;
            let orders = async {
                match debugger {
                    Some(debugger) => debugger.given().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = abort.token().cancelled() => return abort.end(),
                () = orders => {}
                news = self.crew.news() => clock_due |= self.take(news),
            }
        }
    }

    /// Nodes that have begun and not ended.
    fn busy(&self) -> usize {
        self.crew.at_work() + self.machine.at_gate()
    }

    /// Do what the debugger has ordered; the run's end, if that is it.
    fn obey(&mut self) -> Option<End> {
        let (debugger, gate) = self.debugger.zip(self.machine.state.gate.as_mut())?;
        let orders = debugger.take();
        if let Some(paused) = orders.paused {
            gate.set_paused(paused);
        }
        if orders.release {
            gate.release();
        }
        self.obeyed = orders.count;
        let reason = orders.stop?;
        self.machine.state.stopped = true;
        Some(End::Cancelled { reason })
    }

    /// Tell the debugger where the run stands.
    fn show(&self) {
        let Some((debugger, gate)) = self.debugger.zip(self.machine.state.gate.as_ref()) else { return };
        debugger.show(DebugState {
            paused: gate.is_paused(),
            held: gate.held().map(|node| self.flow.nodes[node].id.clone()).collect(),
            at_work: self.crew.at_work(),
            orders: self.obeyed,
        });
    }

    /// Announce the end, let nodes that are still at work react to it for a moment, and end what is left.
    async fn finish(mut self, end: End) -> Outcome {
        self.machine.close(&end);
        self.tell().await;
        self.cancel.cancel();
        self.machine.fail_held();
        self.tell().await;
        let deadline = tokio::time::Instant::now() + GRACE;
        while self.crew.at_work() > 0 {
            let Ok(news) = tokio::time::timeout_at(deadline, self.crew.news()).await else { break };
            self.take(news);
            self.tell().await;
        }
        self.crew.dismiss().await;

        let duration = self.machine.started().elapsed();
        let state = self.machine.state;
        let nodes: Vec<NodeOutcome> = self
            .flow
            .nodes
            .iter()
            .zip(state.nodes)
            .map(|(node, state)| NodeOutcome {
                id: node.id.clone(),
                status: state.status,
                ran: state.ran,
                ports: node.ports.iter().map(|port| port.config.key.clone()).zip(state.values).collect(),
                orphans: state.orphans,
            })
            .collect();
        let outputs = self.flow.outputs_of(&nodes);
        Outcome { end, duration, emitted: state.emitted, outputs, nodes }
    }

    /// Do what is to be done for a node; true when it has ended already.
    fn set_to_work(&mut self, node: NodeIndex, begun: Begun) -> bool {
        let behaviour = match begun {
            Begun::Work(behaviour) => behaviour,
            Begun::Ended => return true,
            Begun::Held => return false,
        };
        match behaviour {
            Behaviour::Passive => {
                self.machine.finish_passive(node);
                true
            }
            Behaviour::Unavailable { service } => {
                self.machine.finish_unavailable(node, service);
                true
            }
            Behaviour::Pure(work) => {
                let began = self.observer.filter(|observer| observer.wants_all()).map(|_| Instant::now());
                let mut run = self.node_run(node, self.effect_sender.clone(), self.cancel.clone());
                let end = match catch_unwind(AssertUnwindSafe(|| work(&mut run))) {
                    Ok(result) => WorkEnd::Returned(run.into_ports(), result),
                    Err(panic) => WorkEnd::Panicked(panic_text(&*panic)),
                };
                while let Ok(effect) = self.effects.try_recv() {
                    self.machine.effect(node, effect);
                }
                self.machine.finish(node, end);
                if let Some(began) = began {
                    self.observe(node, false, began);
                }
                true
            }
            Behaviour::Async(work) => {
                let (sender, effects) = mpsc::unbounded_channel();
                let cancel = self.cancel.child_token();
                let run = self.node_run(node, sender, cancel.clone());
                self.crew.employ(
                    node,
                    &self.flow.nodes[node].id,
                    Job { work, run, effects, cancel },
                    self.options.node_timeout,
                );
                false
            }
        }
    }

    fn node_run(&self, node: NodeIndex, effects: UnboundedSender<Effect>, cancel: CancellationToken) -> NodeRun {
        let configs = self.flow.nodes[node].configs.clone();
        NodeRun::sharing(self.machine.own_ports(node), configs, self.context.clone(), cancel, effects)
    }

    /// Take in news; true when a node has ended.
    fn take(&mut self, news: Option<News>) -> bool {
        match news {
            Some(News::Effect(node, effect)) => {
                self.machine.effect(node, effect);
                false
            }
            Some(News::Ended(node, end, began)) => {
                self.machine.finish(node, end);
                self.observe(node, true, began);
                true
            }
            None => false, // cannot be: the crew holds a sender
        }
    }

    fn observe(&self, node: NodeIndex, waits: bool, began: Instant) {
        if let Some(observer) = self.observer {
            observer::tell(observer, &self.flow.nodes[node], waits, began, self.machine.state.nodes[node].status);
        }
    }

    /// Send the events that are due.
    async fn tell(&mut self) {
        while let Some(event) = self.machine.next_event() {
            self.events.send(event).await; // without a receiver the flow runs on
        }
    }

    fn overdue(&self) -> bool {
        self.machine.started().elapsed() > self.options.flow_timeout
    }

    fn timed_out(&self) -> End {
        End::Failed { error: format!("the flow's time limit of {:?} is over", self.options.flow_timeout) }
    }
}
