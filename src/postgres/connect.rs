//! Connections: a pool for statements, and single ones for what holds a session.

use std::fmt;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, QueueMode, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::{Client, Config};

use super::Error;
use super::dial::{Dial, Driver, Spare, with_place};
use super::pooler::Pooling;
use super::session::Pool;
use super::settings::Settings;
use super::tls::Connector;

/// What is connected to, for messages: everything but the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Hosts with ports, or socket folders.
    pub host: String,
    /// Database.
    pub database: String,
    /// User; none when the URL names none.
    pub user: Option<String>,
}

impl Target {
    pub(super) fn of(config: &Config) -> Target {
        let ports = config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let mut hosts: Vec<String> = Vec::new();
        for (index, host) in config.get_hosts().iter().enumerate() {
            hosts.push(match host {
                Host::Tcp(name) => format!("{name}:{}", port(index)),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}/.s.PGSQL.{}", path.display(), port(index)),
            });
        }
        if hosts.is_empty() {
            let addresses = config.get_hostaddrs().iter().enumerate();
            hosts.extend(addresses.map(|(index, address)| format!("{address}:{}", port(index))));
        }
        let user = config.get_user().map(str::to_owned);
        // PostgreSQL's own default: the database is named like the user.
        let database = config.get_dbname().map(str::to_owned).or(user.clone()).unwrap_or_default();
        Target { host: hosts.join(","), database, user }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database \"{}\" at {}", self.database, self.host)?;
        match &self.user {
            Some(user) => write!(f, " as user {user}"),
            None => Ok(()),
        }
    }
}

/// A pool that has proven itself by one connection.
///
/// # Errors
/// The first connection failed; [`Error::is_transient`] tells whether waiting helps.
pub async fn connect(settings: &Settings) -> Result<Pool, Error> {
    connect_by(settings, None).await
}

/// The same, with a first connection that is there already.
///
/// # Errors
/// As [`connect`].
pub async fn connect_by(settings: &Settings, spare: Option<Spare>) -> Result<Pool, Error> {
    let pool = pool_with(settings, spare)?;
    match pool.get().await {
        Ok(_) => Ok(pool),
        Err(error) => {
            let error = Error::of_pool(&settings.url.target(), &error, settings.acquire_timeout);
            Err(told_of_password(error, settings).await)
        }
    }
}

/// A pool that connects when it is first asked.
///
/// # Errors
/// Only the TLS settings can be wrong here.
pub fn pool(settings: &Settings) -> Result<Pool, Error> {
    pool_with(settings, None)
}

fn pool_with(settings: &Settings, spare: Option<Spare>) -> Result<Pool, Error> {
    let (config, dial) = prepare(settings)?;
    dial.keep(spare);
    let create = dial.longest(&config);
    // A connection that was lost meanwhile is noticed by its own task; asking the server each time costs a round trip.
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(config, dial, manager);
    let mut builder = deadpool_postgres::Pool::builder(manager)
        .max_size(settings.pool_size.max(1))
        // The last one to come back is the next to go: its server process has planned what is asked most.
        .queue_mode(QueueMode::Lifo)
        .timeouts(Timeouts {
            wait: Some(settings.acquire_timeout),
            create: Some(create),
            recycle: Some(settings.connect_timeout),
        })
        .runtime(Runtime::Tokio1);
    if settings.pooling == Pooling::None {
        let setup = settings.session_setup();
        builder = builder.post_create(Hook::async_fn(move |client, _| {
            let setup = setup.clone();
            Box::pin(async move { client.batch_execute(&setup).await.map_err(HookError::Backend) })
        }));
    }
    // The builder only fails when time-outs have no runtime.
    let pool = builder.build().map_err(|error| Error::Other {
        target: settings.url.target(),
        why: error.to_string(),
        transient: false,
    })?;
    Ok(Pool::new(pool, settings.pooling, settings.metrics.clone()))
}

/// One connection outside the pool, with its driver still to be run and its session not yet set up by
/// [`Settings`]: for what holds a session, such as LISTEN.
///
/// # Errors
/// As [`connect`].
pub async fn single(settings: &Settings) -> Result<(Client, Driver), Error> {
    let (config, dial) = prepare(settings)?;
    let target = settings.url.target();
    match dial.dial(&config).await {
        Ok(connection) => Ok(connection),
        Err(error) => Err(told_of_password(Error::of(&target, &error), settings).await),
    }
}

/// A refused login says where the password is from.
async fn told_of_password(error: Error, settings: &Settings) -> Error {
    let Error::Login { target, why } = error else { return error };
    let settings = settings.clone();
    let source = move || {
        let config = &settings.url.config;
        if settings.url.has_password() {
            return "the password is the URL's".to_owned();
        }
        let passwords = settings.passwords.clone().with_passfile(settings.url.passfile.clone());
        with_place(config, 0, |place| match passwords.find(place) {
            Ok(Some(found)) => format!("the password is from {}", found.source),
            Ok(None) => passwords.looked(place),
            Err(why) => why,
        })
    };
    match tokio::task::spawn_blocking(source).await {
        Ok(source) => Error::Login { target, why: format!("{why} ({source})") },
        Err(_) => Error::Login { target, why },
    }
}

fn prepare(settings: &Settings) -> Result<(Config, Dial), Error> {
    let mut config = settings.url.config.clone();
    if config.get_application_name().is_none() {
        config.application_name(&settings.application_name);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(settings.connect_timeout);
    }
    // What the URL says about keepalives is for drivers that know no better default.
    config.keepalives(true).keepalives_idle(settings.keepalive);
    config.keepalives_interval(settings.keepalive).keepalives_retries(3);
    config.tcp_user_timeout(settings.tcp_user_timeout);
    // All that a worker does is writing: of several hosts take the primary.
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let tls = Connector::new(&settings.url.tls)?;
    let passwords = settings.passwords.clone().with_passfile(settings.url.passfile.clone());
    Ok((config, Dial::new(tls, passwords, settings.answer_limit(), settings.metrics.clone())))
}
