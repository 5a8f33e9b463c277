//! The life of the worker, from connecting to the last word.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ConnectError, Database, Identity, LeaseError, Phase, SchemaError, Shutdown, Status,
    chores::Chores,
    dispatch::{Dispatcher, Starter},
    lease::{Leases, Registration},
    limits,
    partitions::Partitions,
    recovery::Recovery,
    running::Running,
    status::Count,
    suspects::Suspects,
};
use crate::{
    config::Settings,
    durable::{Family, MailRoom, Slots, Stop},
    execution::{ExecutionStore, Executor, FlowStore, Limits},
    failpoint::failpoint,
    nodes::{
        Registry,
        outbound::{Outbound, SetupError},
        secrets::Secrets,
    },
    postgres,
    sysdb::{self, Accounts, ClaimScope, Notifier, Standing, Suspicion, SysdbError, SystemDatabase, Writer},
    wire::Format,
};

/// Time that stopped executions get to leave, and the hand-over to be written, after the drain.
const GRACE: Duration = Duration::from_secs(5);

/// The worker can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database can't be reached, or refuses us.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A schema is half made, or of another generation.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Another live worker has the id.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The database failed in the middle.
    #[error(transparent)]
    Database(#[from] SysdbError),
    /// The HTTP client of the nodes can't be made.
    #[error(transparent)]
    Outbound(#[from] SetupError),
}

impl StartError {
    /// Whether trying again later may help without anybody doing something.
    fn is_transient(&self) -> bool {
        match self {
            StartError::Connect(error) => error.is_transient(),
            StartError::Schema(error) => error.is_transient(),
            StartError::Lease(LeaseError::Database(error)) | StartError::Database(error) => error.is_transient(),
            StartError::Lease(LeaseError::Held { .. }) | StartError::Outbound(_) => false,
        }
    }
}

/// Run a worker until `shutdown`: connect, check or create the schemas, register, recover, serve, drain.
///
/// # Errors
/// [`StartError`], before anything was claimed. Once the worker serves, it outlives the database going away.
pub(super) async fn run(
    settings: Settings,
    secrets: Secrets,
    status: Arc<Status>,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let identity = Identity::of_this_process(settings.worker.id.as_deref());
    let outbound = Outbound::new(&settings.outbound, secrets)?;
    let Some(database) = open(&settings, &shutdown).await? else { return Ok(()) };
    serve(&settings, &identity, &database, &outbound, &status, &shutdown).await?;
    status.enter(Phase::Stopped);
    tracing::info!("stopped");
    Ok(())
}

/// Connect, check or create the schemas, register the version; waits for a database that can't be reached yet. `None`
/// when the shutdown came first.
async fn open(settings: &Settings, shutdown: &Shutdown) -> Result<Option<Database>, StartError> {
    let until = Instant::now() + settings.database.startup_wait;
    let mut pause = Duration::from_millis(100);
    loop {
        let opened = async {
            let database = Database::connect(settings).await?;
            for made in database.ensure_schemas().await? {
                tracing::info!(made, "created");
            }
            if let Some(shortfall) = database.sysdb.standing().await?.and_then(Standing::shortfall) {
                tracing::warn!("{shortfall}");
            }
            register_version(settings, &database.sysdb).await?;
            Ok::<_, StartError>(database)
        };
        match opened.await {
            Ok(database) => return Ok(Some(database)),
            Err(error) if !error.is_transient() || Instant::now() + pause >= until => return Err(error),
            // Pauses grow to five seconds, so the lines stay few.
            Err(error) => tracing::warn!(%error, "waiting for the database"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.draining() => return Ok(None),
        }
        pause = (pause * 3).min(Duration::from_secs(5));
    }
}

/// Serve under a lease until `shutdown`. A lease that is lost stops everything that runs; then a new one is acquired,
/// what the lost one left is recovered, and the work goes on.
///
/// # Errors
/// [`StartError`] when the first lease can't be had.
async fn serve(
    settings: &Settings,
    identity: &Identity,
    database: &Database,
    outbound: &Outbound,
    status: &Arc<Status>,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let leases = Leases::new(database.lease.clone(), &database.prefix, settings.worker.lease);
    let mut first = true;
    let suspects = Suspects::default();
    let mut lost = None; // the incarnation that lost its lease
    while !shutdown.is_draining() {
        let me = Identity { incarnation: uuid::Uuid::new_v4(), ..identity.clone() };
        let recovery = recovery(settings, database, &me, &suspects, status);
        let acquired = tokio::select! {
            acquired = take_over(settings, database, &leases, &me, &recovery, lost) => acquired,
            () = shutdown.draining() => break,
        };
        match acquired {
            Ok(valid_until) => {
                let parts = Parts {
                    settings,
                    database,
                    leases: &leases,
                    me: &me,
                    recovery,
                    suspects: &suspects,
                    outbound,
                    status,
                    shutdown,
                };
                parts.work(valid_until).await;
                lost = Some(me.incarnation);
            }
            Err(error) if first && !error.is_transient() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "can't acquire a new lease; trying again");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(2)) => {}
                    () = shutdown.draining() => break,
                }
            }
        }
        first = false;
    }
    Ok(())
}

