//! The worker as a value, for programs that have one inside.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{
    Drain, Phase, ReloadError, Reloaded, Reloader, Shutdown, StartError, Status, Stuck, lease::OnStuck, lifecycle,
    reload::Live,
};
use crate::{
    config::Settings,
    metrics::{self, Metrics},
    nodes::{Registry, secrets::Redactor},
    sysdb::INTERNAL_QUEUE,
};

/// A worker that hasn't started.
///
/// ```no_run
/// use fireflow_worker::{config::{Database, Settings}, worker::Worker};
///
/// # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Database { url: "postgres://localhost/fireflow".into(), ..Database::default() };
/// let worker = Worker::new(Settings { database, ..Settings::default() }).start();
/// println!("serving {}", worker.queue_name());
/// // ... the rest of the program ...
/// worker.stop().await?; // drains
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    live: Live,
    status: Arc<Status>,
    shutdown: Shutdown,
    on_stuck: OnStuck,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("settings", &self.live.settings())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// With these settings. They are used as they are: [`config::load`](crate::config::load) validates.
    pub fn new(settings: Settings) -> Worker {
        let id = super::Identity::of_this_process(settings.worker.id.as_deref()).id;
        let status = Arc::new(Status::new(&id, &settings.queue.names()).counted(Arc::new(metrics(&id, &settings))));
        let on_stuck: OnStuck = Arc::new(|stuck| tracing::error!("{stuck}"));
        let live = Live::new(settings);
        status.monitor().goes_by(live.clone());
        Worker { live, status, shutdown: Shutdown::new(), on_stuck }
    }

    /// Ended by this shutdown, which may end other things as well.
    #[must_use]
    pub fn with_shutdown(self, shutdown: Shutdown) -> Worker {
        Worker { shutdown, ..self }
    }

    /// What to do when the lease has ended and executions couldn't be stopped, because something in them never yields.
    /// Nothing that they do is recorded any more, and the worker goes on without them; but what they do to others goes on
    /// as well, beside whoever runs the same executions now, until the process ends. The binary ends it. By default the
    /// worker logs an error.
    ///
    /// Called on a thread of the worker's own, which waits until it returns.
    #[must_use]
    pub fn on_stuck(self, act: impl Fn(&Stuck) + Send + Sync + 'static) -> Worker {
        Worker { on_stuck: Arc::new(act), ..self }
    }

    /// What it is doing, from now to its end.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// What takes the secrets that its flows may refer to out of texts, such as the lines of a log.
    pub fn redactor(&self) -> Redactor {
        self.live.outbound().secrets().redactor()
    }

    /// What gives it other settings while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(self.live.clone())
    }

    /// What ends it.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Run until the shutdown: connect, check or create the schemas, register, recover, serve, drain.
    ///
    /// # Errors
    /// [`StartError`], before anything was claimed. Once the worker serves, it outlives the database going away.
    pub async fn run(self) -> Result<(), StartError> {
        // On the heap, as its parts are: whoever embeds it may have small stacks.
        Box::pin(lifecycle::run(self.live, self.status, self.shutdown, self.on_stuck)).await
    }

    /// Run in a task of its own, on the runtime that this is called on.
    pub fn start(self) -> RunningWorker {
        let (status, shutdown) = (self.status.clone(), self.shutdown.clone());
        let queues = self.live.settings().queue.iter().map(|queue| queue.name.clone()).collect();
        RunningWorker { queues, reloader: self.reloader(), status, shutdown, task: tokio::spawn(self.run()) }
    }
}

/// A worker in a task of its own. Dropping it lets it run on; [`RunningWorker::stop`] ends it.
#[derive(Debug)]
pub struct RunningWorker {
    queues: Vec<String>,
    reloader: Reloader,
    status: Arc<Status>,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), StartError>>,
}

impl RunningWorker {
    /// The queue that it serves; the first one if there are several.
    pub fn queue_name(&self) -> &str {
        self.queues.first().map_or("", String::as_str)
    }

    /// All queues that it serves.
    pub fn queue_names(&self) -> &[String] {
        &self.queues
    }

    /// Whether it takes executions now.
    pub fn is_running(&self) -> bool {
        self.status.phase() == Phase::Running && !self.task.is_finished()
    }

    /// What it is doing.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Take over other settings, as [`Reloader::reload`] does.
    ///
    /// # Errors
    /// [`ReloadError`]: nothing has changed then.
    pub async fn reload(&self, settings: Settings) -> Result<Reloaded, ReloadError> {
        self.reloader.reload(settings).await
    }

    /// Drain, and wait for the end.
    ///
    /// # Errors
    /// [`StartError`], when it had not even started.
    pub async fn stop(self) -> Result<(), StartError> {
        self.shutdown.begin(Drain::Graceful);
        self.ended().await
    }

    /// Wait until it ends by itself, which is an error, or by its shutdown.
    ///
    /// # Errors
    /// [`StartError`], before anything was claimed.
    pub async fn ended(self) -> Result<(), StartError> {
        match self.task.await {
            Ok(ended) => ended,
            Err(error) => std::panic::resume_unwind(error.into_panic()), // never cancelled
        }
    }
}

/// The counters of a worker with these settings.
fn metrics(id: &str, settings: &Settings) -> Metrics {
    let worker = metrics::Worker {
        id: id.to_owned(),
        application: settings.worker.application_name.clone(),
        application_version: settings.worker.application_version.clone(),
        lease: settings.worker.lease.as_secs_f64(),
    };
    let queues = settings.queue.iter().map(|queue| queue.name.as_str()).chain([INTERNAL_QUEUE]);
    let registry = Registry::standard();
    Metrics::new(worker, queues, registry.iter().map(|known| known.category))
}

/// The variables that are text.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
