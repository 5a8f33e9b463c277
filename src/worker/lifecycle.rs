//! The life of the worker, from connecting to the last word.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ConnectError, Database, Identity, LeaseError, Phase, SchemaError, Shutdown, Status,
    chores::Chores,
    dispatch::{Dispatcher, Starter},
    heartbeat::database_patience,
    lease::{Keeper, Leases, OnStuck, Registration, Told},
    limits::Limits as QueueLimits,
    lookout::{self, Lane, Lookout, Work},
    partitions::Partitions,
    recovery::Recovery,
    reload::Live,
    report,
    running::Running,
    status::Count,
    suspects::Suspects,
};
use crate::{
    config::Settings,
    durable::{Family, MailRoom, Slots, Stop},
    execution::{ExecutionStore, Executor, FlowStore, Limits},
    failpoint::failpoint,
    metrics::Purpose,
    nodes::{
        Registry,
        outbound::{Outbound, SetupError},
    },
    postgres::{self, Pooling, Telling},
    sysdb::{
        self, Accounts, ClaimScope, Notifier, Predecessor, Standing, Suspicion, SysdbError, SystemDatabase, Writer,
    },
    trace::{self, Tracer},
    wire::Format,
};

/// Time that stopped executions get to leave, and the hand-over to be written, after the drain.
const GRACE: Duration = Duration::from_secs(5);

/// Earlier lives of this process that may still hold its lease. During a long outage there is one every few seconds, and
/// none of them gets through.
const REMEMBERED: usize = 1000;

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
    /// Traces can't be sent.
    #[error(transparent)]
    Trace(#[from] trace::SetupError),
}

impl StartError {
    /// Whether trying again later may help without anybody doing something.
    fn is_transient(&self) -> bool {
        match self {
            StartError::Connect(error) => error.is_transient(),
            StartError::Schema(error) => error.is_transient(),
            StartError::Lease(LeaseError::Database(error)) | StartError::Database(error) => error.is_transient(),
            StartError::Lease(LeaseError::Held { .. } | LeaseError::Thread(_))
            | StartError::Outbound(_)
            | StartError::Trace(_) => false,
        }
    }
}

/// Run a worker until `shutdown`: connect, check or create the schemas, register, recover, serve, drain.
///
/// # Errors
/// [`StartError`], before anything was claimed. Once the worker serves, it outlives the database going away.
pub(super) async fn run(
    live: Live,
    status: Arc<Status>,
    shutdown: Shutdown,
    on_stuck: OnStuck,
) -> Result<(), StartError> {
    let life = async {
        let settings = live.settings();
        let identity = Identity::of_this_process(settings.worker.id.as_deref());
        let redactor = live.outbound().secrets().redactor();
        let tracer = Tracer::start(&settings.trace, &identity.id, redactor, status.metrics())?;
        // It reads the system's certificates, meanwhile.
        let outbound = async { live.set_up().await.map_err(StartError::from) };
        let ((), database) = tokio::try_join!(outbound, Box::pin(open(&settings, &status, &shutdown)))?;
        let Some(database) = database else { return Ok(()) };
        status.connected(database.pooling());
        status.monitor().connected(database.pools());
        if let Some(pooled) = database.pooled() {
            tracing::warn!("{pooled}");
        }
        let served = Box::pin(serve(&live, &identity, &database, &tracer, &status, &shutdown, &on_stuck)).await;
        tracer.stop(settings.trace.timeout).await;
        served
    };
    // Whoever asks is told at once that this worker takes nothing more.
    let told = async {
        shutdown.draining().await;
        status.enter_because(Phase::Draining, Some("told to end".into()));
        std::future::pending().await
    };
    let ended: Result<(), StartError> = tokio::select! {
        biased;
        ended = told => ended,
        ended = life => ended,
    };
    ended?;
    status.enter(Phase::Stopped);
    tracing::info!("stopped");
    Ok(())
}