/// Acquire the lease, and put back on the queue what earlier lives left.
async fn take_over(
    settings: &Settings,
    database: &Database,
    leases: &Leases,
    me: &Identity,
    recovery: &Recovery,
    lost: Option<uuid::Uuid>,
) -> Result<Instant, StartError> {
    let worker = &settings.worker;
    let registration = Registration {
        application: &worker.application_name,
        version: &worker.application_version,
        queue: &settings.queue.names(),
    };
    // The registration that is to come overwrites it.
    let predecessor = recovery.predecessor().await?;
    failpoint!(LeaseRegistering);
    let valid_until = leases.acquire(me, &registration).await?;
    failpoint!(LeaseRegistered);
    // Nobody renews yet, and a lease that is given up now would have to end first.
    let patience = Instant::now() + worker.lease / 4;
    let recovered = loop {
        match recovery.begin(me, predecessor.as_ref(), lost).await {
            Err(error) if error.is_transient() && Instant::now() < patience => {
                tracing::debug!(%error, "can't recover yet; trying again");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            recovered => break recovered?,
        }
    };
    tracing::info!(worker = me.id, recovered, "recovery sweep done");
    for queue in settings.queue.iter() {
        let others = database.sysdb.tokenless_executors(&queue.name).await?;
        if others.is_empty() {
            continue;
        }
        if !database.sysdb.standing().await?.is_some_and(Standing::has_payload_tables) {
            tracing::warn!(
                executors = others.join(", "),
                queue = queue.name,
                "workers of an older DBOS SDK took executions of this queue within the last hour. They take whatever is on it, \
                 also what they can't run, and write results without asking whether an execution is still theirs: give them \
                 another queue (docs/schema.md)"
            );
            continue;
        }
        tracing::warn!(
            executors = others.join(", "),
            queue = queue.name,
            "workers of an older DBOS SDK took executions of this queue within the last hour. While they run, they take \
             what newer clients enqueue as well, and leave it PENDING without its inputs: stop them, or let nobody but \
             clients of their age enqueue (docs/schema.md)"
        );
    }
    Ok(valid_until)
}

/// What one stretch of work under one lease is made of.
struct Parts<'a> {
    settings: &'a Settings,
    database: &'a Database,
    leases: &'a Leases,
    me: &'a Identity,
    recovery: Recovery,
    suspects: &'a Suspects,
    outbound: &'a Outbound,
    status: &'a Arc<Status>,
    shutdown: &'a Shutdown,
}

