//! How one connection is made: the hosts of the URL one after the other, each with a time limit of its own, until one
//! takes writes.
//!
//! The driver has a loop like this. It gives no limit to a login that hangs, and its socket can't be watched.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::watched::Watched;
use crate::metrics::Connections;

/// The driver's half of a connection; it must be polled for anything to happen.
pub type Driver = Connection<Watched, <MakeRustlsConnect as MakeTlsConnect<Watched>>::Stream>;

/// For a URL without a limit; ours always have one.
const CONNECT: Duration = Duration::from_secs(10);

/// What a server says that is there, and not the one that is looked for.
pub(super) const READ_ONLY: &str = "database does not allow writes";
const NOT_READ_ONLY: &str = "database is not read only";

/// Makes connections. Cheap to clone; clones remember together which host took the last one.
#[derive(Clone)]
pub(super) struct Dial {
    tls: MakeRustlsConnect,
    answer_limit: Option<Duration>,
    /// With a host in front that swallows what is sent to it, each connection would take its time limit first.
    last: Arc<AtomicUsize>,
    metrics: Arc<Connections>,
}

impl Dial {
    /// With this TLS, and this limit for an answer.
    pub fn new(tls: MakeRustlsConnect, answer_limit: Option<Duration>, metrics: Arc<Connections>) -> Dial {
        Dial { tls, answer_limit, last: Arc::default(), metrics }
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
        let port = config.get_ports().get(index).or(config.get_ports().first()).copied().unwrap_or(5432);
        let (host, address) = (config.get_hosts().get(index), config.get_hostaddrs().get(index));
        let host = match (host, address) {
            #[cfg(unix)]
            (Some(Host::Unix(folder)), None) => {
                let socket = Watched::unix(&folder.join(format!(".s.PGSQL.{port}")), self.answer_limit).await;
                return self.session(config, socket, "").await;
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
        // Behind one name may be a primary and its standbys.
        let share = limit(config) / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut told = None;
        for address in addresses {
            let attempt = async {
                let socket = Watched::tcp(address, config, self.answer_limit).await;
                self.session(config, socket, &host).await
            };
            told = match tokio::time::timeout(share, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => Some(error),
                Err(_) => Some(failure(config, &late()).await),
            };
        }
        match told {
            Some(error) => Err(error),
            None => Err(failure(config, &io::Error::other("the name has no address")).await),
        }
    }

    /// Log in, and look whether the server is of the kind that is wanted.
    async fn session(
        &self,
        config: &Config,
        socket: io::Result<Watched>,
        name: &str,
    ) -> Result<(Client, Driver), Error> {
        let mut tls = self.tls.clone();
        let tls = <MakeRustlsConnect as MakeTlsConnect<Watched>>::make_tls_connect(&mut tls, name);
        let (socket, tls) = match (socket, tls) {
            (Ok(socket), Ok(tls)) => (socket, tls),
            (Err(error), _) => return Err(failure(config, &error).await),
            (_, Err(error)) => return Err(failure(config, &io::Error::other(error)).await),
        };
        let (client, mut driver) = config.connect_raw(socket, tls).await?;
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
        Err(failure(config, &io::Error::new(io::ErrorKind::PermissionDenied, refusal)).await)
    }
}

impl Connect for Dial {
    fn connect(&self, config: &Config) -> futures_util::future::BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, driver) = self.dial(&config).await?;
            let task = tokio::spawn(async move {
                if let Err(error) = driver.await {
                    tracing::debug!(%error, "a connection is lost");
                }
            });
            Ok((client, task))
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