/// Connect, check or create the schemas, register the version; waits for a database that can't be reached yet. `None`
/// when the shutdown came first.
async fn open(settings: &Settings, status: &Status, shutdown: &Shutdown) -> Result<Option<Database>, StartError> {
    let heartbeat = status.heartbeats().begin("start");
    let starting = |what: String| status.enter_because(Phase::Starting, Some(what));
    starting("connecting to the database".into());
    let until = Instant::now() + settings.database.startup_wait;
    let mut pause = Duration::from_millis(100);
    let mut told = Telling::default();
    loop {
        let opened = async {
            let database = Database::counted(settings, status.metrics()).await?;
            for made in database.ensure_schemas().await? {
                tracing::info!(made, "created");
            }
            if let Some(shortfall) = database.sysdb.standing().await?.and_then(Standing::shortfall) {
                tracing::warn!("{shortfall}");
            }
            register_version(settings, &database.sysdb).await?;
            Ok::<_, StartError>(database)
        };
        // Schemas are made by many statements, and others may be making them meanwhile.
        let opened = heartbeat.within(database_patience(settings) * 4, "connecting to the database", opened);
        // A server that says nothing may take its time; whoever ends the worker needn't.
        let opened = tokio::select! {
            opened = opened => opened,
            () = shutdown.draining() => return Ok(None),
        };
        match opened {
            Ok(database) => return Ok(Some(database)),
            Err(error) if !error.is_transient() || Instant::now() + pause >= until => return Err(error),
            Err(error) => {
                starting(format!("waiting for the database: {error}"));
                if told.is_due() {
                    tracing::warn!(%error, "waiting for the database");
                } else {
                    tracing::debug!(%error, "waiting for the database");
                }
            }
        }
        let paused = heartbeat.wait("waiting for the database", async {
            tokio::select! {
                () = tokio::time::sleep(pause) => true,
                () = shutdown.draining() => false,
            }
        });
        if !paused.await {
            return Ok(None);
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
    live: &Live,
    identity: &Identity,
    database: &Database,
    tracer: &Tracer,
    status: &Arc<Status>,
    shutdown: &Shutdown,
    on_stuck: &OnStuck,
) -> Result<(), StartError> {
    let leases = Leases::new(database.lease.clone(), &database.prefix, live.settings().worker.lease);
    let suspects = Suspects::default();
    // Lives of this process that have ended. One that didn't hear whether it got its lease may have it.
    let mut before = Vec::new();
    let (mut pause, mut told) = (Duration::from_millis(500), Telling::default());
    while !shutdown.is_draining() {
        let me = Identity { incarnation: uuid::Uuid::new_v4(), ..identity.clone() };
        let settings = live.settings();
        let parts = Parts {
            settings: &settings,
            live,
            database,
            leases: &leases,
            me: &me,
            suspects: &suspects,
            tracer,
            status,
            shutdown,
            on_stuck,
        };
        match Box::pin(parts.live(&before)).await {
            Ok(()) => (pause, told) = (Duration::from_millis(500), Telling::default()),
            Err(error) if before.is_empty() && !error.is_transient() => return Err(error),
            Err(error) => {
                without_lease(status, format!("can't acquire a lease: {error}"));
                if told.is_due() {
                    tracing::warn!(%error, "can't acquire a new lease; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))) => {}
                    () = shutdown.draining() => break,
                }
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
        if before.len() == REMEMBERED {
            before.remove(0);
        }
        before.push(me.incarnation);
    }
    Ok(())
}

/// Say why no executions are taken: there is no lease, not yet or not any more.
fn without_lease(status: &Status, why: impl Into<String>) {
    let phase = if status.phase() == Phase::Starting { Phase::Starting } else { Phase::Suspended };
    status.enter_because(phase, Some(why.into()));
}

/// Put back on the queue what earlier lives left.
async fn recover(
    settings: &Settings,
    database: &Database,
    me: &Identity,
    recovery: &Recovery,
    predecessor: Option<&Predecessor>,
    before: &[uuid::Uuid],
) -> Result<(), StartError> {
    // The lease is kept meanwhile; one that were given up now would have to end first.
    let patience = Instant::now() + settings.worker.lease / 4;
    let recovered = loop {
        match recovery.begin(me, predecessor, before).await {
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
    Ok(())
}

/// How many writers there are. Two keep PostgreSQL busy while one of them waits for the disk; but few executions are written
/// with fewer commits by one.
fn writers(settings: &Settings) -> usize {
    const SLOTS: u32 = 50;
    let slots = settings.worker.concurrency.unwrap_or_else(|| settings.queue.worker_concurrency());
    if slots < SLOTS || settings.database.pool_size < 3 { 1 } else { 2 }
}

/// What one life, a stretch of work under one lease, is made of.
struct Parts<'a> {
    /// As they were when this life began.
    settings: &'a Settings,
    live: &'a Live,
    database: &'a Database,
    leases: &'a Leases,
    me: &'a Identity,
    suspects: &'a Suspects,
    tracer: &'a Tracer,
    status: &'a Arc<Status>,
    shutdown: &'a Shutdown,
    on_stuck: &'a OnStuck,
}

impl Parts<'_> {
    /// One life: acquire a lease, recover what earlier lives left, work, give the lease up. It is kept from its first
    /// moment to its last, by a thread of its own. `before` are lives of this process, all of which have ended.
    async fn live(&self, before: &[uuid::Uuid]) -> Result<(), StartError> {
        let &Parts { settings, live, database, leases, me, suspects, status, shutdown, on_stuck, .. } = self;
        let worker = &settings.worker;
        let registration = Registration {
            application: &worker.application_name,
            version: &worker.application_version,
            queue: &settings.queue.names(),
        };
        let recovery = recovery(live, database, &database.sysdb, me, suspects, status);
        if before.is_empty() {
            without_lease(status, "acquiring a lease");
        }
        let acquire = async {
            // The registration that is to come overwrites it.
            let predecessor = recovery.predecessor().await?;
            failpoint!(LeaseRegistering);
            let asked = leases.acquire(me, &registration, before).await?;
            failpoint!(LeaseRegistered);
            Ok::<_, StartError>((predecessor, asked))
        };
        let acquired = tokio::select! {
            acquired = acquire => acquired,
            () = shutdown.draining() => return Ok(()),
        };
        let (predecessor, asked) = acquired?;
        let running = Running::default();
        let connect = database.settings_for(status.metrics(), Purpose::Lease);
        let told = Told {
            heartbeat: status.heartbeats().begin("renewal of the lease"),
            on_stuck: on_stuck.clone(),
            metrics: status.metrics().clone(),
        };
        let keeper = leases.keep(&connect, me, asked, running.clone(), told)?;
        status.monitor().holds(Some(keeper.remaining()));
        without_lease(status, "recovering what earlier lives left");
        let recovered = tokio::select! {
            recovered = recover(settings, database, me, &recovery, predecessor.as_ref(), before) => recovered.map(|()| true),
            reason = keeper.lost() => {
                report::LeaseLost { reason: &reason, executions: 0 }.tell(status);
                without_lease(status, format!("the lease was lost: {reason}"));
                Ok(false)
            }
            () = shutdown.draining() => Ok(false),
        };
        if let Ok(true) = recovered {
            Box::pin(self.work(&keeper, running)).await;
        }
        status.monitor().holds(None);
        keeper.stop().await;
        if shutdown.is_draining() || recovered.is_err() {
            failpoint!(LeaseReleasing);
            let released = tokio::time::timeout(GRACE, leases.release(me)).await;
            failpoint!(LeaseReleased);
            match released {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "can't give up the lease; it expires by itself"),
                Err(_) => tracing::warn!("can't give up the lease in time; it expires by itself"),
            }
        }
        recovered.map(drop)
    }

    /// Dispatch and execute until the shutdown or the loss of the lease; then end everything that was started here.
    async fn work(&self, keeper: &Keeper, running: Running) {
        let &Parts { settings, live, database, me, suspects, status, shutdown, .. } = self;
        // All of this life's statements end with its lease, whatever its tasks are doing.
        let sysdb = database.sysdb.fenced(keeper.fence());
        let claiming = CancellationToken::new(); // ends first
        let serving = CancellationToken::new(); // ends when no execution is left
        let tasks = TaskTracker::new(); // executions
        let services = TaskTracker::new(); // what they need
        let mail = MailRoom::default();
        let family = Family::new(sysdb.clone());
        // Each with a heartbeat: all come to a stand if one of these is never polled again, or has panicked.
        let serve = |name: &'static str, service: Pin<Box<dyn Future<Output = ()> + Send>>| {
            let heartbeat = status.heartbeats().begin(name);
            services.spawn(async move { heartbeat.wait("at work", service).await });
        };
        serve("children's outcomes", Box::pin(family.clone().run(serving.clone())));

        let (notifier, notify) = Notifier::new(sysdb.clone(), serving.clone());
        serve("announcements", Box::pin(notify));
        let (writer, writers) = Writer::several(writers(settings), &sysdb, &notifier);
        writers.into_iter().for_each(|writer| serve("writer", Box::pin(writer.run(serving.clone()))));
        let listener = postgres::Listener::new(
            database.settings_for(status.metrics(), Purpose::Listen),
            &[sysdb::MESSAGES, sysdb::QUEUES],
        );
        let announcements = listener.subscribe();
        serve("messages", Box::pin(mail.clone().run(sysdb.clone(), listener.subscribe(), serving.clone())));
        // Through such a pooler nothing is ever heard. Whoever waits looks by himself, with or without a listener.
        match database.pooling() {
            Pooling::None => serve("listener", Box::pin(listener.run(serving.clone()))),
            Pooling::Transaction => drop(listener),
        }
        let executor = executor(settings, database, &sysdb, live.outbound(), self.tracer);
        let versions = executor.versions.clone();
        let starter = Arc::new(Starter {
            sysdb: sysdb.clone(),
            executor,
            writer,
            mail: mail.clone(),
            family: family.clone(),
            running: running.clone(),
            status: status.clone(),
        });
        let chores = Chores { sysdb: sysdb.clone(), running: running.clone(), mail, versions, status: status.clone() };
        serve("chores", Box::pin(chores.run(serving.clone())));
        let recovery = recovery(live, database, &sysdb, me, suspects, status);
        let recover = recovery.run(me.clone(), settings.worker.lease, running.clone(), serving.clone());
        serve("recovery", Box::pin(recover));
        let queues: Vec<_> = settings.queue.iter().map(|queue| (queue.worker_concurrency, queue.weight)).collect();
        let mut dispatch = JoinSet::new();
        let mut lanes = Vec::new();
        let slots = Slots::shared(lookout::slots(settings), &queues);
        let by_queue = settings.queue.iter().map(|queue| queue.name.clone()).zip(slots.iter().cloned());
        status.monitor().serves(by_queue.collect());
        for (queue, slots) in settings.queue.iter().zip(slots) {
            let (limits, in_force) = QueueLimits::new(queue.clone(), slots.clone());
            let work = Work::default();
            lanes.push(Lane { limits, work: work.clone() });
            let dispatcher = Dispatcher {
                sysdb: sysdb.clone(),
                scope: scope(settings, database, me, Suspicion::Avoided),
                suspected: scope(settings, database, me, Suspicion::Sought),
                suspects: suspects.clone(),
                queue: queue.name.clone(),
                limits: in_force,
                partitions: Partitions::default(),
                slots,
                live: live.clone(),
                heartbeat: Arc::new(status.heartbeats().begin(format!("dispatch loop of queue \"{}\"", queue.name))),
                starter: starter.clone(),
                tasks: tasks.clone(),
                status: status.clone(),
                wake: family.started(),
                work,
                internal: dispatch.is_empty(),
            };
            dispatch.spawn(dispatcher.run(claiming.clone()));
        }
        drop(starter); // the writer ends with its last user
        let lookout = Lookout {
            sysdb: sysdb.clone(),
            scope: scope(settings, database, me, Suspicion::Ignored),
            lanes,
            announcements,
            status: status.clone(),
            database: database.clone(),
            shutdown: shutdown.clone(),
            live: live.clone(),
            heartbeat: status.heartbeats().begin("lookout"),
        };
        services.spawn(lookout.run(serving.clone()));
        services.spawn({
            let (status, sysdb, stop) = (status.clone(), sysdb.clone(), serving.clone());
            let queues = settings.queue.iter().map(|queue| queue.name.clone()).collect();
            async move { status.monitor().backlog.run(sysdb, queues, stop).await }
        });
        status.database_answers();
        status.under(keeper.fence());
        status.enter(Phase::Running);
        tracing::info!(queue = settings.queue.names(), "serving");

        let lost = tokio::select! {
            lost = keeper.lost() => Some(lost),
            () = shutdown.draining() => None,
        };
        if let Some(reason) = &lost {
            without_lease(status, format!("the lease was lost: {reason}"));
        }
        claiming.cancel();
        let lost = match lost {
            Some(reason) => Some(reason),
            // What they have claimed is to be started, or given back.
            None => tokio::select! {
                () = ended(&mut dispatch) => None,
                reason = keeper.lost() => Some(reason),
            },
        };
        dispatch.abort_all();
        tasks.close();
        match lost {
            Some(reason) => self.abandon(keeper, &reason, &tasks, &running).await,
            None => {
                // The lease is kept through the drain; losing it cuts the drain short.
                tokio::select! {
                    () = self.drain(&sysdb, &tasks, &running) => {}
                    reason = keeper.lost() => self.abandon(keeper, &reason, &tasks, &running).await,
                }
            }
        }
        serving.cancel();
        services.close();
        wait(&services).await;
    }

    /// The lease is lost: stop everything. It has until the lease's true end; if it can't, that is for `on_stuck` to say.
    async fn abandon(&self, keeper: &Keeper, reason: &str, tasks: &TaskTracker, running: &Running) {
        let lost = Stop::Lost(Some("PENDING, under a lost lease".into()));
        let executions = running.len();
        running.stop_all(&lost);
        report::LeaseLost { reason, executions }.tell(self.status);
        let stop = async {
            loop {
                running.stop_all(&lost); // again, for what was about to begin
                if tokio::time::timeout(Duration::from_millis(50), tasks.wait()).await.is_ok() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop => {}
            _ = keeper.over() => tracing::error!(tasks = tasks.len(), "executions didn't stop in time"),
        }
    }

    /// Let running executions finish within the drain time, then give what is left back to the queue.
    async fn drain(&self, sysdb: &SystemDatabase, tasks: &TaskTracker, running: &Running) {
        let &Parts { live, leases, me, status, shutdown, .. } = self;
        let begun = Instant::now();
        let mut changes = live.changes();
        let patience = changes.borrow_and_update().worker.drain_timeout;
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
                if let Err(error) = hand_over(sysdb, running, status).await {
                    tracing::debug!(error, "can't give back yet");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        // The time may be changed while it runs.
        let over = async {
            loop {
                let patience = changes.borrow_and_update().worker.drain_timeout;
                tokio::select! {
                    () = tokio::time::sleep_until(begun + patience) => return,
                    Ok(()) = changes.changed() => {}
                }
            }
        };
        tokio::select! {
            () = tasks.wait() => {}
            () = hand_back_waiting => {}
            () = over => tracing::warn!(executions = running.len(), "drain time is over"),
            () = shutdown.at_once() => {}
        }
        running.stop_all(&Stop::HandBack);
        wait(tasks).await;
        if let Err(error) = hand_over(sysdb, running, status).await {
            let executions = running.handed_back().len();
            tracing::error!(error, executions, "can't give back; the next recovery does it");
        }
    }
}

/// Give those back to the queue that have stopped for it. May be dropped and called again: nobody is forgotten.
async fn hand_over(sysdb: &SystemDatabase, running: &Running, status: &Status) -> Result<(), String> {
    let owners = running.handed_back();
    if owners.is_empty() {
        return Ok(());
    }
    failpoint!(DrainHanding);
    let released = tokio::time::timeout(GRACE, sysdb.release(&owners)).await;
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

/// Wait for dispatch loops that were told to end.
async fn ended(dispatch: &mut JoinSet<()>) {
    while let Some(ended) = dispatch.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a dispatch loop failed");
        }
    }
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

fn executor(
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
