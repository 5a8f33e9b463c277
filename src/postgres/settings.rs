//! How connections are made and kept.

use std::time::Duration;

use super::pooler::Pooling;
use super::url::DatabaseUrl;

/// Whether the server may keep one plan for a prepared statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanCache {
    /// Plan each execution with the tables as they are now. A plan made while the tables were empty scans them
    /// whole, and would be kept while they grow.
    #[default]
    Replan,
    /// Leave it to the server, which saves planning and may keep such a plan.
    Server,
}

/// How to reach one database, and how many connections to keep there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where, as whom, and with which TLS.
    pub url: DatabaseUrl,
    /// At most this many connections.
    pub pool_size: usize,
    /// To establish a connection, from name lookup to the end of authentication.
    pub connect_timeout: Duration,
    /// To wait for a free connection of the pool.
    pub acquire_timeout: Duration,
    /// Shown in `pg_stat_activity`; one in the URL wins.
    pub application_name: String,
    /// The server ends a statement that takes longer: a hung one must not hold locks for ever.
    pub statement_timeout: Duration,
    /// The server ends a session that idles in a transaction for longer. DBOS's SDKs use a minute.
    pub idle_in_transaction_timeout: Duration,
    /// Whether the server may keep one plan for a prepared statement.
    pub plan_cache: PlanCache,
    /// What stands between us and the server. In transaction mode nothing of a session is set: it would get lost, and be
    /// found by others. The three settings above don't count then.
    pub pooling: Pooling,
}

impl Settings {
    /// The defaults, with this URL.
    pub fn new(url: DatabaseUrl) -> Settings {
        Settings {
            url,
            pool_size: 8,
            connect_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(30),
            application_name: "fireflow-worker".into(),
            statement_timeout: Duration::from_secs(120),
            idle_in_transaction_timeout: Duration::from_secs(60),
            plan_cache: PlanCache::default(),
            pooling: Pooling::default(),
        }
    }

    /// Statements for the start of each session. They are sent, and not given as start-up parameters, because
    /// connection poolers refuse those.
    pub(super) fn session_setup(&self) -> String {
        let statement = self.statement_timeout.as_millis();
        let idle = self.idle_in_transaction_timeout.as_millis();
        let plan = match self.plan_cache {
            PlanCache::Replan => "force_custom_plan",
            PlanCache::Server => "auto",
        };
        // Fireflow's timestamps have no time zone and mean UTC, and their columns default to now().
        format!(
            "SET statement_timeout = {statement}; SET idle_in_transaction_session_timeout = {idle}; \
             SET plan_cache_mode = {plan}; SET TimeZone = 'UTC'"
        )
    }
}
