//! `executions retry`

use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use super::{
    destination::Destination,
    list::word,
    report::{self, Told},
    selection::{Selected, Selection},
};
use crate::{
    cli::{Global, access::Access, exit::usage},
    execution::{MARKS, START_TOPIC, step_at_fault},
    sysdb::{
        INTERNAL_QUEUE,
        operator::{Again, Signal, Standing, Status},
    },
};

/// What didn't come to a good end.
const STATES: [Status; 3] = [Status::Failed, Status::Parked, Status::Cancelled];

/// Run executions again that failed, were parked or were cancelled, under their own ids.
///
/// A failed one goes back to the step that failed, which for most is the run of its flow: steps from there on, and its outcome,
/// are forgotten (a rewind, in DBOS's words). A parked or cancelled one keeps its steps, and goes on with them (a resume). The account of
/// crashes is closed. They go back to the queue that they came from where the row still names it, as that of a failed one does;
/// otherwise to DBOS's internal queue, which every worker serves whatever the limits and pauses of its own queues.
///
/// All of them go on at the same moment, parents and children; a child alone is refused while its parent is failed, cancelled or
/// parked, since a worker would stop it. Exit code 1 when one of them is unknown, runs, waits, or has completed. JSON: [{id, was,
/// done, result, error}].
#[derive(Debug, Args)]
pub struct Retry {
    #[command(flatten)]
    selection: Selection,
    /// Those of their children that failed, were parked or were cancelled as well, and of theirs
    #[arg(long)]
    tree: bool,
    /// Forget all steps, and begin at the beginning
    #[arg(long, conflicts_with = "from_step")]
    from_start: bool,
    /// Forget the steps from this number on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    from_step: Option<i32>,
    #[command(flatten)]
    destination: Destination,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Retry {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        const CHANGED: [&str; 8] = [
            "workflow_status",
            "workflow_output",
            "operation_outputs",
            "streams",
            "notifications",
            "workflow_events",
            "workflow_events_history",
            "crashes",
        ];
        let access = Access::to_change(global, &CHANGED).await?;
        let operator = &access.operator;
        let queue = self.destination.queue(&access).await?;
        let Some(Selected { mut ids, only }) = self.selection.ids(&access, "retry", &STATES).await? else {
            return Ok(report::nothing_done());
        };
        if self.tree {
            let states = if only.is_empty() { &STATES[..] } else { &only };
            ids.extend(operator.descendants(&ids, states).await?);
        }
        if self.from_step.is_some() && ids.len() > 1 {
            return Err(usage(format!("--from-step is for one execution; these are {}", ids.len())));
        }
        let standings = operator.standings(&ids).await?;
        let refused = refusals(&ids, &standings, &only);
        let meant: Vec<&Standing> =
            ids.iter().filter(|id| !refused.contains_key(*id)).filter_map(|id| standings.get(id)).collect();
        let failed = meant.iter().filter(|one| one.status == Status::Failed.stored()).map(|one| one.id.clone());
        let marks = match (self.from_start, self.from_step) {
            (false, None) => operator.marks(&failed.collect::<Vec<_>>(), &MARKS).await?,
            _ => HashMap::new(),
        };
        let again: Vec<Again> = meant
            .iter()
            .map(|one| {
                let steps = marks.get(&one.id).map_or(&[][..], Vec::as_slice);
                again(one, self.from_step.or(self.from_start.then_some(0)), steps, queue)
            })
            .collect();
        let go = json!("GO");
        let changed = operator.run_again(&again, &Signal { topic: START_TOPIC, message: &go }).await?;
        let mut done: HashMap<String, Told> = again
            .iter()
            .zip(changed)
            .map(|(one, changed)| (one.id.clone(), Told::of(changed, &said(one), |_| String::new())))
            .collect();
        let told: Vec<Told> = ids
            .into_iter()
            .filter_map(|id| match refused.get(&id) {
                Some(why) => {
                    let was = standings.get(&id).map(|standing| standing.status.clone());
                    Some(Told { id, was, result: Err(why.clone()) })
                }
                None => done.remove(&id),
            })
            .collect();
        let code = report::tell(&told, None, self.json)?;
        report::warn_of_versions(&access, &told).await;
        Ok(code)
    }
}

