//! What was wrong with a stored flow. Loading goes on without the parts named here.

use std::fmt;
use std::sync::Arc;

/// What kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A node could not be built and is not part of the flow.
    NodeDropped,
    /// An edge leads from or to something that is not there; it is not part of the flow.
    EdgeDropped,
    /// A node's type is not known: it stays, and fails when it would run.
    UnknownType,
    /// A node's type needs a service that this worker doesn't reach: it stays, and fails when it would run.
    NeedsService,
    /// Nodes that wait for each other: none of them ever runs.
    Cycle,
    /// A node's parent is not there, or is the node itself, or nodes contain each other.
    Parent,
    /// A declared input or output names a port that is not there.
    Declaration,
}

impl ProblemKind {
    /// Whether a part of the stored flow is gone.
    pub fn loses(self) -> bool {
        !matches!(self, ProblemKind::UnknownType | ProblemKind::NeedsService | ProblemKind::Cycle)
    }

    /// A short name, as commands print it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProblemKind::NodeDropped => "node dropped",
            ProblemKind::EdgeDropped => "edge dropped",
            ProblemKind::UnknownType => "unknown type",
            ProblemKind::NeedsService => "needs a service",
            ProblemKind::Cycle => "cycle",
            ProblemKind::Parent => "bad parent",
            ProblemKind::Declaration => "bad declaration",
        }
    }
}

/// Something wrong with a stored flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// The id of the node or edge, or the name of the input or output.
    pub subject: Arc<str>,
    /// What is wrong, in words.
    pub text: String,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, subject: impl Into<Arc<str>>, text: impl Into<String>) -> Problem {
        Problem { kind, subject: subject.into(), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}: {}", self.kind.as_str(), self.subject, self.text)
    }
}

/// A stored flow that cannot be loaded at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a JSON object.
    #[error("a flow is a JSON object with `nodes` and `edges`; this is {0}")]
    NotAnObject(&'static str),
    /// A part has the wrong shape.
    #[error("the flow's `{part}` must be {expected}")]
    Shape {
        /// The part's name.
        part: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Nested deeper than anything an editor makes.
    #[error("the flow nests deeper than {0} levels; flatten it")]
    TooDeep(usize),
    /// An edge of an older flow whose port has no newer name.
    #[error("edge {edge}: node {node} has no port {port}; the flow's older form cannot be brought up to date")]
    OldPort {
        /// The edge's id.
        edge: String,
        /// The node's id.
        node: String,
        /// The port's id as stored.
        port: String,
    },
}
