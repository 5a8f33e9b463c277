//! What holds others up: transactions that stay open, prepared ones, replication slots, locks.

use super::{Examiner, Seen, SysdbError};

/// A session that has stayed in one transaction for long.
#[derive(Clone, Debug)]
pub struct Standstill {
    /// Its process at the server.
    pub pid: i32,
    /// Who it is: application and role.
    pub who: String,
    /// Its database.
    pub database: String,
    /// What it does.
    pub state: String,
    /// Age of its transaction, in seconds.
    pub age: f64,
}

/// A replication slot that keeps something for a reader.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody reads from it.
    pub active: bool,
    /// Bytes of WAL that the server keeps for it.
    pub kept: i64,
    /// Transactions since the oldest one whose dead rows it keeps; `None` when it keeps none.
    pub held: Option<i64>,
}

/// $1 seconds. A transaction holds back VACUUM in all of its database when it has a snapshot or has written; one that a standby
/// sends feedback of, in all of them. VACUUM and CREATE INDEX are long by nature, and ending them helps nobody.
const STANDSTILLS: &str = "
SELECT pid, concat_ws(' as ', NULLIF(application_name, ''), usename::text), COALESCE(datname::text, ''),
       COALESCE(state, backend_type), EXTRACT(epoch FROM now() - xact_start)::float8 AS age
  FROM pg_stat_activity
 WHERE xact_start < now() - make_interval(secs => $1) AND pid <> pg_backend_pid()
   AND (state LIKE 'idle in transaction%' OR backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
   AND (backend_type = 'client backend' AND datname = current_database() OR backend_type = 'walsender')
   AND pid NOT IN (SELECT p.pid FROM pg_stat_progress_vacuum p UNION ALL SELECT p.pid FROM pg_stat_progress_create_index p)
 ORDER BY age DESC LIMIT 20";

const PREPARED: &str = "
SELECT gid, EXTRACT(epoch FROM now() - prepared)::float8 AS age FROM pg_prepared_xacts
 WHERE database = current_database() AND prepared < now() - make_interval(secs => $1)";

const SLOTS: &str = "
SELECT slot_name::text, active, COALESCE(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint,
       GREATEST(age(xmin), age(catalog_xmin))::bigint
  FROM pg_replication_slots WHERE NOT pg_is_in_recovery() ORDER BY 3 DESC LIMIT 20";

const BLOCKED: &str = "
SELECT a.pid || ' (' || concat_ws(' as ', NULLIF(a.application_name, ''), a.usename::text) || ') waits for '
         || array_to_string(pg_blocking_pids(a.pid), ', '),
       EXTRACT(epoch FROM now() - a.query_start)::float8 AS age
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.wait_event_type = 'Lock' AND a.query_start < now() - make_interval(secs => $1)";

impl Examiner {
    /// Sessions that have stayed in a transaction beyond the patience.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn standstills(&self) -> Result<Vec<Standstill>, SysdbError> {
        let rows = self.ask(STANDSTILLS, &[&self.patience()]).await?;
        let standstill = |row: &tokio_postgres::Row| {
            let [who, database, state] = [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
            Ok(Standstill { pid: row.try_get(0)?, who, database, state, age: row.try_get(4)? })
        };
        rows.iter().map(standstill).collect()
    }

    /// Transactions that were prepared for a two-phase commit and stay so beyond the patience.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn prepared(&self) -> Result<Seen, SysdbError> {
        self.seen(PREPARED, &[&self.patience()]).await
    }

    /// Replication slots.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn slots(&self) -> Result<Vec<Slot>, SysdbError> {
        let rows = self.ask(SLOTS, &[]).await?;
        let slot = |row: &tokio_postgres::Row| {
            Ok(Slot { name: row.try_get(0)?, active: row.try_get(1)?, kept: row.try_get(2)?, held: row.try_get(3)? })
        };
        rows.iter().map(slot).collect()
    }

    /// Statements in this database that wait for a lock beyond the patience, and for whom.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn blocked(&self) -> Result<Seen, SysdbError> {
        self.seen(BLOCKED, &[&self.patience()]).await
    }
}
