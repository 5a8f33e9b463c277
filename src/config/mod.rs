//! Settings: what they mean, their defaults, and their units.
//!
//! A value comes from the first of: a command-line flag, the environment (`FIREFLOW__SECTION__KEY`, and
//! `DATABASE_URL`), the TOML file, the default below. `config/worker.toml` shows every key; a test keeps it equal
//! to these defaults.

mod duration;
mod error;
mod layers;
mod listen;
mod outbound;
mod places;
mod queues;
mod rate;
pub(crate) mod secret_file;
mod secrets;
mod trace;
mod validate;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Problem};
pub use layers::{Overrides, Sources, load, load_admin, load_text};
pub use listen::Listen;
pub use outbound::{HostRule, Hosts, NoHostRule, Outbound};
pub use queues::Queues;
pub use secrets::Secrets;
pub use trace::Trace;

/// All settings of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The database that holds queue, executions and flows.
    pub database: Database,
    /// The queue that executions are taken from, or several.
    pub queue: Queues,
    /// This process.
    pub worker: Worker,
    /// How an execution is run.
    pub execution: Execution,
    /// What becomes of the executions of workers that died.
    pub recovery: Recovery,
    /// Where nodes may connect to, and how much may pass.
    pub outbound: Outbound,
    /// What flows may refer to as a secret.
    pub secrets: Secrets,
    /// The HTTP listener for probes and status.
    pub admin: Admin,
    /// Log lines.
    pub log: Log,
    /// Traces of executions.
    pub trace: Trace,
}

impl Settings {
    /// The files that hold what only the worker may know, as far as the settings name them.
    pub fn files(&self) -> Vec<PathBuf> {
        let Database { url, flows_url, password_file, flows_password_file, .. } = &self.database;
        let named = [password_file, flows_password_file, &self.admin.token_file, &self.trace.headers_file];
        let in_urls = [Some(url), flows_url.as_ref()].into_iter().flatten().filter_map(|url| url::Url::parse(url).ok());
        let keys = in_urls.flat_map(|url| {
            let files = url.query_pairs().filter(|(name, _)| name == "sslkey" || name == "passfile");
            files.map(|(_, file)| PathBuf::from(file.into_owned())).collect::<Vec<_>>()
        });
        keys.chain(named.into_iter().flatten().cloned()).collect()
    }
}

/// `[database]`
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// PostgreSQL URL of the database with queue and executions. Also `DATABASE_URL`.
    pub url: String,
    /// PostgreSQL URL of the database with the flows, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows_url: Option<String>,
    /// File with the password, where `url` has none. Read again for each new connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The same for `flows_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows_password_file: Option<PathBuf>,
    /// Schema of the DBOS system tables.
    pub schema: String,
    /// Prefix of the application tables (`<prefix>flows`, `<prefix>executions`, `<prefix>workers`).
    pub table_prefix: String,
    /// Most connections that the worker opens, besides one that listens and two for lease and recovery.
    pub pool_size: usize,
    /// Time to establish one connection, for each host of the URL; and to wait for a free one.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Longest time for one statement. A server that says nothing for five seconds more is taken for lost.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// Longest wait for a lock that another session holds; then the rest goes on without what is behind the lock.
    #[serde(with = "duration")]
    pub lock_timeout: Duration,
    /// After how long a silent connection is probed.
    #[serde(with = "duration")]
    pub keepalive: Duration,
    /// After how long a connection is lost whose peer acknowledges nothing.
    #[serde(with = "duration")]
    pub tcp_user_timeout: Duration,
    /// How long `run` waits at start for a database that can't be reached; then it exits with code 69.
    #[serde(with = "duration")]
    pub startup_wait: Duration,
    /// What stands between the worker and the database.
    pub pooler: crate::postgres::Pooler,
}

impl Default for Database {
    fn default() -> Database {
        Database {
            url: "postgres://localhost:5432/fireflow".into(),
            flows_url: None,
            password_file: None,
            flows_password_file: None,
            schema: "dbos".into(),
            table_prefix: "fireflow_".into(),
            pool_size: 6,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(5),
            tcp_user_timeout: Duration::from_secs(10),
            startup_wait: Duration::from_secs(60),
            pooler: crate::postgres::Pooler::Auto,
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URLs may hold passwords.
        f.debug_struct("Database")
            .field("schema", &self.schema)
            .field("table_prefix", &self.table_prefix)
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}

/// Whose limits hold for the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitSource {
    /// Those in the database, if the queue is registered there: for all executors the same, and changed while they run.
    #[default]
    Registered,
    /// Those of this configuration.
    Configured,
}

/// `[queue]`, or one of several `[[queue]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Name of the queue.
    pub name: String,
    /// Most executions of this queue that are PENDING at once, over all workers of the application.
    pub concurrency: u32,
    /// Most executions that run at once in this process. One that waits for its start signal doesn't count.
    pub worker_concurrency: u32,
    /// Most executions of this queue that start within a time, over all workers of the application.
    #[serde(with = "rate", skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<crate::sysdb::RateLimit>,
    /// Pause between looks at the queue while there is nothing to do.
    #[serde(with = "duration")]
    pub polling_interval: Duration,
    /// Whose limits hold: with `Registered`, those above only where the queue isn't registered. `worker_concurrency` is
    /// never exceeded.
    pub limits: LimitSource,
    /// The queue's share of `worker.concurrency`, against those of the other queues.
    pub weight: u32,
    /// Let `migrate` make a trigger that announces enqueues to workers, so that they needn't look for them.
    pub notify_trigger: bool,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            name: "fireflow-executions".into(),
            concurrency: 100,
            worker_concurrency: 5,
            rate_limit: None,
            polling_interval: Duration::from_millis(250),
            limits: LimitSource::default(),
            weight: 1,
            notify_trigger: false,
        }
    }
}

