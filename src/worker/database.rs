//! The databases of a worker: connections, and the schemas in them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_postgres::Client;

use crate::{
    config::Settings,
    metrics::{self, Label as _, Metrics},
    postgres::{self, Passwords, Pool, Pooling},
    sysdb::{
        SystemDatabase,
        schema::{
            self, Advanced, Prefix, SchemaName, State, Task, app,
            grants::{Asked, Purpose},
        },
    },
};

/// No connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL can't be used.
    #[error("database.url: {0}")]
    Url(#[from] postgres::UrlError),
    /// A name can't be used.
    #[error(transparent)]
    Name(#[from] schema::NameError),
    /// The database can't be reached, or refuses us.
    #[error(transparent)]
    Refused(#[from] postgres::Error),
}

impl ConnectError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, ConnectError::Refused(error) if error.is_transient())
    }

    /// Whether it is the configuration that is wrong, whatever the server does.
    pub fn is_configuration(&self) -> bool {
        match self {
            ConnectError::Url(_) | ConnectError::Name(_) => true,
            ConnectError::Refused(error) => error.is_configuration(),
        }
    }
}

/// A schema can't be used, or can't be asked about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// It can't be used, or not be made.
    #[error(transparent)]
    Schema(#[from] schema::Error),
    /// It would have to be brought forward through a pooler.
    #[error(
        "schema {schema} can't be brought forward through a connection pooler in transaction mode, which holds no lock and no \
         setting between two transactions; run fireflow-worker migrate with the server's own address: --database-url, or \
         DATABASE_URL"
    )]
    Pooled {
        /// The schema.
        schema: SchemaName,
    },
    /// There is nothing yet.
    #[error("the database isn't ready for this ({first}, …); `fireflow-worker migrate` makes what is missing")]
    NotReady {
        /// What is missing first.
        first: String,
    },
    /// No connection.
    #[error("no connection to the database: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// No connection can be made.
    #[error(transparent)]
    Connect(#[from] postgres::Error),
}

impl SchemaError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            SchemaError::Schema(error) => error.is_transient(),
            SchemaError::Pooled { .. } | SchemaError::NotReady { .. } => false,
            SchemaError::Pool(_) => true,
            SchemaError::Connect(error) => error.is_transient(),
        }
    }
}

/// What a migration did.
#[derive(Debug)]
pub struct Migrated {
    /// The system schema, from one level to another.
    pub advanced: Option<Advanced>,
    /// What was made: one line each.
    pub created: Vec<String>,
}

/// The databases of a worker.
#[derive(Clone)]
pub struct Database {
    /// Queue and executions.
    pub pool: Pool,
    /// Flows, which may live elsewhere.
    pub flows: Pool,
    /// For the lease alone, so that the work can't starve it of connections.
    pub lease: Pool,
    /// The system database on `pool`.
    pub sysdb: SystemDatabase,
    /// Schema of the system tables.
    pub schema: SchemaName,
    /// Prefix of the application tables.
    pub prefix: Prefix,
    /// How `pool` connects.
    pub(super) settings: postgres::Settings,
    separate_flows: bool,
    /// Enqueues shall be announced.
    announce: bool,
}

impl Database {
    /// Connect to all databases of these settings, and make sure that they answer.
    ///
    /// # Errors
    /// [`ConnectError`], which says what to check.
    pub async fn connect(settings: &Settings) -> Result<Database, ConnectError> {
        Database::counted(settings, &Arc::default()).await
    }

    /// As [`Database::connect`], with everything counted here.
    ///
    /// # Errors
    /// As [`Database::connect`].
    pub(super) async fn counted(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Database, ConnectError> {
        let Settings { database, .. } = settings;
        let announce = settings.queue.iter().any(|queue| queue.notify_trigger);
        let to = |url: &str, passwords: Passwords| {
            passwords.warn();
            Ok::<_, ConnectError>(postgres::Settings {
                passwords,
                pool_size: database.pool_size,
                connect_timeout: database.connect_timeout,
                acquire_timeout: database.connect_timeout,
                statement_timeout: database.statement_timeout,
                lock_timeout: database.lock_timeout,
                keepalive: database.keepalive,
                tcp_user_timeout: database.tcp_user_timeout,
                ..postgres::Settings::new(url.parse()?)
            })
        };
        let schema: SchemaName = database.schema.parse()?;
        let prefix = database.table_prefix.parse()?;
        let passwords = |key, file: &Option<PathBuf>, credential| {
            Passwords::new(key, file.as_deref(), credential, |name| std::env::var_os(name))
        };
        let own = passwords("database.password_file", &database.password_file, "database-password");
        let mut settings = to(&database.url, own)?;
        let (pooling, mut spares) = database.pooler.resolve(&settings).await?;
        settings.pooling = pooling;
        settings.metrics = metrics.connections.of(metrics::Purpose::Work).clone();
        let registry = metrics.connections.of(metrics::Purpose::Registry).clone();
        let alone = postgres::Settings { pool_size: 1, metrics: registry, ..settings.clone() };
        let (pool, lease) = tokio::try_join!(
            postgres::connect_by(&settings, spares.pop()),
            postgres::connect_by(&alone, spares.pop())
        )?;
        let flows = match &database.flows_url {
            Some(url) => {
                let file = &database.flows_password_file;
                let own = passwords("database.flows_password_file", file, "flows-database-password");
                let mut settings = to(url, own)?;
                let (pooling, mut spares) = database.pooler.resolve(&settings).await?;
                settings.pooling = pooling;
                settings.metrics = metrics.connections.of(metrics::Purpose::Flows).clone();
                postgres::connect_by(&settings, spares.pop()).await?
            }
            None => pool.clone(),
        };
        let sysdb = SystemDatabase::new(pool.clone(), schema.clone()).counted(metrics.clone());
        Ok(Database {
            pool,
            flows,
            lease,
            sysdb,
            schema,
            prefix,
            settings,
            separate_flows: database.flows_url.is_some(),
            announce,
        })
    }

    /// What stands between the worker and the database with the queue.
    pub fn pooling(&self) -> Pooling {
        self.pool.pooling()
    }

    /// What a pooler in transaction mode costs, for people; `None` where there is none.
    pub fn pooled(&self) -> Option<&'static str> {
        let found = [&self.pool, &self.flows].map(|pool| pool.pooling() == Pooling::Transaction);
        found.contains(&true).then_some(
            "a connection pooler in transaction mode stands before the database: statements go out unprepared, nothing is \
             listened to, so messages are found by polling, and time limits on statements are left to the server \
             (docs/reliability.md#poolers)",
        )
    }

