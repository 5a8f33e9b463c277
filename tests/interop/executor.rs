//! A real DBOS application as a peer: it migrates the system database and runs the flow workflow's queue.

use super::process::Script;
use super::setup::{Lang, available};

/// What an executor is started with; the scripts' defaults are those of a Fireflow installation.
#[derive(Clone, Debug)]
pub struct ExecutorOptions<'o> {
    /// The application that it is.
    pub application: &'o str,
    /// Its version.
    pub version: &'o str,
    /// Its executor id.
    pub executor: &'o str,
    /// The queue that it registers. It also runs every other queue of its application.
    pub queue: &'o str,
}

impl Default for ExecutorOptions<'_> {
    fn default() -> Self {
        ExecutorOptions {
            application: "fireflow-executor",
            version: "1.0.0",
            executor: "sdk-executor",
            queue: "fireflow-executions",
        }
    }
}

/// A running executor, killed when dropped.
pub struct Executor(Script);

impl Executor {
    /// Starts one; `None` when there is no such SDK here and the test should be skipped.
    pub async fn start(lang: Lang, url: &str, options: &ExecutorOptions<'_>) -> Option<Executor> {
        let runtime = available(lang)?;
        let environment = [
            ("INTEROP_DATABASE_URL", url),
            ("INTEROP_APPLICATION", options.application),
            ("INTEROP_VERSION", options.version),
            ("INTEROP_EXECUTOR", options.executor),
            ("INTEROP_QUEUE", options.queue),
        ];
        Some(Executor(Script::start(&runtime, "executor", &environment).await))
    }

    /// Starts the application that hands flows to the worker. It is ready when two of them have ended.
    pub async fn start_app(url: &str) -> Option<Executor> {
        let runtime = available(Lang::TypeScript)?;
        Some(Executor(Script::start(&runtime, "app", &[("INTEROP_DATABASE_URL", url)]).await))
    }

    /// Lets it shut down in its own way, and waits for that.
    pub async fn stop(mut self) {
        drop(self.0.stdin);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(30), self.0.child.wait()).await;
        assert!(ended.is_ok(), "the executor did not end:\n{}", self.0.log.text());
    }
}
