//! The operator's commands against a real database, with workers at work: what they show is so, and what they do takes effect.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "operate/console.rs"]
mod console;
#[path = "operate/executions.rs"]
mod executions;
#[path = "operate/queue.rs"]
mod queue;
mod support;
#[path = "operate/trees.rs"]
mod trees;
#[path = "operate/workers.rs"]
mod workers;
