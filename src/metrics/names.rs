//! Every metric by its name, with its kind, its labels and what it says. Nowhere else is one named.
//!
//! The rules: the prefix `fireflow_` (what is known of any process has the names that all exporters give it, `process_`); base
//! units (seconds, bytes) in the name; `_total` for what counts up; labels of few, known values: the worker's queues, outcomes,
//! reasons. Never an id of an execution, a flow or a node. `docs/operations/observability.md` tells operators what each one means.

use prometheus_client::metrics::MetricType;

/// A metric with all its labels.
#[derive(Debug)]
pub(super) struct Family {
    /// Its full name, as it is scraped.
    pub name: &'static str,
    /// What kind.
    pub kind: MetricType,
    /// What it says, in one line.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $help:literal;)+) => {
        $(pub(super) const $constant: Family = Family { name: $name, kind: MetricType::$kind, help: $help };)+

        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[&Family] = &[$(&$constant,)+];
    };
}

families! {
    // The process.
    BUILD_INFO: Info "fireflow_build_info"
        "The program's version";
    WORKER_INFO: Info "fireflow_worker_info"
        "Who this worker is: its id, and the DBOS application and version that it works for";
    PHASE: Gauge "fireflow_phase"
        "1 for where in its life the worker is: starting, running, suspended, draining or stopped";
    PHASE_SINCE: Gauge "fireflow_phase_start_time_seconds"
        "When the worker came to be in that phase, in seconds since 1970";
    READY: Gauge "fireflow_ready"
        "1 while the worker takes executions, as /readyz says";
    DRAIN_TIMEOUT: Gauge "fireflow_drain_timeout_seconds"
        "Longest time that a drain waits for running executions (worker.drain_timeout)";
    PROCESS_CPU: Counter "process_cpu_seconds_total"
        "Processor time that the process has used, user and system";
    PROCESS_START: Gauge "process_start_time_seconds"
        "When the process started, in seconds since 1970";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes"
        "Memory that the process has in RAM";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes"
        "Address space of the process";
    PROCESS_FDS: Gauge "process_open_fds"
        "Open file descriptors";
    PROCESS_MAX_FDS: Gauge "process_max_fds"
        "Most file descriptors that the process may have open";
    PROCESS_THREADS: Gauge "process_threads"
        "Threads of the process";

    // The queue, as the database has it.
    QUEUE_DEPTH: Gauge "fireflow_queue_depth"
        "Executions that wait on the queue, over all workers; 10000 stands for that many or more";
    QUEUE_AGE: Gauge "fireflow_queue_oldest_age_seconds"
        "Time since the oldest waiting execution was enqueued; 0 when none waits";
    QUEUE_WAIT: Histogram "fireflow_queue_wait_seconds"
        "Time from enqueue, or from the end of a wanted delay, to the first claim, of executions that this worker claimed";

    QUEUE_PAUSED: Gauge "fireflow_queue_paused"
        "1 while an operator has paused the queue: nothing is claimed from it";

    // Slots and claims.
    SLOTS_LIMIT: Gauge "fireflow_slots_limit"
        "Executions of the queue that may run at once in this process, by the limits in force";
    SLOTS_IN_USE: Gauge "fireflow_slots_in_use"
        "Executions of the queue that run in this process";
    SLOTS_FREE: Gauge "fireflow_slots_free"
        "Slots that the queue could take now, beside what the process's other queues use or have a claim to";
    SLOTS_WAITING: Gauge "fireflow_slots_waiting"
        "Executions that were at rest and wait for a slot to go on, and the dispatch loop while there is none for it";
    EXECUTIONS_RUNNING: Gauge "fireflow_executions_running"
        "Executions in this process, those that wait included";
    EXECUTIONS_WAITING: Gauge "fireflow_executions_waiting"
        "Executions in this process that wait for their start signal or rest in a pause, without a slot";
    CLAIMS: Counter "fireflow_claims_total"
        "Claims by result: rows, empty, contended (another worker was at the same rows) or failed";
    CLAIM_ROWS: Counter "fireflow_claimed_executions_total"
        "Executions that claims have brought";
    CLAIM_DURATION: Histogram "fireflow_claim_duration_seconds"
        "Time of a claim, whatever its result";

    // Executions.
    ENDED: Counter "fireflow_executions_ended_total"
        "Executions that left this process, by outcome: completed, failed, stopped, handed_back, lost or parked";
    DURATION: Histogram "fireflow_execution_duration_seconds"
        "Time from claim to end in this process, by outcome";
    STEP_DURATION: Histogram "fireflow_step_duration_seconds"
        "Time of a durable step; executeFlowAtomic is the flow's run";
    NODES: Counter "fireflow_nodes_total"
        "Nodes that had their turn, by category and outcome";
    NODE_DURATION: Histogram "fireflow_node_duration_seconds"
        "Time of nodes that wait for something (requests, scripts, timers), by category; those that only compute aren't timed";
    RECOVERED: Counter "fireflow_executions_recovered_total"
        "Executions that this worker put back on the queue, by cause: died (their worker), adopted or stranded (claimed here, and never begun)";
    PARKED: Counter "fireflow_executions_parked_total"
        "Executions parked as MAX_RECOVERY_ATTEMPTS_EXCEEDED by this worker, by reason: crashes or attempts";

    // What is written.
    CHECKPOINT_WAIT: Histogram "fireflow_checkpoint_wait_seconds"
        "Time from handing over a checkpoint until it is durable";
    COMMIT_DURATION: Histogram "fireflow_commit_duration_seconds"
        "Time of a transaction that makes a batch of checkpoints durable";
    COMMIT_SIZE: Histogram "fireflow_commit_batch_size"
        "Checkpoints in one such transaction";
    COMMIT_RETRIES: Counter "fireflow_commit_retries_total"
        "Batches that were tried again, because the database was away or didn't answer";
    PUT_OFF: Counter "fireflow_checkpoints_put_off_total"
        "Checkpoints put off because another session had their row locked";
    REFUSED: Counter "fireflow_checkpoints_refused_total"
        "Checkpoints that weren't written: another owner by now, or the database refused them";
    EVENT_DELAY: Histogram "fireflow_event_delay_seconds"
        "Time from an event of a flow until it is durable: the oldest of each checkpoint";

    // The lease.
    LEASE_LEFT: Gauge "fireflow_lease_remaining_seconds"
        "Time until this worker gives up its lease unless it renews it; 0 without a lease";
    LEASE_LENGTH: Gauge "fireflow_lease_length_seconds"
        "Length of the lease (worker.lease)";
    LEASE_RENEWALS: Counter "fireflow_lease_renewals_total"
        "Questions for a renewal by result: granted, refused or failed";
    LEASE_LOSSES: Counter "fireflow_lease_losses_total"
        "Times that the lease was lost, and everything that ran was stopped";

    // The database.
    DATABASE_UP: Gauge "fireflow_database_up"
        "1 while the database answers";
    DATABASE_OUTAGES: Counter "fireflow_database_outages_total"
        "Times that the database went away";
    CONNECTIONS_OPENED: Counter "fireflow_database_connections_opened_total"
        "Connections made, by what for; beyond the first few, each is a reconnect";
    CONNECTIONS_FAILED: Counter "fireflow_database_connection_failures_total"
        "Connections that couldn't be made, by what for";
    POOL_LIMIT: Gauge "fireflow_database_pool_limit"
        "Most connections of the pool (database.pool_size)";
    POOL_IN_USE: Gauge "fireflow_database_pool_in_use"
        "Connections of the pool that somebody uses";
    POOL_IDLE: Gauge "fireflow_database_pool_idle"
        "Connections of the pool that nobody uses";
    POOL_WAITING: Gauge "fireflow_database_pool_waiting"
        "Who waits for a connection of the pool";
    POOL_WAIT: Histogram "fireflow_database_pool_wait_seconds"
        "Time until a connection of the pool was had";

    // Traces.
    TRACE_EXPORTS: Counter "fireflow_trace_exports_total"
        "Batches of spans by result: sent or failed";
    SPANS_DROPPED: Counter "fireflow_trace_spans_dropped_total"
        "Spans dropped because too many were waiting for the collector";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_rules() {
        for family in ALL {
            let name = family.name;
            assert!(name.starts_with("fireflow_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(family.kind, MetricType::Counter), "{name}");
            assert_eq!(name.ends_with("_info"), matches!(family.kind, MetricType::Info), "{name}");
            assert!(!name.contains("milli") && !name.contains("_ms") && !name.ends_with("_count"), "{name}");
            assert!(!family.help.ends_with('.') && !family.help.contains('\n'), "{name}: {}", family.help);
            assert_eq!(ALL.iter().filter(|other| other.name == name).count(), 1, "{name}");
        }
    }
}
