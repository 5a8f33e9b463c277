//! How one connection is made: the hosts of the URL one after the other, each with a time limit of its own, until one
//! takes writes; with TLS, without, or with the one after the other has failed, as `sslmode` says.
//!
//! The driver has a loop like this. It gives no limit to a login that hangs, and its socket can't be watched.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::passfile::Place;
use super::passwords::Passwords;
use super::tls::{Connector, Use};
use super::watched::Watched;
use crate::metrics::Connections;

/// The driver's half of a connection; it must be polled for anything to happen.
pub type Driver = Connection<Watched, <MakeRustlsConnect as MakeTlsConnect<Watched>>::Stream>;

/// For a URL without a limit; ours always have one.
const CONNECT: Duration = Duration::from_secs(10);

/// What a server says that is there, and not the one that is looked for.
pub(super) const READ_ONLY: &str = "database does not allow writes";
const NOT_READ_ONLY: &str = "database is not read only";
/// How an error begins of a file that a connection needs: a password, a certificate.
pub(super) const LOCAL: &str = "what a connection needs can't be had: ";

/// A connection that was made for something else, and whose session nobody has set up.
#[derive(Debug)]
pub struct Spare {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Spare {
    pub(super) fn new(client: Client, driver: Driver) -> Spare {
        // The driver ends with its client.
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection is lost");
            }
        });
        Spare { client, driver }
    }
}

/// Makes connections. Cheap to clone; clones remember together which host took the last one.
#[derive(Clone)]
pub(super) struct Dial {
    tls: Arc<Connector>,
    passwords: Arc<Passwords>,
    answer_limit: Option<Duration>,
    /// With a host in front that swallows what is sent to it, each connection would take its time limit first.
    last: Arc<AtomicUsize>,
    metrics: Arc<Connections>,
    spare: Arc<Mutex<Option<Spare>>>,
}

impl Dial {
    /// With this TLS, these passwords where the URL has none, and this limit for an answer.
    pub fn new(
        tls: Connector,
        passwords: Passwords,
        answer_limit: Option<Duration>,
        metrics: Arc<Connections>,
    ) -> Dial {
        let (tls, passwords) = (Arc::new(tls), Arc::new(passwords));
        Dial { tls, passwords, answer_limit, last: Arc::default(), metrics, spare: Arc::default() }
    }

    /// This one is to be the first connection.
    pub fn keep(&self, spare: Option<Spare>) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = spare;
    }

    /// The longest time that a connection can take: the limit for each host, and some for the session.
    pub fn longest(&self, config: &Config) -> Duration {
        let hosts = u32::try_from(hosts(config)).unwrap_or(u32::MAX);
        limit(config).saturating_mul(hosts).saturating_add(Duration::from_secs(5))
    }

    /// A connection to the first host that takes it, beginning with the one that took the last.
    ///
    /// # Errors
    /// What tells most of what the hosts said: a server's own words before those of the network.
    pub async fn dial(&self, config: &Config) -> Result<(Client, Driver), Error> {
        let hosts = hosts(config);
        let first = match config.get_load_balance_hosts() {
            LoadBalanceHosts::Random => rand::random_range(0..hosts.max(1)),
            _ => self.last.load(Relaxed),
        };
        let mut told: Option<Error> = None;
        for turn in 0..hosts.max(1) {
            let index = (first + turn) % hosts.max(1);
            let attempt = tokio::time::timeout(limit(config), self.host(config, index)).await;
            let error = match attempt {
                Ok(Ok(connection)) => {
                    self.last.store(index, Relaxed);
                    self.metrics.opened.increment();
                    return Ok(connection);
                }
                Ok(Err(error)) => error,
                Err(_) => failure(config, &late()).await,
            };
            if told.as_ref().is_none_or(|told| weight(&error) >= weight(told)) {
                told = Some(error);
            }
        }
        self.metrics.failed.increment();
        match told {
            Some(error) => Err(error),
            None => Err(failure(config, &io::Error::other("no host")).await), // there is a turn at least
        }
    }

    async fn host(&self, config: &Config, index: usize) -> Result<(Client, Driver), Error> {
        let port = port(config, index);
        let (host, address) = (config.get_hosts().get(index), config.get_hostaddrs().get(index));
        let host = match (host, address) {
            #[cfg(unix)]
            (Some(Host::Unix(folder)), None) => {
                let (config, tls) = self.ready(config, index).await?;
                let socket = Watched::unix(&folder.join(format!(".s.PGSQL.{port}")), self.answer_limit).await;
                return session(&config, SslMode::Disable, socket, tls, "").await;
            }
            (Some(Host::Tcp(name)), _) => name.clone(),
            (_, Some(address)) => address.to_string(),
            (None, None) => return Err(failure(config, &io::Error::other("no host")).await),
        };
        let addresses: Vec<SocketAddr> = match address {
            Some(address) => vec![(*address, port).into()],
            None => match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(addresses) => addresses.collect(),
                Err(error) => return Err(failure(config, &error).await),
            },
        };
        let (config, tls) = self.ready(config, index).await?;
        // Behind one name may be a primary and its standbys.
        let share = limit(&config) / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut told = None;
        for address in addresses {
            let attempt = self.address(&config, address, &tls, &host);
            told = match tokio::time::timeout(share, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => Some(error),
                Err(_) => Some(failure(&config, &late()).await),
            };
        }
        match told {
            Some(error) => Err(error),
            None => Err(failure(&config, &io::Error::other("the name has no address")).await),
        }
    }

    /// What is read from files: the password, and what TLS needs.
    async fn ready(&self, config: &Config, index: usize) -> Result<(Config, MakeRustlsConnect), Error> {
        let (dial, asked) = (self.clone(), config.clone());
        let read = move || {
            let tls = dial.tls.current().map_err(|error| error.to_string())?;
            let mut config = asked;
            if config.get_password().is_none()
                && let Some(found) = with_place(&config, index, |place| dial.passwords.find(place))?
            {
                config.password(found.password);
            }
            Ok((config, tls))
        };
        // Not on this thread: they may lie on a disk that hangs.
        let why = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(why)) => why,
            Err(panicked) => panicked.to_string(),
        };
        Err(failure(config, &io::Error::other(format!("{LOCAL}{why}"))).await)
    }

    /// One address, as `sslmode` says.
    async fn address(
        &self,
        config: &Config,
        address: SocketAddr,
        tls: &MakeRustlsConnect,
        name: &str,
    ) -> Result<(Client, Driver), Error> {
        let once = async |mode| {
            let socket = Watched::tcp(address, config, self.answer_limit).await;
            session(config, mode, socket, tls.clone(), name).await
        };
        let bound = config.get_channel_binding() == ChannelBinding::Require;
        match self.tls.wanted() {
            Use::Never => once(SslMode::Disable).await,
            Use::Always => once(SslMode::Require).await,
            // There is none without TLS.
            Use::Allow | Use::Prefer if bound => once(SslMode::Require).await,
            Use::Prefer => match once(SslMode::Prefer).await {
                Err(first) if is_about_tls(&first) => once(SslMode::Disable).await.map_err(|_| first),
                done => done,
            },
            Use::Allow => match once(SslMode::Disable).await {
                Err(first) if is_about_tls(&first) => once(SslMode::Require).await,
                done => done,
            },
        }
    }
}