impl Parts<'_> {
    /// Dispatch and execute until the shutdown or the loss of the lease; then end everything that was started here.
    async fn work(&self, valid_until: Instant) {
        let Parts { settings, database, leases, me, recovery, suspects, outbound, status, shutdown } = self;
        let (settings, database, leases, me) = (*settings, *database, *leases, *me);
        let (outbound, status, shutdown) = (*outbound, *status, *shutdown);
        let claiming = CancellationToken::new(); // ends first
        let serving = CancellationToken::new(); // ends when no execution is left
        let tasks = TaskTracker::new(); // executions
        let services = TaskTracker::new(); // what they need
        let running = Running::default();
        let mail = MailRoom::default();
        let family = Family::new(database.sysdb.clone());
        services.spawn(family.clone().run(serving.clone()));

        let (notifier, notify) = Notifier::new(database.sysdb.clone(), serving.clone());
        services.spawn(notify);
        let (writer, write) = Writer::new(database.sysdb.clone(), notifier);
        services.spawn(write.run(serving.clone()));
        let listener = postgres::Listener::new(database.settings.clone(), &[sysdb::MESSAGES]);
        services.spawn(mail.clone().run(database.sysdb.clone(), listener.subscribe(), serving.clone()));
        services.spawn(listener.run(serving.clone()));
        let executor = executor(settings, database, outbound);
        let versions = executor.versions.clone();
        let starter = Arc::new(Starter {
            sysdb: database.sysdb.clone(),
            executor,
            writer,
            mail: mail.clone(),
            family: family.clone(),
            running: running.clone(),
            status: status.clone(),
        });
        let chores = Chores {
            sysdb: database.sysdb.clone(),
            application: settings.worker.application_name.clone(),
            running: running.clone(),
            mail,
            versions,
            status: status.clone(),
        };
        services.spawn(chores.run(serving.clone()));
        let recover = recovery.clone().run(me.clone(), settings.worker.lease, running.clone(), serving.clone());
        services.spawn(recover);
        let queues: Vec<_> = settings.queue.iter().map(|queue| (queue.worker_concurrency, queue.weight)).collect();
        let total = settings.worker.concurrency.unwrap_or_else(|| settings.queue.worker_concurrency());
        let mut dispatch = Vec::new();
        for (queue, slots) in settings.queue.iter().zip(Slots::shared(total, &queues)) {
            let (limits, in_force) = tokio::sync::watch::channel(None);
            let watch = limits::Limits {
                sysdb: database.sysdb.clone(),
                application: settings.worker.application_name.clone(),
                queue: queue.clone(),
                slots: slots.clone(),
            };
            services.spawn(watch.run(limits, serving.clone()));
            let dispatcher = Dispatcher {
                sysdb: database.sysdb.clone(),
                scope: scope(settings, database, me, Suspicion::Avoided),
                suspected: scope(settings, database, me, Suspicion::Sought),
                suspects: (*suspects).clone(),
                queue: queue.name.clone(),
                limits: in_force,
                partitions: Partitions::default(),
                slots,
                max_waiting: settings.execution.max_waiting,
                max_attempts: settings.execution.max_recovery_attempts,
                starter: starter.clone(),
                tasks: tasks.clone(),
                status: status.clone(),
                wake: family.started(),
                internal: dispatch.is_empty(),
            };
            dispatch.push(tokio::spawn(dispatcher.run(claiming.clone())));
        }
        drop(starter); // the writer ends with its last user
        status.enter(Phase::Running);
        tracing::info!(queue = settings.queue.names(), "serving");

        let keep = leases.keep(me, valid_until, serving.clone());
        let mut keep = std::pin::pin!(keep);
        let lost = tokio::select! {
            lost = &mut keep => lost.err(),
            () = shutdown.draining() => None,
        };
        claiming.cancel();
        for dispatch in dispatch {
            if let Err(error) = dispatch.await {
                tracing::error!(%error, "a dispatch loop failed");
            }
        }
        tasks.close();
        match lost {
            Some(reason) => {
                status.enter(Phase::Suspended);
                tracing::error!(
                    reason,
                    executions = running.len(),
                    "lease lost; everything that runs here stops, others may take it"
                );
                running.stop_all(&Stop::Lost(Some("PENDING, under a lost lease".into())));
                wait(&tasks).await;
            }
            None => {
                status.enter(Phase::Draining);
                // The lease is kept through the drain; losing it cuts the drain short.
                tokio::select! {
                    () = self.drain(&tasks, &running) => {}
                    lost = &mut keep => tracing::error!(reason = lost.err(), "lease lost while draining"),
                }
            }
        }
        serving.cancel();
        services.close();
        wait(&services).await;
        if shutdown.is_draining() {
            failpoint!(LeaseReleasing);
            let released = tokio::time::timeout(GRACE, leases.release(me)).await;
            failpoint!(LeaseReleased);
            match released {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "can't give up the lease; it expires by itself"),
                Err(_) => tracing::warn!("can't give up the lease in time; it expires by itself"),
            }
        }
    }

    /// Let running executions finish within the drain time, then give what is left back to the queue.
    async fn drain(&self, tasks: &TaskTracker, running: &Running) {
        let &Parts { settings, database, leases, me, status, shutdown, .. } = self;
        let patience = settings.worker.drain_timeout;
        tracing::info!(executions = running.len(), drain_timeout = %humantime::format_duration(patience), "draining");
        let announce = tokio::time::timeout(GRACE, leases.draining(me));
        if !matches!(announce.await, Ok(Ok(()))) {
            tracing::debug!("can't announce the drain");
        }
        failpoint!(DrainAnnounced);
        // What waits for a signal may wait for long, and loses nothing by waiting elsewhere.
        let hand_back_waiting = async {
            loop {
                running.stop_waiting(&Stop::HandBack);
                if let Err(error) = hand_over(database, running, status).await {
                    tracing::debug!(error, "can't give back yet");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = tasks.wait() => {}
            () = hand_back_waiting => {}
            () = tokio::time::sleep(patience) => tracing::warn!(executions = running.len(), "drain time is over"),
            () = shutdown.at_once() => {}
        }
        running.stop_all(&Stop::HandBack);
        wait(tasks).await;
        if let Err(error) = hand_over(database, running, status).await {
            let executions = running.handed_back().len();
            tracing::error!(error, executions, "can't give back; the next recovery does it");
        }
    }
}

/// Give those back to the queue that have stopped for it. May be dropped and called again: nobody is forgotten.
async fn hand_over(database: &Database, running: &Running, status: &Status) -> Result<(), String> {
    let owners = running.handed_back();
    if owners.is_empty() {
        return Ok(());
    }
    failpoint!(DrainHanding);
    let released = tokio::time::timeout(GRACE, database.sysdb.release(&owners)).await;
    failpoint!(DrainHanded);
    let released = match released {
        Ok(released) => released.map_err(|error| error.to_string())?,
        Err(_) => return Err("the database didn't answer in time".into()),
    };
    running.gave_back(owners.len());
    status.count(Count::HandedBack, released as u64);
    tracing::info!(executions = released, "given back to the queue");
    Ok(())
}

async fn wait(tasks: &TaskTracker) {
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::error!(tasks = tasks.len(), "tasks didn't end in time");
    }
}

