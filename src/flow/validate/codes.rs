//! Every kind of finding: its name, how bad it is, and what it means. `docs/validation.md` has the same list.

use crate::flow::{Diagnostic, Severity};

/// A kind of finding.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The stable name.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means, in a line.
    pub about: &'static str,
}

const fn error(name: &'static str, about: &'static str) -> Code {
    Code { name, severity: Severity::Error, about }
}

const fn warning(name: &'static str, about: &'static str) -> Code {
    Code { name, severity: Severity::Warning, about }
}

/// All of them.
pub const CODES: &[Code] = &[
    error("syntax", "The file is not JSON."),
    error("not-a-flow", "The document lacks a flow's shape, or nests too deep."),
    error("no-id", "The flow has no id, so it can't be stored."),
    warning("duplicate-key", "An object has a key twice; the later value counts."),
    error("bad-node", "A node can't be built, so it would be left out."),
    error("duplicate-id", "Two nodes or two edges have the same id."),
    error("unknown-type", "No node type has this name; the node would fail."),
    warning("needs-service", "A node's type needs a vendor's service, which this worker doesn't reach."),
    error("bad-parent", "A node's parent isn't there, or nodes contain each other."),
    error("bad-port", "A port's configuration can't be read."),
    error("bad-value", "A stored value doesn't fit its port's type."),
    error("no-option", "The value of an enum port is none of its options."),
    error("empty-text", "A text without which the node fails, or never runs, is empty."),
    error("missing-input", "A required port has neither a value nor an edge."),
    error("bad-template", "A template can't be read."),
    error("bad-regexp", "A regular expression can't be read."),
    error("unknown-node", "An edge leads from or to a node that isn't there."),
    error("unknown-port", "An edge leads from or to a port that its node doesn't have."),
    error("wrong-direction", "An edge leaves an input or enters an output."),
    error("type-mismatch", "An edge brings values that its target isn't made for."),
    warning("loose-type", "An edge may bring values that its target isn't made for."),
    warning("missing-field", "An edge brings objects without a field that its target names."),
    warning("idle-edge", "An edge never carries a value, since another one always comes first."),
    error("cycle", "Nodes wait for each other, so none of them ever runs."),
    error("unreachable", "A node can't run, whatever happens."),
    warning("switched-off", "A node stores no `__execute`, so it is skipped."),
    warning("unheard-event", "No listener has the name of an emitted event."),
    warning("silent-event", "No node emits the event that a listener waits for."),
    error("bad-declaration", "A declared input or output names no port, or one that can't be it."),
];

/// A finding of a kind. Unknown names count as errors; a test sees to it that there are none.
pub(in crate::flow) fn finding(name: &'static str, message: impl Into<String>) -> Diagnostic {
    let known = CODES.iter().find(|code| code.name == name);
    debug_assert!(known.is_some(), "{name} is not in the list of codes");
    match known.map(|code| code.severity) {
        Some(Severity::Warning) => Diagnostic::warning(name, message),
        _ => Diagnostic::error(name, message),
    }
}
