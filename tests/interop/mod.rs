//! The real DBOS SDKs, driven from tests: their clients ([`client`]) and applications made with them ([`executor`]).
//!
//! A client is a child process that answers JSON lines. Both languages know the same commands, with the same fields in
//! commands and answers; a field that is absent is left out of commands and null in answers, and times are in
//! milliseconds. The SDKs of the earlier generation answer as well, but have no `rewind`.
//!
//! | command | fields | answer |
//! |---|---|---|
//! | `enqueue` | workflow, queue, class?, config?, id?, args?, named?, portable?, appVersion?, application?, timeoutMs?, delayMs?, priority?, dedupId?, partitionKey?, attributes? | {id} |
//! | `result` | id, timeoutMs? | the value |
//! | `workflow`, `list` | id; ids?, name?, status?, queue?, limit? | a row or null; rows |
//! | `steps` | id | [{step, name, output, error, childId, startedAt, completedAt}] |
//! | `stream` | id, key, offset? | the items up to the end |
//! | `send` | id, message, topic?, idempotencyKey?, portable? | null |
//! | `event` | id, key, timeoutMs? (10 s) | the value, null when there is none in time |
//! | `cancel`, `delete` | id | null |
//! | `resume` | id, queue? | null |
//! | `fork` | id, step, queue?, appVersion?, timeoutMs? | {id} |
//! | `rewind` | id, step, queue? | null |
//! | `registerQueue` | name, concurrency?, workerConcurrency?, partitionConcurrency?, rateLimit?: {limit, periodMs} | null |
//! | `serialize` | value or expression (of the language), portable?, protocol? (a pickle's) | the column's text |
//! | `deserialize`, `deserializeError` | text, portable? | the value; the error as `result` would fail with |
//!
//! A row has id, status, name, className, configName, queue, input {args, named}, output, error {name, message, code,
//! data}, executorId, appVersion, application, createdAt, updatedAt, timeoutMs, deadlineMs, dedupId, priority,
//! partitionKey, dequeuedAt, delayUntilMs, completedAt, forkedFrom, wasForkedFrom, parentId, attributes, attempts.
//!
//! A test binary takes this in with `#[path = "interop/mod.rs"] mod interop;` and need not use all of it.
#![allow(dead_code)]

pub mod client;
pub mod executor;
mod process;
pub mod setup;
