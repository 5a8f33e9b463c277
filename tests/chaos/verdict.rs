//! What must hold, checked at the end on the ledger, the database's audit, and what clients were told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clients::{ENDED, Known, Told};
use crate::database::Link;
use crate::ledger::{Time, Work};
use crate::work::{CHILDREN, Kind};
use crate::workers::{FAMILIES, IN_ONE_WORKER, LEASE, Life, SIGNALS};

/// A worker that has lost an execution notices by the end of its lease, wherever the database is; on a loaded machine it takes
/// a moment longer. So long a node may go on, or begin, after its worker's claim has ended; time in which the process was frozen
/// doesn't count.
pub const WINDOW: Time = LEASE.as_micros() as Time + 2_000_000;
/// What a dead worker had is back on the queue within this, whatever happens to the database meanwhile.
const RECOVERY: Time = LEASE.as_micros() as Time + 30_000_000;
/// A connection's end is noticed by the ledger a moment later.
const NOTICE: Time = 250_000;
/// Violations that are shown.
const SHOWN: usize = 20;

/// What went wrong, and figures. Clones are the same.
#[derive(Clone, Default)]
pub struct Violations(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    texts: Vec<String>,
    figures: BTreeMap<&'static str, Time>,
}

impl Violations {
    /// Something that must not be.
    pub fn add(&self, text: String) {
        let mut found = self.lock();
        if found.texts.len() < SHOWN {
            eprintln!("VIOLATION: {text}");
        }
        found.texts.push(text);
    }

    /// Something that took so long; the longest is kept.
    pub fn figure(&self, name: &'static str, time: Time) {
        let mut found = self.lock();
        let longest = found.figures.entry(name).or_default();
        *longest = time.max(*longest);
    }

    /// All of them.
    pub fn texts(&self) -> Vec<String> {
        self.lock().texts.clone()
    }

