//! Liveness is a lease, on the database's clock.
//!
//! A worker registers with an incarnation of its own, renews, and is dead when its lease has expired. One that can't
//! renew stops itself before that, by its monotonic clock. Two processes can't hold one id: the second is told who has
//! it and until when. A predecessor whose process is certainly gone (same machine, no such process) is replaced at once.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Identity;
use crate::postgres::{Pool, Statements};
use crate::sysdb::{SysdbError, schema::Prefix};

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
    /// On a pool of its own, so that the work can't starve the renewal of connections.
    pub fn new(pool: Pool, prefix: &Prefix, lease: Duration) -> Leases {
        Leases { pool, table: prefix.table("workers"), lease }
    }

    /// Register. Waits for the lease of a predecessor that may be dead to run out; one that renews is alive.
    pub async fn acquire(&self, me: &Identity, registration: &Registration<'_>) -> Result<Instant, LeaseError> {
        let mut replace: Option<Uuid> = None;
        let mut waited_for: Option<Uuid> = None;
        loop {
            let asked = Instant::now();
            let Some(holder) = self.try_acquire(me, registration, replace).await? else {
                return Ok(asked + self.lease);
            };
            if me.is_gone(holder.namespace.as_deref(), holder.pid, holder.started) {
                tracing::info!(pid = holder.pid, "the worker's earlier process is gone; taking over its lease");
                replace = Some(holder.incarnation);
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
        replace: Option<Uuid>,
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
                      WHERE w.expires_at <= now() OR w.incarnation = EXCLUDED.incarnation OR w.incarnation = $12
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

    /// Renew until `stop`. Ends early, when the lease is lost or has to be taken as lost: nothing of this worker may run
    /// after that. `valid_until` is the end of the lease by this machine's monotonic clock, counted from before the
    /// question was sent, so it is never later than the database's.
    pub async fn keep(&self, me: &Identity, mut valid_until: Instant, stop: CancellationToken) -> Result<(), String> {
        // Others may act the moment the lease ends; stopping takes a moment.
        let margin = (self.lease / 6).max(Duration::from_millis(300));
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.lease / 3) => {}
                () = stop.cancelled() => return Ok(()),
            }
            loop {
                let asked = Instant::now();
                let renewal = tokio::time::timeout_at(valid_until - margin, self.renew(me)).await;
                let error = match renewal {
                    Ok(Ok(true)) => {
                        valid_until = asked + self.lease;
                        break;
                    }
                    Ok(Ok(false)) => return Err("another process has taken over this worker's id".into()),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the database didn't answer".into(),
                };
                tracing::debug!(error, "can't renew the lease");
                if Instant::now() + Duration::from_millis(250) >= valid_until - margin {
                    return Err(format!("the lease couldn't be renewed in time: {error}"));
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }

    async fn renew(&self, me: &Identity) -> Result<bool, SysdbError> {
        let client = self.pool.get().await?;
        let statement = format!(
            "UPDATE {} SET renewed_at = now(), expires_at = now() + make_interval(secs => $3)
                  WHERE id = $1 AND incarnation = $2",
            self.table
        );
        let seconds = self.lease.as_secs_f64();
        Ok(client.execute(&statement, &[&me.id, &me.incarnation, &seconds]).await? == 1)
    }

    /// Show that this worker drains.
    pub async fn draining(&self, me: &Identity) -> Result<(), SysdbError> {
        self.mark(me, "state = 'draining'").await
    }

    /// Give the lease up: this worker has ended, and whatever it left may be taken at once.
    pub async fn release(&self, me: &Identity) -> Result<(), SysdbError> {
        self.mark(me, "state = 'stopped', expires_at = now()").await
    }

    async fn mark(&self, me: &Identity, set: &str) -> Result<(), SysdbError> {
        let client = self.pool.get().await?;
        let update = format!("UPDATE {} SET {set} WHERE id = $1 AND incarnation = $2", self.table);
        client.execute(&update, &[&me.id, &me.incarnation]).await?;
        Ok(())
    }
}
