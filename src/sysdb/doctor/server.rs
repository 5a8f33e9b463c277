//! The server: what it is, how it is set, and what time it has.

use std::time::{Duration, SystemTime};

use super::{Examiner, SysdbError};

/// What the server is, and who we are to it.
#[derive(Clone, Debug)]
pub struct Server {
    /// As `server_version_num` has it: 150004.
    pub version: i32,
    /// For people: 15.4.
    pub name: String,
    /// Encoding of the database.
    pub encoding: String,
    /// The role that we are.
    pub role: String,
    /// Whether that role sees what sessions of others do.
    pub sees_others: bool,
    /// Whether this session's way to the server is by TLS; `None` on a Unix socket.
    pub tls: Option<bool>,
    /// Sessions of clients, over all databases.
    pub sessions: i64,
    /// Most sessions that the server lets in, without those that only superusers get.
    pub max_sessions: i64,
    /// Most sessions of our role, and of our database; `None` for no limit.
    pub limits: [Option<i64>; 2],
    /// Sessions under these two limits.
    pub limited: [i64; 2],
}

/// A setting, as it is at the start of a session of ours.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value in its base unit; a number of milliseconds for times.
    pub value: String,
    /// Where that comes from: `default`, `configuration file`, `database`, `user` and so on.
    pub source: String,
}

const SERVER: &str = "
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
       pg_encoding_to_char(d.encoding)::text, current_user::text,
       COALESCE((SELECT pg_has_role(r.oid, 'USAGE') FROM pg_roles r WHERE r.rolname = 'pg_read_all_stats'), TRUE),
       CASE WHEN inet_client_addr() IS NOT NULL
            THEN COALESCE((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), FALSE) END,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
         - COALESCE(current_setting('reserved_connections', TRUE)::bigint, 0),
       NULLIF(u.rolconnlimit, -1)::bigint, NULLIF(d.datconnlimit, -1)::bigint,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = u.oid AND a.backend_type = 'client backend'),
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')
  FROM pg_database d, pg_roles u
 WHERE d.datname = current_database() AND u.rolname = current_user";

/// What a session begins with, whatever ours has set since. $1 names.
const SETTINGS: &str = "SELECT name::text, reset_val::text, source::text FROM pg_settings WHERE name = ANY($1)";

impl Examiner {
    /// What the server is.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn server(&self) -> Result<Server, SysdbError> {
        let row = self.ask_one(SERVER, &[]).await?;
        Ok(Server {
            version: row.try_get(0)?,
            name: row.try_get(1)?,
            encoding: row.try_get(2)?,
            role: row.try_get(3)?,
            sees_others: row.try_get(4)?,
            tls: row.try_get(5)?,
            sessions: row.try_get(6)?,
            max_sessions: row.try_get(7)?,
            limits: [row.try_get(8)?, row.try_get(9)?],
            limited: [row.try_get(10)?, row.try_get(11)?],
        })
    }

    /// Settings by their names, as far as the server has them.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn settings(&self, names: &[&str]) -> Result<Vec<Setting>, SysdbError> {
        let rows = self.ask(SETTINGS, &[&names]).await?;
        let setting = |row: &tokio_postgres::Row| {
            let value = row.try_get::<_, Option<String>>(1)?.unwrap_or_default();
            Ok(Setting { name: row.try_get(0)?, value, source: row.try_get(2)? })
        };
        rows.iter().map(setting).collect()
    }

    /// How far the server's clock is ahead of ours, in seconds, and how wrong that may be: of three tries the one whose answer
    /// came soonest.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn clock(&self) -> Result<(f64, f64), SysdbError> {
        let mut best: Option<(f64, f64)> = None;
        for _ in 0..3 {
            let before = SystemTime::now();
            let row = self.ask_one("SELECT EXTRACT(epoch FROM clock_timestamp())::float8", &[]).await?;
            let after = SystemTime::now();
            let since =
                |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
            let (middle, half) = ((since(before) + since(after)) / 2.0, (since(after) - since(before)).abs() / 2.0);
            if best.is_none_or(|(_, error)| half < error) {
                best = Some((row.try_get::<_, f64>(0)? - middle, half));
            }
        }
        Ok(best.unwrap_or_default())
    }

    /// Whether WAL can't be archived, where archiving is on: what failed last, if nothing was archived since, and how many
    /// seconds ago something was.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn archiving(&self) -> Result<Option<(String, f64)>, SysdbError> {
        let sql = "
SELECT last_failed_wal, EXTRACT(epoch FROM now() - COALESCE(last_archived_time, stats_reset, last_failed_time))::float8
  FROM pg_stat_archiver
 WHERE last_failed_wal IS NOT NULL AND last_failed_time > COALESCE(last_archived_time, '-infinity')
   AND current_setting('archive_mode') <> 'off'";
        let rows = self.ask(sql, &[]).await?;
        rows.first().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }
}
