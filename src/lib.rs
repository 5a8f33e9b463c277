//! fireflow-worker takes flow executions off a PostgreSQL queue in the format of DBOS, runs each flow,
//! and records the result so that every DBOS client reads it as if a DBOS process had done the work.
//!
//! The rooms, from the faces down; each may call only what stands below it:
//!
//! | module | job |
//! |---|---|
//! | [`cli`], [`admin`], `service` | faces: the command line, the HTTP listener for probes and status, and what systemd is told |
//! | [`worker`] | the daemon: lifecycle, lease, dispatch loop, recovery sweep, drain |
//! | [`execution`] | `executeFireFlow`, the execution store and the flow store (application tables) |
//! | [`durable`] | workflow context: steps that replay, messages, streams, cancellation. No SQL |
//! | [`trace`] | a trace for each execution, sent to a collector |
//! | [`sysdb`] | all SQL on the `dbos` schema: migrate, claim, commit, recover, query. No flows |
//! | [`wire`] | the serialisations of DBOS clients |
//! | [`flow`], [`nodes`] | the flow engine and the node catalogue. No PostgreSQL, no DBOS |
//! | [`postgres`] | pool, TLS, listener, and the embedded server for `dev` and the tests |
//! | [`config`] | settings: defaults, layers (file, environment, flags), validation |
//! | [`metrics`] | what the worker counts and measures of itself, and its text for Prometheus |

// Who sends SQL, and how: see clippy.toml.
#![deny(clippy::disallowed_methods)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod durable;
pub mod execution;
#[cfg(feature = "failpoints")]
pub mod failpoint;
#[cfg(not(feature = "failpoints"))]
mod failpoint;
pub mod flow;
pub mod metrics;
pub mod nodes;
pub mod postgres;
mod service;
pub mod sysdb;
pub mod trace;
pub mod wire;
pub mod worker;
