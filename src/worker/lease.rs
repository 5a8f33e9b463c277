//! Liveness is a lease, on the database's clock.
//!
//! A worker registers with an incarnation of its own, renews, and is dead when its lease has expired. One that can't
//! renew stops itself before that, by its machine's clock. Two processes can't hold one id: the second is told who has
//! it and until when. A predecessor whose process is certainly gone (same machine, no such process) is replaced at once.
//!
//! Here is the table. `clock.rs` decides when to renew and when to give up, `keeper.rs` does it.

mod clock;
mod keeper;
mod moment;
#[cfg(test)]
mod simulation;

use std::time::Duration;

use uuid::Uuid;

pub use keeper::Stuck;
pub(super) use keeper::{Keeper, OnStuck, Remaining, Told};
pub(super) use moment::Moment;

use self::keeper::Renewal;
use super::{Identity, running::Running};
use crate::{
    postgres::{self, Pool, Statements},
    sysdb::{SysdbError, schema::Prefix},
};

/// Another live worker has the id, or the database can't be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// A live worker has the id.
    #[error(
        "worker id \"{id}\" is held by a live worker (process {pid} on {host}) until {until}; \
         give this one another worker.id, or stop that one first"
    )]
    Held {
        /// The id.
        id: String,
        /// Its host.
        host: String,
        /// Its process there.
        pid: i32,
        /// When its lease ends, unless it renews.
        until: String,
    },
    /// The database.
    #[error(transparent)]
    Database(#[from] SysdbError),
    /// The system gives no thread.
    #[error("can't start the thread that renews the lease: {0}")]
    Thread(std::io::Error),
}

/// The workers table.
#[derive(Clone)]
pub(super) struct Leases {
    pool: Pool,
    table: String,
    lease: Duration,
}

struct Holder {
    incarnation: Uuid,
    host: String,
    namespace: Option<String>,
    pid: i32,
    started: Option<i64>,
    until: String,
    left: Duration,
}

/// What a worker registers besides its identity.
pub(super) struct Registration<'a> {
    pub application: &'a str,
    pub version: &'a str,
    pub queue: &'a str,
}

impl Leases {
    /// On a pool of its own, so that the work can't starve it of connections.
    pub fn new(pool: Pool, prefix: &Prefix, lease: Duration) -> Leases {
        Leases { pool, table: prefix.table("workers"), lease }
    }

    /// Register; gives the moment of the question, from which the lease counts. Waits for the lease of a predecessor that
    /// may be dead to run out; one that renews is alive. `ended` are incarnations that have ended for certain.
    pub async fn acquire(
        &self,
        me: &Identity,
        registration: &Registration<'_>,
        ended: &[Uuid],
    ) -> Result<Moment, LeaseError> {
        let mut replace = ended.to_vec();
        let mut waited_for: Option<Uuid> = None;
        loop {
            let asked = Moment::now();
            let Some(holder) = self.try_acquire(me, registration, &replace).await? else {
                return Ok(asked);
            };
            if me.is_gone(holder.namespace.as_deref(), holder.pid, holder.started) {
                tracing::info!(pid = holder.pid, "the worker's earlier process is gone; taking over its lease");
                replace.push(holder.incarnation);
                continue;
            }
            let same_machine = me.namespace.is_some() && me.namespace == holder.namespace;
            if same_machine || waited_for == Some(holder.incarnation) {
                return Err(LeaseError::Held {
                    id: me.id.clone(),
                    host: holder.host,
                    pid: holder.pid,
                    until: holder.until,
                });
            }
            tracing::warn!(
                host = holder.host,
                pid = holder.pid,
                until = holder.until,
                "another process holds this worker's id; waiting whether it renews its lease"
            );
            waited_for = Some(holder.incarnation);
            tokio::time::sleep(holder.left + Duration::from_millis(100)).await;
        }
    }