/// Which of these can't be retried, and why not. By a filter, only those in one of these states.
fn refusals(ids: &[String], standings: &HashMap<String, Standing>, only: &[Status]) -> HashMap<String, String> {
    let mut refused = HashMap::new();
    let mut open: HashSet<&str> = HashSet::new();
    for id in ids {
        let Some(standing) = standings.get(id) else {
            refused.insert(id.clone(), "there is no such execution".to_owned());
            continue;
        };
        let why = match Status::of(&standing.status) {
            Some(status) if !only.is_empty() && !only.contains(&status) => {
                format!("it is {} by now, and was left alone", word(&standing.status))
            }
            Some(status) if STATES.contains(&status) => {
                open.insert(id);
                continue;
            }
            Some(Status::Completed) => "it has completed, which stands; `executions fork` makes a new one of it".into(),
            _ => format!("it is {}; cancel it first", word(&standing.status)),
        };
        refused.insert(id.clone(), why);
    }
    // A child is stopped while its parent has ended badly; of those that are refused for it, the children are alone as well.
    loop {
        let alone = open.iter().filter_map(|id| {
            let (parent, status) = standings.get(*id)?.parent.as_ref()?;
            let ended = Status::of(status).is_some_and(|status| STATES.contains(&status));
            (ended && !open.contains(parent.as_str())).then_some((*id, parent, status))
        });
        let alone: Vec<_> = alone.collect();
        if alone.is_empty() {
            return refused;
        }
        for (id, parent, status) in alone {
            open.remove(id);
            let why = format!(
                "its parent \"{parent}\" is {}, so a worker would stop it at once; retry the parent with it (--tree)",
                word(status)
            );
            refused.insert(id.to_owned(), why);
        }
    }
}

/// What becomes of one. `from` is the step that somebody asked for, `marks` are those that tell where it failed.
fn again(one: &Standing, from: Option<i32>, marks: &[(i32, String, bool, bool)], queue: Option<&str>) -> Again {
    // One that failed has an outcome, which has to go, also where no step has to.
    let step = from.or_else(|| (one.status == Status::Failed.stored()).then(|| step_at_fault(marks)));
    // A partition is one of its own queue.
    let partition = one.partition.clone().filter(|_| queue.is_none());
    let queue = queue.or(one.queue.as_deref()).unwrap_or(INTERNAL_QUEUE).to_owned();
    Again { id: one.id.clone(), was: one.status.clone(), step, queue, partition }
}

fn said(one: &Again) -> String {
    let from = match one.step {
        None | Some(i32::MAX) => "from its recorded steps".to_owned(),
        Some(0) => "from its start".to_owned(),
        Some(step) => format!("from step {step}"),
    };
    format!("runs again {from}, on queue {}", one.queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(id: &str, status: Status, parent: Option<(&str, Status)>) -> (String, Standing) {
        let standing = Standing {
            id: id.into(),
            status: status.stored().into(),
            queue: (status == Status::Failed).then(|| "q".into()),
            partition: Some("p".into()),
            parent: parent.map(|(parent, status)| (parent.into(), status.stored().into())),
        };
        (id.to_owned(), standing)
    }

    #[test]
    fn a_child_is_retried_with_its_parent_or_not_at_all() {
        let standings = HashMap::from([
            standing("root", Status::Cancelled, None),
            standing("child", Status::Failed, Some(("root", Status::Cancelled))),
            standing("grandchild", Status::Parked, Some(("child", Status::Failed))),
            standing("free", Status::Failed, Some(("done", Status::Completed))),
            standing("busy", Status::Running, None),
            standing("done", Status::Completed, None),
        ]);
        let refused = |ids: &[&str], only: &[Status]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let mut refused: Vec<_> = refusals(&ids, &standings, only).into_iter().collect();
            refused.sort();
            refused
        };
        assert!(refused(&["grandchild", "child", "root", "free"], &[]).is_empty());
        let alone = refused(&["grandchild", "child"], &[]);
        assert!(alone[0].1.contains("its parent \"root\" is cancelled"), "{alone:?}");
        assert!(alone[1].1.contains("its parent \"child\" is failed"), "{alone:?}");
        let others = refused(&["busy", "done", "none"], &[]);
        let said = ["it is running; cancel it first", "it has completed", "there is no such execution"];
        assert!(others.iter().zip(said).all(|((_, why), said)| why.starts_with(said)), "{others:?}");
        assert_eq!(refused(&["free", "root"], &[Status::Failed])[0].1, "it is cancelled by now, and was left alone");
    }

    #[test]
    fn what_failed_is_always_rewound_and_the_rest_goes_on() {
        let failed = standing("a", Status::Failed, None).1;
        // Also where no step tells what failed.
        let none = again(&failed, None, &[], None);
        assert_eq!((none.step, none.queue.as_str(), none.partition.as_deref()), (Some(i32::MAX), "q", Some("p")));
        assert_eq!(said(&none), "runs again from its recorded steps, on queue q");
        let early = again(&failed, None, &[(3, "updateToFailed".into(), true, false)], Some("other"));
        assert_eq!((early.step, early.queue.as_str(), early.partition), (Some(3), "other", None));
        let parked = again(&standing("a", Status::Parked, None).1, None, &[], None);
        assert_eq!((parked.step, parked.queue.as_str()), (None, INTERNAL_QUEUE));
        let asked = again(&standing("a", Status::Cancelled, None).1, Some(i32::MAX), &[], None);
        assert_eq!(asked.step, Some(i32::MAX));
    }
}
