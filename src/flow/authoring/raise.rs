//! A stored flow as a file. What is written is lowered again and compared; where the short form says something else than
//! what is stored, the longer one is taken.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::equal::{Difference, What, differences};
use super::names::{metadata_by_id, names};
use super::words::Raiser;
use super::{Syntax, layout, lower, write};
use crate::flow::LoadError;
use crate::flow::model::{Flow, Json as Object};
use crate::nodes::Registry;

/// A file, and what of the stored flow it doesn't say.
#[derive(Clone, Debug)]
pub struct Raised {
    /// The file's content.
    pub document: Object,
    /// What is lost, in words.
    pub losses: Vec<String>,
}

impl Raised {
    /// The file in YAML.
    pub fn yaml(&self) -> String {
        write::yaml(&self.document)
    }
}

/// What is written longer than it might be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// No typed inputs stand for the first nodes.
    Unfolded,
    /// The port's type is written out.
    Explicit,
    /// Its value is written out, also where it looks like the default.
    Valued,
    /// Its edges are listed, in place of standing in its value.
    Listed,
}

/// What is written longer, by node and port.
#[derive(Clone, Default)]
pub(super) struct Ways(BTreeSet<(Way, usize, String)>);

/// Write a stored flow as a file.
///
/// # Errors
/// It can't be loaded at all.
pub fn raise(stored: &Json, registry: &Registry) -> Result<Raised, LoadError> {
    const PASSES: usize = 6;
    const TRIALS: usize = 64;
    let loaded = Flow::load(stored, registry)?;
    let flow = &loaded.flow;
    let mut losses: Vec<String> =
        loaded.problems.iter().filter(|problem| problem.kind.loses()).map(|problem| problem.to_string()).collect();
    let groups: Vec<Option<usize>> = flow.nodes.iter().map(|node| node.parent).collect();
    let between: Vec<_> = flow.edges.iter().map(|edge| (edge.from.node, edge.to.node)).collect();
    let raiser = Raiser {
        flow,
        metadata: metadata_by_id(stored),
        names: names(flow, stored),
        spots: layout::spots(&groups, &between),
    };
    let mut ways = Ways::default();
    let mut found = raiser.compare(&ways, registry);
    for _ in 0..PASSES {
        let Ok(differences) = &found else { break };
        if differences.is_empty() || !ways.learn(differences, flow.inputs.len()) {
            break;
        }
        found = raiser.compare(&ways, registry);
    }
    let same = |found: &Result<Vec<Difference>, _>| found.as_ref().is_ok_and(Vec::is_empty);
    if same(&found) {
        // What was written longer only because of something else may be short again; the longest ways first.
        for way in ways.0.clone().iter().rev().take(TRIALS) {
            let mut tried = ways.clone();
            tried.0.remove(way);
            if same(&raiser.compare(&tried, registry)) {
                ways = tried;
            }
        }
    }
    let document = raiser.document(&ways, &mut losses);
    losses.extend(match found {
        Ok(differences) => differences.iter().map(|difference| raiser.describe(difference)).collect(),
        Err(messages) => messages,
    });
    losses.dedup();
    Ok(Raised { document, losses })
}

impl Ways {
    pub fn has(&self, way: Way, node: usize, port: &str) -> bool {
        self.0.contains(&(way, node, port.to_owned()))
    }

    /// Write what differs in another way. False: there is none left.
    fn learn(&mut self, found: &[Difference], inputs: usize) -> bool {
        let before = self.0.len();
        for difference in found {
            let node = difference.node.unwrap_or(0);
            if node < inputs || difference.port.is_none() {
                self.0.insert((Way::Unfolded, 0, String::new()));
            }
            let Some(port) = &difference.port else { continue };
            let ways = match difference.what {
                What::Config => [Way::Explicit, Way::Explicit],
                What::Value => [Way::Valued, Way::Listed],
                _ => [Way::Listed, Way::Explicit],
            };
            if !self.0.insert((ways[0], node, port.clone())) {
                self.0.insert((ways[1], node, port.clone()));
            }
        }
        self.0.len() > before
    }
}

impl Raiser<'_> {
    /// What is different when the file is lowered again; or why it can't be.
    fn compare(&self, ways: &Ways, registry: &Registry) -> Result<Vec<Difference>, Vec<String>> {
        let text = write::yaml(&self.document(ways, &mut Vec::new()));
        let lowered = lower("", &text, Syntax::Yaml, registry);
        let lowered = lowered.map_err(|found| found.into_iter().map(|found| found.message).collect::<Vec<_>>())?;
        let again = Flow::load(&lowered.data, registry).map_err(|error| vec![error.to_string()])?;
        Ok(differences(self.flow, &again.flow))
    }

    fn describe(&self, difference: &Difference) -> String {
        let what = match difference.what {
            What::Node => "its type, category, group or switches",
            What::Config => "its type",
            What::Value => "its value",
            What::Edges => "its edges",
            What::Inputs => "the flow's inputs",
            What::Outputs => "the flow's outputs",
            What::Metadata => "the flow's id, name, owner or switches",
        };
        let node = difference.node.map(|node| format!("node {}", self.names[node]));
        let port = difference.port.as_ref().map(|port| format!("port {port}"));
        let place: Vec<String> = node.into_iter().chain(port).chain([what.to_owned()]).collect();
        place.join(": ")
    }
}
