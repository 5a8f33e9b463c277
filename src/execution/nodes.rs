//! What is measured of a flow's nodes.

use crate::{
    flow::{
        Flow, Status,
        engine::{NodeEnd, Observer, Outcome},
    },
    metrics::{self, Metrics},
    trace::Trace,
};

/// Measures the nodes of a run.
pub(super) struct Watch<'a> {
    metrics: &'a Metrics,
    trace: &'a Trace,
}

impl<'a> Watch<'a> {
    /// Counted here, and part of this trace.
    pub fn new(metrics: &'a Metrics, trace: &'a Trace) -> Watch<'a> {
        Watch { metrics, trace }
    }

    /// Count all nodes that had their turn in a run that has ended. Once a run, so that a node that only computes costs
    /// nothing when it ends.
    pub fn count(&self, flow: &Flow, outcome: &Outcome) {
        // The categories are few texts of the catalogue, so that they are known by their places.
        let mut seen: Vec<(*const u8, &metrics::Category)> = Vec::new();
        for (category, node) in flow.categories().zip(&outcome.nodes).filter(|(_, node)| node.ran) {
            let place = category.as_ptr();
            let found = seen.iter().find(|(known, _)| *known == place).map(|(_, instruments)| *instruments);
            let instruments = found.unwrap_or_else(|| {
                let instruments = self.metrics.nodes.of(category);
                seen.push((place, instruments));
                instruments
            });
            instruments.turns.of(became(node.status)).increment();
        }
    }
}

fn became(status: Status) -> metrics::NodeOutcome {
    match status {
        Status::Completed => metrics::NodeOutcome::Completed,
        Status::Error => metrics::NodeOutcome::Failed,
        _ => metrics::NodeOutcome::Skipped,
    }
}

impl Observer for Watch<'_> {
    fn wants_all(&self) -> bool {
        self.trace.is_on()
    }

    fn ended(&self, node: &NodeEnd<'_>) {
        if node.waits {
            self.metrics.nodes.of(node.category).duration.took(node.ended.duration_since(node.began));
        }
        self.trace.node(node);
    }
}