    async fn try_acquire(
        &self,
        me: &Identity,
        registration: &Registration<'_>,
        replace: &[Uuid],
    ) -> Result<Option<Holder>, SysdbError> {
        let client = self.pool.get().await?;
        let seconds = self.lease.as_secs_f64();
        let taken = client
            .query_opt(
                &format!(
                    "INSERT INTO {} AS w (id, incarnation, host, process_identity, pid, process_started, application_name,
                            application_version, queue_name, worker_version, started_at, renewed_at, expires_at, state)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(), now(), now() + make_interval(secs => $11), 'running')
                     ON CONFLICT (id) DO UPDATE SET incarnation = EXCLUDED.incarnation, host = EXCLUDED.host,
                            process_identity = EXCLUDED.process_identity, pid = EXCLUDED.pid,
                            process_started = EXCLUDED.process_started, application_name = EXCLUDED.application_name,
                            application_version = EXCLUDED.application_version, queue_name = EXCLUDED.queue_name,
                            worker_version = EXCLUDED.worker_version, started_at = now(), renewed_at = now(),
                            expires_at = EXCLUDED.expires_at, state = 'running'
                      WHERE w.expires_at <= now() OR w.incarnation = ANY($12)
                     RETURNING 1",
                    self.table
                ),
                &[
                    &me.id, &me.incarnation, &me.host, &me.namespace, &me.pid, &me.started, &registration.application,
                    &registration.version, &registration.queue, &env!("CARGO_PKG_VERSION"), &seconds, &replace,
                ],
            )
            .await?;
        if taken.is_some() {
            return Ok(None);
        }
        let row = client
            .query_opt(
                &format!(
                    "SELECT incarnation, host, process_identity, pid, process_started,
                            to_char(expires_at AT TIME ZONE 'utc', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'),
                            GREATEST(extract(epoch FROM expires_at - now()), 0)::float8
                       FROM {} WHERE id = $1",
                    self.table
                ),
                &[&me.id],
            )
            .await?;
        // Gone between the two statements: the next try takes it.
        let Some(row) = row else { return Box::pin(self.try_acquire(me, registration, replace)).await };
        Ok(Some(Holder {
            incarnation: row.try_get(0)?,
            host: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
            namespace: row.try_get(2)?,
            pid: row.try_get::<_, Option<i32>>(3)?.unwrap_or(0),
            started: row.try_get(4)?,
            until: row.try_get(5)?,
            left: Duration::from_secs_f64(row.try_get(6)?),
        }))
    }

    /// Keep what was acquired, from now on. `connect` is for a connection that nothing else uses; `running` is what runs
    /// under the lease.
    pub fn keep(
        &self,
        connect: &postgres::Settings,
        me: &Identity,
        asked: Moment,
        running: Running,
        told: Told,
    ) -> Result<Keeper, LeaseError> {
        let statement = format!(
            "WITH held AS (SELECT id, incarnation, expires_at, host, pid FROM {table} WHERE id = $1 FOR NO KEY UPDATE),
                  renewed AS (UPDATE {table} w
                                 SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => $3)
                                FROM held
                               WHERE w.id = held.id AND held.incarnation = $2 AND held.expires_at > clock_timestamp()
                           RETURNING 1)
             SELECT held.incarnation = $2, EXISTS (SELECT FROM renewed), held.host, held.pid FROM held",
            table = self.table
        );
        let renewal = Renewal { connect: connect.clone(), statement, me: me.clone(), lease: self.lease };
        Keeper::start(renewal, asked, running, told).map_err(LeaseError::Thread)
    }

    /// Show that this worker drains.
    pub async fn draining(&self, me: &Identity) -> Result<(), SysdbError> {
        self.mark(me, "state = 'draining'").await
    }

    /// Give the lease up: this worker has ended, and whatever it left may be taken at once. Nothing renews it after that,
    /// not even a question that was sent before.
    pub async fn release(&self, me: &Identity) -> Result<(), SysdbError> {
        self.mark(me, "state = 'stopped', expires_at = LEAST(expires_at, clock_timestamp())").await
    }

    async fn mark(&self, me: &Identity, set: &str) -> Result<(), SysdbError> {
        let client = self.pool.get().await?;
        let update = format!("UPDATE {} SET {set} WHERE id = $1 AND incarnation = $2", self.table);
        client.execute(&update, &[&me.id, &me.incarnation]).await?;
        Ok(())
    }
}
