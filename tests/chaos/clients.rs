//! The clients: they keep so many executions under way, hear how each ends, and now and then cancel, resume, signal and command.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::database::Link;
use crate::verdict::Violations;
use crate::work::{Kind, Order};

/// Executions under way.
const UNDER_WAY: usize = 160;
/// Pause between looks for those that have ended.
const LOOK: Duration = Duration::from_millis(100);

const ENQUEUE: &str = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[$2::text::json],
                              class_name => 'ExecutionWorkflows', workflow_id => $3)";
const SEND: &str = "SELECT dbos.send_message($1, $2::text::json, $3)";
/// As SDKs do.
const CANCEL: &str = "UPDATE dbos.workflow_status
      SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL, started_at_epoch_ms = NULL,
          completed_at = (extract(epoch FROM now()) * 1000)::bigint
    WHERE workflow_uuid = $1 AND status NOT IN ('SUCCESS', 'ERROR') RETURNING 1";
const RESUME: &str = "UPDATE dbos.workflow_status
      SET status = 'ENQUEUED', owner_xid = NULL, queue_name = '_dbos_internal_queue', deduplication_id = NULL,
          recovery_attempts = 0, workflow_deadline_epoch_ms = NULL, started_at_epoch_ms = NULL, completed_at = NULL
    WHERE workflow_uuid = $1 AND status NOT IN ('SUCCESS', 'ERROR') RETURNING 1";
/// Of these, the ones that have ended.
pub const ENDED: &str = "SELECT w.workflow_uuid, w.status, o.output, o.error
       FROM dbos.workflow_status w LEFT JOIN dbos.workflow_output o USING (workflow_uuid)
      WHERE w.workflow_uuid = ANY($1) AND w.status NOT IN ('ENQUEUED', 'PENDING', 'DELAYED')";

/// How an execution ended, as its client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its status.
    pub status: String,
    /// The hash of result and error.
    pub outcome: u64,
}

impl Told {
    /// From the row.
    pub fn new(status: &str, output: Option<&str>, error: Option<&str>) -> Told {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        (output, error).hash(&mut hasher);
        Told { status: status.into(), outcome: hasher.finish() }
    }
}

/// What the clients know. Clones know the same.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<Knowledge>>);

#[derive(Default)]
pub struct Knowledge {
    /// Accepted, and not known to have ended.
    pub under_way: HashMap<String, Order>,
    /// Known to have ended.
    pub ended: HashMap<String, (Kind, Told)>,
    /// Cancelled by a client.
    cancelled: HashSet<String>,
    /// To be resumed by a client, or just resumed.
    resuming: HashSet<String>,
    /// What clients did besides enqueueing.
    pub actions: BTreeMap<&'static str, u64>,
}

impl Known {
    /// Look at it.
    pub fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An execution that the database has.
    pub fn accepted(&self, order: &Order) {
        self.lock().under_way.insert(order.id.clone(), order.clone());
    }

    /// A client did this.
    pub fn did(&self, what: &'static str) {
        *self.lock().actions.entry(what).or_default() += 1;
    }
}

/// All clients.
pub struct Clients {
    pub link: Link,
    pub known: Known,
    pub violations: Violations,
}

impl Clients {
    /// Enqueue until `until`, and look after what was enqueued until `stop`.
    pub async fn run(self: &Arc<Clients>, seed: u64, until: Instant, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let listening = tasks.spawn({
            let (clients, stop) = (self.clone(), stop.clone());
            async move { clients.listen(stop).await }
        });
        let mut random = SmallRng::seed_from_u64(seed);
        let mut number = 0;
        while Instant::now() < until && !stop.is_cancelled() {
            let free = UNDER_WAY.saturating_sub(self.known.lock().under_way.len());
            let mut orders = Vec::new();
            for _ in 0..free.min(32) {
                number += 1;
                orders.push(Order::draw(number, &mut random));
            }
            let accepted = orders.iter().map(|order| async move {
                let task = order.task().to_string();
                self.link.query(ENQUEUE, &[&order.queue(), &task, &order.id]).await;
            });
            futures_util::future::join_all(accepted).await;
            for order in orders {
                self.known.accepted(&order);
                let (clients, random) = (self.clone(), SmallRng::seed_from_u64(random.random()));
                tasks.spawn(async move { clients.attend(order, random).await });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tasks.close();
        stop.cancelled().await;
        listening.await.unwrap();
    }

    /// What else a client has to do with an execution.
    async fn attend(&self, order: Order, mut random: SmallRng) {
        let id = &order.id;
        let mut pause = |longest: u64| Duration::from_millis(random.random_range(0..longest));
        let (first, second, third) = (pause(1500), pause(1500), pause(3000));
        if order.kind == Kind::Signal {
            tokio::time::sleep(first).await;
            self.send(id, "START_SIGNAL", "GO").await;
            self.known.did("start signals");
        }
        if order.kind == Kind::Slow && random.random_bool(0.3) {
            tokio::time::sleep(first).await;
            self.send(id, "COMMAND", "PAUSE").await;
            tokio::time::sleep(second).await;
            self.send(id, "COMMAND", "RESUME").await;
            self.known.did("pauses, with a resume");
        }
        let likely = match order.kind {
            Kind::Slow => 0.15,
            Kind::Plain | Kind::Parallel | Kind::Signal => 0.015,
            _ => 0.0,
        };
        if !random.random_bool(likely) {
            return;
        }
        tokio::time::sleep(second / 3).await;
        let resumes = random.random_bool(0.6);
        {
            let mut known = self.known.lock();
            known.cancelled.insert(id.clone());
            if resumes {
                known.resuming.insert(id.clone());
            }
        }
        self.link.query(CANCEL, &[id]).await;
        self.known.did("cancels");
        if resumes {
            // At once, or when the worker has noticed the cancel.
            tokio::time::sleep(third).await;
            // It goes on where the internal queue is looked at: perhaps in a worker whose executions wait for their signal.
            self.send(id, "START_SIGNAL", "GO").await;
            self.link.query(RESUME, &[id]).await;
            self.known.did("resumes");
            let mut known = self.known.lock();
            known.cancelled.remove(id);
            known.resuming.remove(id);
        }
    }

    async fn send(&self, id: &str, topic: &str, message: &str) {
        self.link.query(SEND, &[&id, &json!(message).to_string(), &topic]).await;
    }

    /// Hear how executions end.
    async fn listen(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::time::sleep(LOOK).await;
            let ids: Vec<String> = self.known.lock().under_way.keys().cloned().collect();
            for row in self.link.query(ENDED, &[&ids]).await {
                let (id, status): (String, String) = (row.get(0), row.get(1));
                let (output, error): (Option<String>, Option<String>) = (row.get(2), row.get(3));
                let (output, error) = (output.as_deref(), error.as_deref());
                let mut known = self.known.lock();
                // It goes on, or has just been resumed. One that nobody cancelled is found at the end, as not ended.
                if status == "CANCELLED" && (known.resuming.contains(&id) || !known.cancelled.contains(&id)) {
                    continue;
                }
                let Some(order) = known.under_way.remove(&id) else { continue };
                let judged = match status.as_str() {
                    "CANCELLED" => Ok(()),
                    _ => order.judge(&status, output, error),
                };
                known.ended.insert(id, (order.kind, Told::new(&status, output, error)));
                drop(known);
                if let Err(wrong) = judged {
                    self.violations.add(wrong);
                }
            }
        }
    }
}
