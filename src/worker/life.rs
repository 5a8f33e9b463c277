//! One life, a stretch of work under one lease: what earlier lives left is recovered, then executions are dispatched until the
//! shutdown or the loss of the lease.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Database, Identity, Phase, Shutdown, StartError, Status,
    chores::Chores,
    dispatch::Dispatcher,
    drain::{GRACE, ended, wait},
    lease::{Keeper, Leases, OnStuck, Registration, Told},
    lifecycle::without_lease,
    limits::Limits as QueueLimits,
    lookout::{self, Lane, Lookout, Work},
    partitions::Partitions,
    recovery::Recovery,
    reload::Live,
    report,
    running::Running,
    starter::Starter,
    suspects::Suspects,
    wiring::{executor, recovery, scope, writers},
};
use crate::{
    config::Settings,
    durable::{Family, MailRoom, Slots},
    failpoint::failpoint,
    metrics::Purpose,
    postgres::{self, Pooling},
    sysdb::{self, Notifier, Predecessor, Standing, Suspicion, Writer},
    trace::Tracer,
};

/// What one life, a stretch of work under one lease, is made of.
pub(super) struct Life<'a> {
    /// As they were when this life began.
    pub(super) settings: &'a Settings,
    pub(super) live: &'a Live,
    pub(super) database: &'a Database,
    pub(super) leases: &'a Leases,
    pub(super) me: &'a Identity,
    pub(super) suspects: &'a Suspects,
    pub(super) tracer: &'a Tracer,
    pub(super) status: &'a Arc<Status>,
    pub(super) shutdown: &'a Shutdown,
    pub(super) on_stuck: &'a OnStuck,
}

impl Life<'_> {
    /// One life: acquire a lease, recover what earlier lives left, work, give the lease up. It is kept from its first
    /// moment to its last, by a thread of its own. `before` are lives of this process, all of which have ended.
    pub(super) async fn live(&self, before: &[uuid::Uuid]) -> Result<(), StartError> {
        let &Life { settings, live, database, leases, me, suspects, status, shutdown, on_stuck, .. } = self;
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
            status.database_answered(); // what follows may wait for the end of somebody's lease
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
        status.database_answered();
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
            recovered = recover(self, &recovery, predecessor.as_ref(), before) => recovered.map(|()| true),
            reason = keeper.lost() => {
                report::LeaseLost { reason: &reason, executions: 0 }.tell(status);
                without_lease(status, format!("the lease was lost: {reason}"));
                Ok(false)
            }
            () = shutdown.draining() => Ok(false),
        };
        if let Ok(true) = recovered {
            Box::pin(self.work(&keeper, running, before)).await;
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
    async fn work(&self, keeper: &Keeper, running: Running, before: &[uuid::Uuid]) {
        let &Life { settings, live, database, me, suspects, status, shutdown, .. } = self;
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
                told: Mutex::default(),
            };
            dispatch.spawn(dispatcher.run(claiming.clone()));
        }
        drop(starter); // the writer ends with its last user
        let lookout = Lookout {
            sysdb: sysdb.clone(),
            scope: scope(settings, database, me, Suspicion::Ignored),
            lives: before.iter().copied().chain([me.incarnation]).collect(),
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
        // Who kept these is gone, and the next one comes with the next life.
        status.gauge(running.len(), 0);
        status.queues_seen(Vec::new());
    }
}

/// Put back on the queue what earlier lives left.
async fn recover(
    life: &Life<'_>,
    recovery: &Recovery,
    predecessor: Option<&Predecessor>,
    before: &[uuid::Uuid],
) -> Result<(), StartError> {
    let &Life { settings, database, me, status, .. } = life;
    // The lease is kept meanwhile; one that were given up now would have to end first.
    let patience = Instant::now() + settings.worker.lease / 4;
    let recovered = loop {
        match recovery.begin(me, predecessor, before).await {
            Err(error) if error.is_transient() && Instant::now() < patience => {
                tracing::debug!(%error, "can't recover yet; trying again");
                if error.is_away() {
                    status.database_fails(&error);
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            recovered => break recovered?,
        }
    };
    status.database_answered();
    tracing::info!(worker = me.id, recovered, "recovery sweep done");
    for queue in settings.queue.iter() {
        let others = match database.sysdb.tokenless_executors(&queue.name).await {
            Ok(others) if others.is_empty() => continue,
            Ok(others) => others,
            Err(error) => {
                // It is for a warning only.
                tracing::warn!(%error, queue = queue.name, "can't tell whether workers of an older DBOS SDK take from this queue");
                continue;
            }
        };
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
