//! The life of the worker, from connecting to the last word.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ConnectError, Database, Identity, LeaseError, Phase, SchemaError, Shutdown, Status,
    heartbeat::database_patience,
    lease::{Leases, OnStuck},
    life::Life,
    reload::Live,
    suspects::Suspects,
};
use crate::{
    config::Settings,
    nodes::outbound::SetupError,
    postgres::Telling,
    sysdb::{self, Standing, SysdbError, SystemDatabase},
    trace::{self, Tracer},
};

/// Earlier lives of this process that may still hold its lease. During a long outage there is one every few seconds, and
/// none of them gets through.
const REMEMBERED: usize = 1000;

/// Connections that are opened while the worker still starts: the first execution claims, reads by two, and writes.
const AHEAD: usize = 2;

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

    /// Whether it says that the database can't be used, and not that it refuses something or that others hold locks.
    fn is_away(&self) -> bool {
        match self {
            StartError::Connect(error) => error.is_transient(),
            StartError::Schema(SchemaError::Pool(_)) => true,
            StartError::Schema(SchemaError::Connect(error)) => error.is_transient(),
            StartError::Lease(LeaseError::Database(error)) | StartError::Database(error) => error.is_away(),
            StartError::Schema(_) | StartError::Lease(_) | StartError::Outbound(_) | StartError::Trace(_) => false,
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
            // Each takes the server some milliseconds, while the worker is still busy with its lease.
            database.pool.open_ahead(AHEAD).await;
            status.database_answered(); // what follows may wait for others
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
                if error.is_away() {
                    status.database_is_lost(&error); // told below
                }
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
        let life = Life {
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
        match Box::pin(life.live(&before)).await {
            Ok(()) => (pause, told) = (Duration::from_millis(500), Telling::default()),
            Err(error) if before.is_empty() && !error.is_transient() => return Err(error),
            Err(error) => {
                match &error {
                    StartError::Lease(LeaseError::Held { .. }) => status.database_answered(),
                    error if error.is_away() => drop(status.database_is_lost(error)),
                    _ => {}
                }
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
pub(super) fn without_lease(status: &Status, why: impl Into<String>) {
    let phase = if status.phase() == Phase::Starting { Phase::Starting } else { Phase::Suspended };
    status.enter_because(phase, Some(why.into()));
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
