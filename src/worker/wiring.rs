//! What the parts of a worker are made of, by its settings.

use std::sync::Arc;

use super::{Database, Identity, Status, recovery::Recovery, reload::Live, suspects::Suspects};
use crate::{
    config::Settings,
    execution::{ExecutionStore, Executor, FlowStore, Limits},
    nodes::{Registry, outbound::Outbound},
    sysdb::{Accounts, ClaimScope, Suspicion, SystemDatabase},
    trace::Tracer,
    wire::Format,
};

/// How many writers there are. Two keep PostgreSQL busy while one of them waits for the disk; but few executions are written
/// with fewer commits by one.
pub(super) fn writers(settings: &Settings) -> usize {
    const SLOTS: u32 = 50;
    let slots = settings.worker.concurrency.unwrap_or_else(|| settings.queue.worker_concurrency());
    if slots < SLOTS || settings.database.pool_size < 3 { 1 } else { 2 }
}

pub(super) fn recovery(
    live: &Live,
    database: &Database,
    sysdb: &SystemDatabase,
    me: &Identity,
    suspects: &Suspects,
    status: &Arc<Status>,
) -> Recovery {
    let settings = live.settings();
    Recovery::new(
        sysdb.clone(),
        accounts(&settings, database),
        scope(&settings, database, me, Suspicion::Ignored),
        live.clone(),
        suspects.clone(),
        status.clone(),
    )
}

fn accounts(settings: &Settings, database: &Database) -> Accounts {
    Accounts::new(&database.prefix, settings.recovery.max_crashes)
}

pub(super) fn executor(
    settings: &Settings,
    database: &Database,
    sysdb: &SystemDatabase,
    outbound: &Outbound,
    tracer: &Tracer,
) -> Executor {
    let prefix = &database.prefix;
    let registry = Arc::new(Registry::standard());
    let flows = FlowStore::new(database.flows.clone(), prefix, registry, settings.execution.flow_cache);
    Executor {
        sysdb: sysdb.clone(),
        executions: ExecutionStore::new(database.pool.clone(), prefix),
        versions: flows.versions(database.pool.clone(), prefix),
        flow_version: settings.execution.flow_version,
        flows,
        outbound: outbound.clone(),
        queues: settings.queue.iter().map(|queue| queue.name.clone()).collect(),
        limits: Limits {
            start: settings.execution.start,
            start_timeout: settings.execution.start_timeout,
            max_input: settings.execution.max_input.as_u64(),
        },
        tracer: tracer.clone(),
    }
}

pub(super) fn scope(settings: &Settings, database: &Database, me: &Identity, suspicion: Suspicion) -> ClaimScope {
    ClaimScope {
        executor: me.id.clone(),
        application: settings.worker.application_name.clone(),
        version: settings.worker.application_version.clone(),
        workflows: vec![settings.execution.workflow_name.clone()],
        class: settings.execution.class_name.clone(),
        formats: Format::KNOWN.iter().map(|name| (*name).to_owned()).collect(),
        max_input: i64::try_from(settings.execution.max_input.as_u64()).unwrap_or(i64::MAX),
        accounts: Some((accounts(settings, database), suspicion)),
    }
}
