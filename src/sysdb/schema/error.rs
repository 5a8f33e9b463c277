//! Why a database can't be used as it is.

use super::name::{Prefix, SchemaName};

/// A schema can't be used or made. Each text says what it is and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An older generation of DBOS made it.
    #[error(
        "schema {schema} is at level {level}, older than what fireflow-worker can work with; bring it forward with: \
         fireflow-worker migrate (--dry-run shows how; workers of DBOS SDKs of that age can't use it afterwards)"
    )]
    Older {
        /// The schema.
        schema: SchemaName,
        /// The recorded level.
        level: i64,
    },
    /// It records a level of an SDK's, but isn't what an SDK makes.
    #[error(
        "schema {schema} records level {level}, but no DBOS SDK made it so ({}); name another schema, or bring these \
         back to what the SDK made", wrong.join(", ")
    )]
    Strange {
        /// The schema.
        schema: SchemaName,
        /// The recorded level.
        level: i64,
        /// What is missing or of another kind.
        wrong: Vec<String>,
    },
    /// Some of it is missing.
    #[error(
        "schema {schema} is incomplete ({}): a migration was interrupted, or other tables have these names; \
         finish it with the SDK that began it (dbos migrate), or name another schema", missing.join(", ")
    )]
    HalfMade {
        /// The schema.
        schema: SchemaName,
        /// Tables and columns that are not there.
        missing: Vec<String>,
    },
    /// A later DBOS has removed what we need.
    #[error(
        "schema {schema} is at level {level}, newer than this version of fireflow-worker knows, and lacks what it \
         needs ({}); use a newer fireflow-worker", missing.join(", ")
    )]
    TooNew {
        /// The schema.
        schema: SchemaName,
        /// The recorded level.
        level: i64,
        /// Tables and columns that are not there.
        missing: Vec<String>,
    },
    /// It is spread over several databases.
    #[error(
        "schema {schema} is sharded (workflow_status has a shard_key), which fireflow-worker can't serve; \
         name an unsharded system database"
    )]
    Sharded {
        /// The schema.
        schema: SchemaName,
    },
    /// A table of Fireflow's is not as it should be.
    #[error(
        "table {table} exists without {}; it belongs to something else, or to an unknown version of Fireflow: \
         choose another prefix than \"{prefix}\" (database.table_prefix), or add the columns", missing.join(", ")
    )]
    AppTable {
        /// The table.
        table: String,
        /// The prefix in use.
        prefix: Prefix,
        /// Columns that are not there.
        missing: Vec<String>,
    },
    /// Somebody else migrates, for long.
    #[error("another migration of this database is still running after {seconds} s; wait for it, then try again")]
    Locked {
        /// How long we waited.
        seconds: u64,
    },
    /// A transaction of somebody's keeps us from altering a table.
    #[error(
        "a table has been in use by a long transaction for {seconds} s; let it end (pg_stat_activity shows it), \
         then run fireflow-worker migrate again"
    )]
    InUse {
        /// How long we tried.
        seconds: u64,
    },
    /// Not brought all the way forward. What was done is recorded, and done.
    #[error("schema {schema} could not be brought to level {level}: {error}")]
    Stopped {
        /// The schema.
        schema: SchemaName,
        /// The level that failed; those below are done.
        level: i64,
        /// Why.
        #[source]
        error: Box<Error>,
    },
    /// Somebody else created the same things meanwhile, without the lock.
    #[error("another process is creating or altering the tables of schema {schema} at this moment; try again")]
    Raced {
        /// The schema.
        schema: SchemaName,
    },
    /// We may not.
    #[error(
        "not allowed to create or alter the tables ({0}); let a user who may, their owner, run: fireflow-worker migrate"
    )]
    NotAllowed(String),
    /// A role that is no owner lacks rights on tables that are there.
    #[error(
        "the role \"{role}\" lacks rights: {}; let the tables' owner run what this prints: fireflow-worker grants {role}{option}",
        missing.join(", ")
    )]
    Rights {
        /// The role.
        role: String,
        /// Privileges, and on what.
        missing: Vec<String>,
        /// What else `grants` is told.
        option: &'static str,
    },
    /// The database said no.
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
}

impl Error {
    pub(super) fn stopped(schema: &SchemaName, level: i64, error: Error) -> Error {
        Error::Stopped { schema: schema.clone(), level, error: Box::new(error) }
    }

    /// Whether trying again later may help without anybody doing something.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Locked { .. } | Error::InUse { .. } | Error::Raced { .. } => true,
            Error::Stopped { error, .. } => error.is_transient(),
            Error::Database(error) => crate::postgres::is_transient(error),
            _ => false,
        }
    }
}