/// Log in, and look whether the server is of the kind that is wanted.
async fn session(
    config: &Config,
    mode: SslMode,
    socket: io::Result<Watched>,
    mut tls: MakeRustlsConnect,
    name: &str,
) -> Result<(Client, Driver), Error> {
    let tls = <MakeRustlsConnect as MakeTlsConnect<Watched>>::make_tls_connect(&mut tls, name);
    let (socket, tls) = match (socket, tls) {
        (Ok(socket), Ok(tls)) => (socket, tls),
        (Err(error), _) => return Err(failure(config, &error).await),
        (_, Err(error)) => return Err(failure(config, &io::Error::other(error)).await),
    };
    let mut config = config.clone();
    let (client, mut driver) = config.ssl_mode(mode).connect_raw(socket, tls).await?;
    let wanted = config.get_target_session_attrs();
    if wanted == TargetSessionAttrs::Any {
        return Ok((client, driver));
    }
    let mut asked = Box::pin(client.simple_query("SHOW transaction_read_only"));
    let answer = poll_fn(|context| {
        if let Poll::Ready(Err(error)) = Pin::new(&mut driver).poll(context) {
            return Poll::Ready(Err(error));
        }
        asked.as_mut().poll(context)
    })
    .await?;
    drop(asked);
    let on = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
        _ => false,
    };
    let refusal = match (wanted, answer.iter().any(on)) {
        (TargetSessionAttrs::ReadWrite, true) => READ_ONLY,
        (TargetSessionAttrs::ReadOnly, false) => NOT_READ_ONLY,
        _ => return Ok((client, driver)),
    };
    Err(failure(&config, &io::Error::new(io::ErrorKind::PermissionDenied, refusal)).await)
}

/// Whether the other kind of connection, with TLS or without, may be had: TLS failed, or the server has no rule for this kind.
/// A wrong password is wrong without TLS as well, and is not sent again.
fn is_about_tls(error: &Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => super::error::is_tls(error),
    }
}

/// Do something with what a connection to this host is made to.
pub(super) fn with_place<T>(config: &Config, index: usize, act: impl FnOnce(&Place<'_>) -> T) -> T {
    let address = config.get_hostaddrs().get(index).map(ToString::to_string);
    let host = match config.get_hosts().get(index) {
        Some(Host::Tcp(name)) => name.as_bytes(),
        #[cfg(unix)]
        Some(Host::Unix(folder)) => std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str()),
        None => address.as_deref().unwrap_or_default().as_bytes(),
    };
    let user = config.get_user().unwrap_or_default();
    act(&Place { host, port: port(config, index), database: config.get_dbname().unwrap_or(user), user })
}

fn port(config: &Config, index: usize) -> u16 {
    config.get_ports().get(index).or(config.get_ports().first()).copied().unwrap_or(5432)
}

impl Connect for Dial {
    fn connect(&self, config: &Config) -> futures_util::future::BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        Box::pin(async move {
            let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Spare { client, driver } = match spare.filter(|spare| !spare.client.is_closed()) {
                Some(spare) => spare,
                None => {
                    let (client, driver) = self.dial(&config).await?;
                    Spare::new(client, driver)
                }
            };
            Ok((client, driver))
        })
    }
}

fn hosts(config: &Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

fn limit(config: &Config) -> Duration {
    config.get_connect_timeout().copied().unwrap_or(CONNECT)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// An error of the driver's own kind with this cause: nothing but the driver can make one.
async fn failure(config: &Config, error: &io::Error) -> Error {
    let mut config = config.clone();
    config.ssl_mode(SslMode::Disable);
    loop {
        // The first write to such a socket fails.
        if let Err(failure) = config.connect_raw(Watched::failed(error), NoTls).await {
            return failure;
        }
    }
}

/// How much an error tells: the network's, one of a server that is the wrong one, and a server's own words.
fn weight(error: &Error) -> u8 {
    match error.code() {
        Some(_) => 2,
        None => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            u8::from(source.is_some_and(|source| source.contains(READ_ONLY)))
        }
    }
}