/// `[worker]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// Id of this worker, kept over restarts and unique among live workers: it is the executor id in the database.
    /// Default: the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Most executions that run at once in this process, over all its queues. Default: as many as the queues' own
    /// `worker_concurrency` allow together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// DBOS application that the worker belongs to: it takes that application's rows and unclaimed ones.
    pub application_name: String,
    /// DBOS application version: rows that ask for a version are run only by workers of exactly that one.
    pub application_version: String,
    /// Time that running executions get to finish after SIGTERM; what is left then goes back to the queue.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// A worker that hasn't renewed for this long, by the database's clock, is dead and its work is taken over.
    #[serde(with = "duration")]
    pub lease: Duration,
}

impl Default for Worker {
    fn default() -> Worker {
        Worker {
            id: None,
            concurrency: None,
            application_name: "fireflow-executor".into(),
            application_version: "1.0.0".into(),
            drain_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(30),
        }
    }
}

/// When an execution begins to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// As soon as it is taken from the queue.
    #[default]
    Immediate,
    /// When the message `START_SIGNAL` has come.
    Signal,
}

/// Which content of its flow an execution begins with. One that has begun keeps its content in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowVersion {
    /// That of the version which its task names, where it is still kept; else the newest, with a warning.
    #[default]
    Kept,
    /// That of the version which its task names; where it isn't kept, the execution fails.
    Strict,
    /// The newest, whatever the task names.
    Newest,
}

/// `[execution]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Execution {
    /// DBOS name of the workflow.
    pub workflow_name: String,
    /// DBOS class name of the workflow; rows without a class are taken as well.
    pub class_name: String,
    /// Whether a root execution waits for its start signal.
    pub start: Start,
    /// How long it waits.
    #[serde(with = "duration")]
    pub start_timeout: Duration,
    /// Executions that may wait for their signal, or rest in a pause, at once in this process.
    pub max_waiting: u32,
    /// Claims of an execution after its first one, whatever for, before it is parked
    /// (`MAX_RECOVERY_ATTEMPTS_EXCEEDED`).
    pub max_recovery_attempts: u32,
    /// Largest accepted task argument; a larger one fails its execution.
    pub max_input: bytesize::ByteSize,
    /// Flows kept parsed in memory.
    pub flow_cache: usize,
    /// What an execution runs whose flow was edited after it was enqueued.
    pub flow_version: FlowVersion,
}

impl Default for Execution {
    fn default() -> Execution {
        Execution {
            workflow_name: "executeFireFlow".into(),
            class_name: "ExecutionWorkflows".into(),
            start: Start::Immediate,
            start_timeout: Duration::from_secs(300),
            max_waiting: 1000,
            max_recovery_attempts: 100,
            max_input: bytesize::ByteSize::mib(16),
            flow_cache: 128,
            flow_version: FlowVersion::default(),
        }
    }
}

/// `[recovery]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// Times in a row that an execution may be at work when its worker dies, with no step recorded in between, before it
    /// is parked (`MAX_RECOVERY_ATTEMPTS_EXCEEDED`).
    pub max_crashes: u32,
    /// Executor ids of other SDKs' processes whose PENDING rows are put back on the queue at start and every few seconds.
    /// Only of processes that don't run: a live one would lose its work.
    pub adopt_executors: Vec<String>,
}

impl Default for Recovery {
    fn default() -> Recovery {
        Recovery { max_crashes: 3, adopt_executors: Vec::new() }
    }
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Whether to listen at all.
    pub enabled: bool,
    /// Address and port, or a Unix socket; port 0 takes a free one.
    pub listen: Listen,
    /// File with the token that all but probes must have. Read again for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether other machines may ask for more than probes without a token.
    pub allow_unauthenticated: bool,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            enabled: true,
            listen: Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 7420))),
            token_file: None,
            allow_unauthenticated: false,
        }
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// Entries of the system's journal, with their fields.
    Journald,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What to log: a level, or directives such as `info,fireflow_worker::sysdb=debug`.
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: "info".into(), format: LogFormat::Text }
    }
}
