//! Errors in a flow, found before it runs. One file a family of checks; all of them look at the same view of it.
//!
//! A false alarm on a flow that works is worse than a miss: what depends on what arrives at run time is not judged, or
//! is a warning.

pub mod codes;
mod declarations;
mod edges;
mod events;
mod kinds;
mod names;
mod nodes;
mod reach;
mod requirements;
mod rings;
mod texts;
mod values;
mod view;

use std::sync::Arc;

use serde_json::Value as JsonValue;

use self::view::View;
use super::{Diagnostic, Flow, FlowFile, LoadError, Severity, Source};
use crate::nodes::Registry;

/// More findings than anybody reads; what is beyond is counted.
const MOST: usize = 1000;

/// What the checks found.
#[derive(Debug)]
pub struct Checked {
    /// The flow, without the parts that can't be used; none where the document is no flow.
    pub flow: Option<Arc<Flow>>,
    /// What is wrong, by its place in the text.
    pub findings: Vec<Diagnostic>,
    /// How many findings were left out, since there are too many.
    pub left_out: usize,
}

impl Checked {
    /// Whether something has to be mended.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Check a flow that was read from a file.
pub fn check(file: &FlowFile, registry: &Registry) -> Checked {
    let mut findings = file.findings.clone();
    let flow = file.data.as_ref().and_then(|data| {
        let (flow, mut found) = stored(data, &file.source, registry);
        findings.append(&mut found);
        flow
    });
    findings.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| b.severity.cmp(&a.severity)));
    let left_out = findings.len().saturating_sub(MOST);
    if left_out > 0 {
        // Errors stay, so that what is cut off never makes a bad flow look good.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings.truncate(MOST);
        findings.sort_by_key(place);
    }
    Checked { flow, findings, left_out }
}

fn place(finding: &Diagnostic) -> (usize, usize) {
    finding.span.as_ref().map_or((0, 0), |span| (span.start, span.end))
}

/// Check a flow in its stored form.
fn stored(data: &JsonValue, source: &Source, registry: &Registry) -> (Option<Arc<Flow>>, Vec<Diagnostic>) {
    let loaded = match Flow::load(data, registry) {
        Ok(loaded) => loaded,
        Err(error) => {
            let pointer = match &error {
                LoadError::Shape { part, .. } => format!("/{part}"),
                _ => String::new(),
            };
            let finding = codes::finding("not-a-flow", error.to_string()).at(source.find(&pointer));
            return (None, vec![finding]);
        }
    };
    let mut view = View::new(&loaded, data, source, registry);
    nodes::check(&mut view);
    values::check(&mut view);
    requirements::check(&mut view);
    texts::check(&mut view);
    edges::check(&mut view);
    reach::check(&mut view);
    events::check(&mut view);
    declarations::check(&mut view);
    let findings = view.into_findings();
    (Some(loaded.flow), findings)
}
