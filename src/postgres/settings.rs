//! How connections are made and kept.

use std::sync::Arc;
use std::time::Duration;

use super::passwords::Passwords;
use super::pooler::Pooling;
use super::url::DatabaseUrl;
use crate::metrics::Connections;

/// Whether the server may keep one plan for a prepared statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanCache {
    /// Keep one plan, whatever the tables hold: planning costs more than most of these statements do. A plan made while the
    /// tables were empty would scan them whole, and be kept while they grow; so plans ride indexes, and join by them.
    #[default]
    Keep,
    /// Leave it to the server.
    Server,
}

/// How to reach one database, and how many connections to keep there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where, as whom, and with which TLS.
    pub url: DatabaseUrl,
    /// Where the password comes from, if the URL has none.
    pub passwords: Passwords,
    /// At most this many connections.
    pub pool_size: usize,
    /// To establish a connection, from name lookup to the end of authentication.
    pub connect_timeout: Duration,
    /// To wait for a free connection of the pool.
    pub acquire_timeout: Duration,
    /// Shown in `pg_stat_activity`; one in the URL wins.
    pub application_name: String,
    /// The server ends a statement that takes longer: a hung one must not hold locks for ever. A server that hasn't answered
    /// a little later is taken for lost. Zero: no limit, neither here nor there.
    pub statement_timeout: Duration,
    /// The server ends a statement that waits longer for a lock: somebody else's transaction must not stop everything.
    pub lock_timeout: Duration,
    /// The server ends a session that idles in a transaction for longer. Ours never do, unless this process or the
    /// network has stopped; then their locks must not outlive the lease for long.
    pub idle_in_transaction_timeout: Duration,
    /// A connection over which nothing comes is probed after this time, by both sides.
    pub keepalive: Duration,
    /// A connection whose peer acknowledges nothing for so long is lost, on both sides.
    pub tcp_user_timeout: Duration,
    /// Whether the server may keep one plan for a prepared statement.
    pub plan_cache: PlanCache,
    /// What stands between us and the server. In transaction mode nothing of a session is set: it would get lost, and be
    /// found by others. The three settings above don't count then.
    pub pooling: Pooling,
    /// Where connections are counted.
    pub metrics: Arc<Connections>,
}

impl Settings {
    /// The defaults, with this URL.
    pub fn new(url: DatabaseUrl) -> Settings {
        Settings {
            url,
            passwords: Passwords::default(),
            pool_size: 8,
            connect_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(30),
            application_name: "fireflow-worker".into(),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(2),
            idle_in_transaction_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
            tcp_user_timeout: Duration::from_secs(10),
            plan_cache: PlanCache::default(),
            pooling: Pooling::default(),
            metrics: Arc::default(),
        }
    }

    /// How long an answer may take before the connection is given up: the server's own limit, and time for its word to
    /// arrive.
    pub(super) fn answer_limit(&self) -> Option<Duration> {
        (!self.statement_timeout.is_zero()).then(|| self.statement_timeout + Duration::from_secs(5))
    }

    /// How the server finds out that this side is gone, so that a session that nobody uses ends there. Nothing on a Unix
    /// socket.
    pub(super) fn peer_setup(&self) -> String {
        let (probe, peer) = (self.keepalive.as_secs().max(1), self.tcp_user_timeout.as_millis());
        format!(
            "SET tcp_keepalives_idle = {probe}; SET tcp_keepalives_interval = {probe}; SET tcp_user_timeout = {peer}"
        )
    }

    /// For a single connection outside of the pool; behind a pooler it has no session.
    pub(crate) fn single_setup(&self) -> Option<String> {
        (self.pooling == Pooling::None).then(|| self.peer_setup())
    }

    /// Statements for the start of each session. They are sent, and not given as start-up parameters, because
    /// connection poolers refuse those.
    pub(super) fn session_setup(&self) -> String {
        let statement = self.statement_timeout.as_millis();
        let lock = self.lock_timeout.as_millis();
        let idle = self.idle_in_transaction_timeout.as_millis();
        let peer = self.peer_setup();
        let plan = match self.plan_cache {
            PlanCache::Keep => {
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; \
                 SET enable_mergejoin = off; SET jit = off"
            }
            PlanCache::Server => "SET plan_cache_mode = auto",
        };
        // Fireflow's timestamps have no time zone and mean UTC, and their columns default to now().
        format!(
            "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
             SET idle_in_transaction_session_timeout = {idle}; {peer}; \
             {plan}; SET TimeZone = 'UTC'"
        )
    }
}