    /// The longest times, in seconds.
    pub fn figures(&self) -> Vec<(&'static str, f64)> {
        self.lock().figures.iter().map(|(name, time)| (*name, *time as f64 / 1e6)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim: who had an execution, from when to when.
#[derive(Debug)]
struct Claim {
    life: Option<usize>,
    from: Time,
    to: Time,
    /// What it ended with: the status that came next.
    next: String,
}

/// All that is known about a workflow.
#[derive(Debug, Default)]
struct History {
    claims: Vec<Claim>,
    recorded: Option<Time>,
    ended: Vec<String>,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Executions accepted from clients.
    pub accepted: usize,
    /// Executions in all, children included.
    pub executions: i64,
    /// By how they ended.
    pub statuses: Vec<(String, i64)>,
    /// Accepted, and never ended.
    pub lost: usize,
    /// Claims.
    pub claims: usize,
    /// Flows that ran again because their worker was gone before they were recorded.
    pub again: usize,
    /// Flows that ran although they were recorded, children and ends that came twice.
    pub duplicates: usize,
    /// Nodes that went on, or began, after their worker's claim had ended: within the window.
    pub overlaps: usize,
    /// Lives of workers.
    pub lives: usize,
}

/// Judges a finished run.
pub struct Judge<'a> {
    pub link: &'a Link,
    pub known: &'a Known,
    pub lives: Vec<Life>,
    pub work: Vec<Work>,
    pub violations: &'a Violations,
}

impl Judge<'_> {
    /// Check everything.
    pub async fn judge(&self) -> Counts {
        let mut counts = Counts { lives: self.lives.len(), ..Counts::default() };
        let histories = self.histories().await;
        let parts = self.parts().await;
        self.outcomes(&mut counts).await;
        self.rows(&mut counts).await;
        self.families(&mut counts).await;
        self.ends(&histories, &mut counts);
        self.nodes(&histories, &parts, &mut counts);
        self.recoveries(&histories);
        self.in_one_worker();
        counts
    }

    fn wrong(&self, text: String) {
        self.violations.add(text);
    }

    /// The life in which a worker claimed something.
    fn life_at(&self, worker: &str, at: Time) -> Option<usize> {
        let runs = |life: &Life| life.worker == worker && life.started <= at && life.ended.is_none_or(|end| at <= end);
        // The claim of a life that was killed at that moment may be seen a moment later.
        let late = |life: &Life| life.worker == worker && life.started <= at;
        self.lives.iter().rposition(runs).or_else(|| self.lives.iter().rposition(late))
    }

    async fn histories(&self) -> HashMap<String, History> {
        let mut histories: HashMap<String, History> = HashMap::new();
        let mut token: HashMap<String, String> = HashMap::new();
        let mut from = 0_i64;
        loop {
            // In pieces: there are some hundred thousand.
            let sql = "SELECT number, at, workflow, what, executor, token, before FROM chaos_audit WHERE number > $1
                        ORDER BY number LIMIT 20000";
            let rows = self.link.query(sql, &[&from]).await;
            let Some(last) = rows.last() else { return histories };
            from = last.get(0);
            for row in rows {
                let (at, id, what): (i64, String, String) = (row.get(1), row.get(2), row.get(3));
                let (executor, owner): (Option<String>, Option<String>) = (row.get(4), row.get(5));
                let before: Option<String> = row.get(6);
                let history = histories.entry(id.clone()).or_default();
                match what.as_str() {
                    "flow recorded" => history.recorded = Some(at),
                    "step changed" => self.wrong(format!("{id}: its recorded step {before:?} was changed")),
                    status => {
                        if let Some(claim) = history.claims.last_mut().filter(|claim| claim.to == Time::MAX) {
                            (claim.to, claim.next) = (at, status.to_owned());
                        }
                        if matches!(before.as_deref(), Some("SUCCESS" | "ERROR")) {
                            self.wrong(format!("{id} was {before:?} and became {status}"));
                        }
                        if status == "PENDING"
                            && let Some(owner) = owner
                            && token.insert(id.clone(), owner.clone()).as_ref() != Some(&owner)
                        {
                            let life = executor.and_then(|worker| self.life_at(&worker, at));
                            history.claims.push(Claim { life, from: at, to: Time::MAX, next: String::new() });
                        } else if status != "PENDING" && status != "ENQUEUED" {
                            history.ended.push(status.to_owned());
                        }
                    }
                }
            }
        }
    }

    /// The executions of children, by parent's part in the ledger: the root's id and the event's name.
    async fn parts(&self) -> HashMap<(String, String), String> {
        let sql = "SELECT id, root_execution_id, external_events -> 0 ->> 'eventName' FROM fireflow_executions
                    WHERE parent_execution_id IS NOT NULL";
        let rows = self.link.query(sql, &[]).await;
        rows.iter().filter_map(|row| Some(((row.get(1), row.get::<_, Option<String>>(2)?), row.get(0)))).collect()
    }

    /// Each accepted execution has ended, and as its client was told.
    async fn outcomes(&self, counts: &mut Counts) {
        let (ended, lost) = {
            let known = self.known.lock();
            let lost: Vec<String> = known.under_way.keys().cloned().collect();
            (known.ended.clone(), lost)
        };
        counts.accepted = ended.len() + lost.len();
        counts.lost = lost.len();
        for id in &lost {
            let sql = "SELECT status, executor_id, queue_name FROM dbos.workflow_status WHERE workflow_uuid = $1";
            let row = self.link.query(sql, &[id]).await;
            let row = row
                .first()
                .map(|row| (row.get::<_, String>(0), row.get::<_, Option<String>>(1), row.get::<_, Option<String>>(2)));
            self.wrong(format!("{id} was accepted and has not ended: {row:?}"));
        }
        let ids: Vec<String> = ended.keys().cloned().collect();
        for ids in ids.chunks(2000) {
            let rows = self.link.query(ENDED, &[&ids]).await;
            if rows.len() != ids.len() {
                self.wrong(format!("{} of {} ended executions are no longer so", ids.len() - rows.len(), ids.len()));
            }
            for row in rows {
                let (id, status): (String, String) = (row.get(0), row.get(1));
                let now = Told::new(&status, row.get(2), row.get(3));
                let told = &ended[&id].1;
                if now != *told {
                    self.wrong(format!("{id}: its client was told {told:?}, and now it is {now:?}"));
                }
            }
        }
    }

    /// What the tables have to say: nothing left, no gaps, each row in accord with the others.
    async fn rows(&self, counts: &mut Counts) {
        counts.executions = self.link.number("SELECT count(*) FROM dbos.workflow_status").await;
        let sql = "SELECT status, count(*) FROM dbos.workflow_status GROUP BY 1 ORDER BY 1";
        counts.statuses = self.link.query(sql, &[]).await.iter().map(|row| (row.get(0), row.get(1))).collect();
        let checks = [
            (
                "is left active",
                "SELECT workflow_uuid FROM dbos.workflow_status WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED')",
            ),
            (
                "has an execution's row that says something else than its workflow's",
                "SELECT w.workflow_uuid FROM dbos.workflow_status w LEFT JOIN fireflow_executions e ON e.id = workflow_uuid
                  WHERE w.status = 'SUCCESS' AND e.status IS DISTINCT FROM 'completed'
                     OR w.status = 'ERROR' AND e.status = 'completed' OR w.status = 'CANCELLED' AND e.status = 'completed'",
            ),
            (
                "has gaps in its stream",
                "SELECT workflow_uuid FROM dbos.streams WHERE key = 'events' GROUP BY 1
                 HAVING count(*) <> max(\"offset\") + 1",
            ),
            (
                "has a stream that doesn't end with its flow's end",
                "SELECT w.workflow_uuid FROM dbos.workflow_status w
                  WHERE status = 'SUCCESS' AND (
                        SELECT value::jsonb #>> '{event,type}' FROM dbos.streams s
                         WHERE s.workflow_uuid = w.workflow_uuid AND key = 'events' ORDER BY \"offset\" DESC LIMIT 1)
                        IS DISTINCT FROM 'flow:completed'",
            ),
            (
                "has ended and left its pin",
                "SELECT workflow_id FROM fireflow_flow_pins p JOIN dbos.workflow_status w ON workflow_uuid = workflow_id
                  WHERE w.status IN ('SUCCESS', 'ERROR')",
            ),
            (
                "has gaps in its steps",
                "SELECT o.workflow_uuid FROM dbos.operation_outputs o JOIN dbos.workflow_status w USING (workflow_uuid)
                  WHERE w.status = 'SUCCESS' GROUP BY 1
                 HAVING count(*) <> max(function_id) + 1 AND NOT bool_or(function_name = 'DBOS.recv')",
            ),
            (
                "has a flow that isn't recorded once",
                "SELECT w.workflow_uuid FROM dbos.workflow_status w WHERE status = 'SUCCESS' AND (
                        SELECT count(*) FROM dbos.operation_outputs o
                         WHERE o.workflow_uuid = w.workflow_uuid AND function_name = 'executeFlowAtomic') <> 1",
            ),
        ];
        for (what, sql) in checks {
            for row in self.link.query(sql, &[]).await {
                self.wrong(format!("{} {what}", row.get::<_, String>(0)));
            }
        }
    }

    /// Each family has its children, each once.
    async fn families(&self, counts: &mut Counts) {
        let families: HashSet<String> = {
            let known = self.known.lock();
            let families =
                known.ended.iter().filter(|(_, (kind, told))| *kind == Kind::Family && told.status == "SUCCESS");
            families.map(|(id, _)| id.clone()).collect()
        };
        let sql = "SELECT e.root_execution_id, e.external_events -> 0 ->> 'eventName', w.status
                     FROM fireflow_executions e JOIN dbos.workflow_status w ON w.workflow_uuid = e.id
                    WHERE e.parent_execution_id IS NOT NULL";
        let mut found: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for row in self.link.query(sql, &[]).await {
            let child = (row.get::<_, Option<String>>(1).unwrap_or_default(), row.get(2));
            found.entry(row.get(0)).or_default().push(child);
        }
        for family in families {
            let mut children = found.remove(&family).unwrap_or_default();
            children.sort();
            let whole = CHILDREN.iter().map(|name| ((*name).to_owned(), "SUCCESS".to_owned()));
            if !children.iter().cloned().eq(whole) {
                counts.duplicates += children.len().saturating_sub(CHILDREN.len());
                self.wrong(format!("{family} has these children: {children:?}"));
            }
        }
    }

    /// Nothing ends twice.
    fn ends(&self, histories: &HashMap<String, History>, counts: &mut Counts) {
        for (id, history) in histories {
            counts.claims += history.claims.len();
            let final_ones = history.ended.iter().filter(|status| *status == "SUCCESS" || *status == "ERROR");
            let final_ones: Vec<_> = final_ones.collect();
            if final_ones.len() > 1 {
                counts.duplicates += 1;
                self.wrong(format!("{id} ended {} times: {final_ones:?}", final_ones.len()));
            }
        }
    }

    /// Nodes run only for the worker that has their execution, and never again when their flow is recorded.
    fn nodes(
        &self,
        histories: &HashMap<String, History>,
        parts: &HashMap<(String, String), String>,
        counts: &mut Counts,
    ) {
        let lives: HashMap<&str, usize> =
            self.lives.iter().enumerate().map(|(index, life)| (life.name.as_str(), index)).collect();
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        for work in &self.work {
            if !seen.insert((&work.execution, &work.part)) {
                counts.again += 1;
            }
            let key = (work.execution.clone(), work.part.clone());
            let workflow = parts.get(&key).unwrap_or(&work.execution);
            let Some(&life) = lives.get(work.life.as_str()) else {
                self.wrong(format!("{work:?} ran in a life that nobody began"));
                continue;
            };
            let none = History::default();
            let history = histories.get(workflow).unwrap_or(&none);
            let claim = history.claims.iter().rfind(|claim| claim.life == Some(life) && claim.from <= work.begin);
            let Some(claim) = claim else {
                self.wrong(format!("{work:?} ran for a worker that hadn't claimed it: {history:?}"));
                continue;
            };
            if history.recorded.is_some_and(|recorded| claim.from > recorded) {
                counts.duplicates += 1;
                self.wrong(format!("{work:?} ran again after its flow was recorded: {history:?}"));
            }
            // It went on for as long as it is known to have: one that was cut had ended before.
            let last = if work.cut { work.begin } else { work.end.unwrap_or(work.begin) };
            let late = self.lives[life].awake(claim.to.min(last), last);
            if late > 0 {
                counts.overlaps += 1;
                self.violations.figure("longest run after a claim's end", late);
            }
            if late > WINDOW {
                self.wrong(format!("{work:?} went on {late} µs after its worker had lost it: {history:?}"));
            }
        }
    }

    /// What a killed worker had is soon on the queue again.
    fn recoveries(&self, histories: &HashMap<String, History>) {
        for (id, history) in histories {
            for claim in &history.claims {
                let Some(life) = claim.life.map(|life| &self.lives[life]) else { continue };
                let Some(died) = life.ended.filter(|died| life.killed && claim.from <= *died && claim.to > *died)
                else {
                    continue;
                };
                let took = claim.to.saturating_sub(died);
                if claim.next == "ENQUEUED" {
                    self.violations.figure("longest recovery after a kill", took);
                }
                if took > RECOVERY {
                    self.wrong(format!("{id} was with {} when it was killed, and stayed so for {took} µs", life.name));
                }
            }
        }
    }

    /// No worker runs more of a queue at once than it may.
    fn in_one_worker(&self) {
        let queue = |work: &Work| {
            let known = self.known.lock();
            known.ended.get(&work.execution).map(|(kind, _)| match kind {
                Kind::Family => FAMILIES,
                Kind::Signal => SIGNALS,
                _ => "",
            })
        };
        // Begin and end of each node on the main queue, by life.
        let mut moments: HashMap<&str, Vec<(Time, i32, &str)>> = HashMap::new();
        for work in self.work.iter().filter(|work| queue(work) == Some("")) {
            let end = work.end.unwrap_or(work.begin);
            let end = if work.cut { end - NOTICE } else { end };
            if end > work.begin {
                let moments = moments.entry(&work.life).or_default();
                moments.extend([(work.begin, 1, work.execution.as_str()), (end, -1, work.execution.as_str())]);
            }
        }
        for (life, mut moments) in moments {
            moments.sort();
            let mut inside: HashMap<&str, i32> = HashMap::new();
            for (at, change, execution) in moments {
                *inside.entry(execution).or_default() += change;
                inside.retain(|_, nodes| *nodes > 0);
                if inside.len() > IN_ONE_WORKER {
                    self.wrong(format!("{life} ran {} executions of its queue at {at}: {inside:?}", inside.len()));
                    break;
                }
            }
        }
    }
}