async fn register_version(settings: &Settings, database: &SystemDatabase) -> Result<(), StartError> {
    let worker = &settings.worker;
    match database.register_version(&worker.application_version, &worker.application_name).await? {
        sysdb::Registration::Ours => {}
        sysdb::Registration::OwnedBy(owner) => tracing::warn!(
            version = worker.application_version,
            owner,
            "this version name is registered by another application; rows that name it are run all the same"
        ),
    }
    Ok(())
}

fn recovery(
    settings: &Settings,
    database: &Database,
    me: &Identity,
    suspects: &Suspects,
    status: &Arc<Status>,
) -> Recovery {
    Recovery::new(
        database.sysdb.clone(),
        accounts(settings, database),
        scope(settings, database, me, Suspicion::Ignored),
        &settings.recovery.adopt_executors,
        suspects.clone(),
        status.clone(),
    )
}

fn accounts(settings: &Settings, database: &Database) -> Accounts {
    Accounts::new(&database.prefix, settings.recovery.max_crashes)
}

fn executor(settings: &Settings, database: &Database, outbound: &Outbound) -> Executor {
    let prefix = &database.prefix;
    let registry = Arc::new(Registry::standard());
    let flows = FlowStore::new(database.flows.clone(), prefix, registry, settings.execution.flow_cache);
    Executor {
        sysdb: database.sysdb.clone(),
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
    }
}

fn scope(settings: &Settings, database: &Database, me: &Identity, suspicion: Suspicion) -> ClaimScope {
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