    /// What the system schema is. Changes nothing.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn inspect(&self) -> Result<State, SchemaError> {
        self.check_rights().await?;
        self.state().await
    }

    /// As [`Database::inspect`], whatever the role may do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn state(&self) -> Result<State, SchemaError> {
        let client = self.pool.get().await?;
        Ok(schema::inspect(&*client, &self.schema).await?)
    }

    /// Make sure that the role may do what a worker does with the tables that are there.
    ///
    /// # Errors
    /// [`SchemaError`], which names the tables and what is missing.
    pub async fn check_rights(&self) -> Result<(), SchemaError> {
        self.check_rights_for(Purpose::Worker.into()).await
    }

    /// The same for another purpose than a worker's.
    ///
    /// # Errors
    /// [`SchemaError`], which names the tables and what is missing.
    pub async fn check_rights_for(&self, asked: Asked) -> Result<(), SchemaError> {
        for (pool, part) in self.parts() {
            let client = pool.get().await?;
            schema::grants::check(&*client, asked, &self.schema, &self.prefix, part).await?;
        }
        Ok(())
    }

    /// Make sure that there is something to do this with, and that the role may; for commands that make nothing.
    ///
    /// # Errors
    /// [`SchemaError`]: a schema that is missing or can't be used, tables of executions that are missing, rights.
    pub async fn ready_for(&self, asked: Asked) -> Result<(), SchemaError> {
        self.check_rights_for(asked).await?;
        let mut missing = schema::plan(&self.state().await?, &self.schema)?;
        // Where flows are elsewhere, they are no business of these commands.
        let part = if self.separate_flows { app::Part::Executions } else { app::Part::Both };
        missing.extend(app::missing(&*self.pool.get().await?, &self.prefix, part).await?);
        match missing.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(SchemaError::NotReady { first }),
        }
    }

    /// What [`Database::ensure_schemas`] would make: one line each; empty when all is there.
    ///
    /// # Errors
    /// [`SchemaError`], for a schema that can't be used.
    pub async fn plan_schemas(&self) -> Result<Vec<String>, SchemaError> {
        self.plan_for(&self.inspect().await?).await
    }

    /// The same for a schema that was looked at.
    ///
    /// # Errors
    /// [`SchemaError`], for a schema that can't be used.
    pub async fn plan_for(&self, state: &State) -> Result<Vec<String>, SchemaError> {
        self.with_tables(schema::plan(state, &self.schema)?).await
    }

    /// What [`Database::migrate_schemas`] would do, as [`Database::plan_schemas`].
    ///
    /// # Errors
    /// [`SchemaError`], for a schema that can't be brought forward.
    pub async fn plan_migration(&self) -> Result<Vec<String>, SchemaError> {
        let mut plan = self.with_tables(schema::plan_forward(&self.inspect().await?, &self.schema)?).await?;
        if self.announce && !schema::is_announced(&*self.pool.get().await?, &self.schema).await? {
            plan.push(format!("CREATE TRIGGER, two, on {}.workflow_status: announce enqueues", self.schema));
        }
        Ok(plan)
    }

    /// Executors that took workflows of the last hour from a schema that is to be brought forward; none where there is
    /// nothing to bring forward.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn recent_executors(&self) -> Result<Vec<String>, SchemaError> {
        let client = self.pool.get().await?;
        match schema::inspect(&*client, &self.schema).await? {
            State::Older { .. } | State::Low { .. } => Ok(schema::recent_executors(&*client, &self.schema).await?),
            _ => Ok(Vec::new()),
        }
    }

    async fn with_tables(&self, mut plan: Vec<String>) -> Result<Vec<String>, SchemaError> {
        plan.extend(self.missing_tables().await?.into_iter().map(|table| format!("CREATE TABLE {table}")));
        Ok(plan)
    }

    /// Application tables that are yet to be made, by their names.
    ///
    /// # Errors
    /// A table is there and lacks columns, and those of the database.
    pub async fn missing_tables(&self) -> Result<Vec<String>, SchemaError> {
        let mut missing = Vec::new();
        for (pool, part) in self.parts() {
            missing.extend(app::missing(&*pool.get().await?, &self.prefix, part).await?);
        }
        Ok(missing)
    }

    /// What the role lacks to make what is missing, as `run` does where it may; empty where it may, or nothing is missing.
    /// `state` is that of the system schema.
    ///
    /// # Errors
    /// As [`Database::missing_tables`].
    pub async fn lacking_to_make(&self, state: &State) -> Result<Vec<String>, SchemaError> {
        let mut lacking = Vec::new();
        if *state == State::Empty {
            lacking.extend(schema::lacking_to_make(&*self.pool.get().await?, &self.schema).await?);
        }
        for (pool, part) in self.parts() {
            let client = pool.get().await?;
            if !app::missing(&*client, &self.prefix, part).await?.is_empty() {
                lacking.extend(app::lacking_to_make(&*client, &self.prefix).await?);
            }
        }
        Ok(lacking)
    }

    /// Make schemas and tables where there are none; use existing ones as they are. One line for what was made.
    ///
    /// # Errors
    /// [`SchemaError`], for a schema that can't be used or not be made.
    pub async fn ensure_schemas(&self) -> Result<Vec<String>, SchemaError> {
        self.check_rights().await?;
        let mut made = Vec::new();
        {
            let mut client = self.pool.get().await?;
            let client: &mut Client = &mut client;
            let ready = schema::ensure(client, &self.schema).await?;
            if ready.created {
                made.push(format!("system schema {} at level {}", self.schema, ready.level));
            }
        }
        for (pool, part) in self.parts() {
            let mut client = pool.get().await?;
            let client: &mut Client = &mut client;
            made.extend(
                app::ensure(client, &self.prefix, part).await?.into_iter().map(|table| format!("table {table}")),
            );
        }
        Ok(made)
    }

    /// Bring an older system schema to the newest level, as nothing else does; then [`Database::ensure_schemas`].
    /// `progress` is told each task before it is done, which may take long.
    ///
    /// # Errors
    /// [`SchemaError`], for a schema that can't be brought forward or not be made.
    pub async fn migrate_schemas(&self, progress: impl FnMut(&Task)) -> Result<Migrated, SchemaError> {
        if self.pooling() == Pooling::Transaction {
            let state = self.inspect().await?;
            if state != State::Empty && !schema::plan_forward(&state, &self.schema)?.is_empty() {
                return Err(SchemaError::Pooled { schema: self.schema.clone() });
            }
        }
        let advanced = {
            // Taken from a pool of its own for good: it has a lock and no time limit, whatever happens here.
            let (statement_timeout, lock_timeout) = (Duration::ZERO, Duration::ZERO);
            let unlimited = postgres::Settings { statement_timeout, lock_timeout, ..self.settings.clone() };
            let mut client = postgres::pool(&unlimited)?.get().await?.take();
            let client: &mut Client = &mut client;
            schema::advance(client, &self.schema, progress).await?
        };
        let mut created = self.ensure_schemas().await?;
        if self.announce {
            let mut client = self.pool.get().await?;
            let client: &mut Client = &mut client;
            if schema::announce(client, &self.schema).await? {
                created.push(format!("triggers on {}.workflow_status that announce enqueues", self.schema));
            }
        }
        Ok(Migrated { advanced, created })
    }

    /// Connections that nobody uses are closed, and made anew when they are needed: where the server has become read-only,
    /// the URL may name one that isn't.
    pub(super) fn forget_connections(&self) {
        for pool in [&self.pool, &self.flows, &self.lease] {
            pool.forget_connections();
        }
    }

    /// The pools, by what for.
    pub(super) fn pools(&self) -> Vec<(&'static str, Pool)> {
        let mut pools = vec![(metrics::Purpose::Work, &self.pool), (metrics::Purpose::Registry, &self.lease)];
        if self.separate_flows {
            pools.push((metrics::Purpose::Flows, &self.flows));
        }
        pools.into_iter().map(|(purpose, pool)| (purpose.text(), pool.clone())).collect()
    }

    /// How a connection of its own is made, counted as for this.
    pub(super) fn settings_for(&self, metrics: &Metrics, purpose: metrics::Purpose) -> postgres::Settings {
        postgres::Settings { metrics: metrics.connections.of(purpose).clone(), ..self.settings.clone() }
    }

    fn parts(&self) -> Vec<(&Pool, app::Part)> {
        if self.separate_flows {
            vec![(&self.pool, app::Part::Executions), (&self.flows, app::Part::Main)]
        } else {
            vec![(&self.pool, app::Part::Both)]
        }
    }
}
