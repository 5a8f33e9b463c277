//! The way out: every node that speaks to the network goes through [`Outbound`], which keeps to `[outbound]`.
//!
//! - The host is judged by its name, and by each address that is connected to (`policy`); redirects are followed here,
//!   one by one, so that each is judged as well (`redirect`).
//! - Connecting, the attempt as a whole, and the sizes of what is sent and comes back have limits (`reply`).
//! - Secrets are put in by the node, and are taken out of what comes back ([`crate::nodes::secrets`]).

mod address;
mod error;
mod policy;
mod redirect;
mod reply;
mod resolver;
mod tls;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use self::error::{OutboundError, SetupError};
pub use self::policy::Rule;
pub use self::reply::Reply;
pub use self::resolver::Refused;

use self::policy::{Policy, Standing};
use self::reply::Limits;
use self::resolver::Resolver;
use super::secrets::Secrets;
use crate::config::Outbound as Settings;

/// Ports for which a client with its connections is kept.
const CLIENTS: usize = 32;

/// What is to be sent, with secrets in their places.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers. Values that hold a secret are marked sensitive: they go to no other origin.
    pub headers: HeaderMap,
    /// The body, if there is one.
    pub body: Option<Bytes>,
    /// A secret that the body holds, by name: such a body goes to no other origin.
    pub secret_in_body: Option<String>,
}

/// The way out. Clones are the same: they share their connections, and change together.
#[derive(Clone, Default)]
pub struct Outbound(Arc<Shared>);

#[derive(Default)]
struct Shared {
    secrets: Secrets,
    now: RwLock<Arc<Inner>>,
}

struct Inner {
    settings: Settings,
    policy: Arc<Policy>,
    /// Made when it is first needed: that takes a while, and many runs need none.
    tls: OnceLock<Result<rustls::ClientConfig, SetupError>>,
    /// By port: the library doesn't tell its resolver to which port a name's addresses belong.
    clients: Mutex<HashMap<u16, Client>>,
}

/// All defaults.
impl Default for Inner {
    fn default() -> Inner {
        Inner::new(&Settings::default())
    }
}

impl Inner {
    fn new(settings: &Settings) -> Inner {
        let policy = Arc::new(Policy::new(settings));
        Inner { settings: settings.clone(), policy, tls: OnceLock::new(), clients: Mutex::default() }
    }

    fn tls(&self) -> Result<&rustls::ClientConfig, SetupError> {
        let made = self.tls.get_or_init(|| tls::config(self.settings.ca_file.as_deref()));
        made.as_ref().map_err(Clone::clone)
    }
}

impl Outbound {
    /// As the settings say.
    ///
    /// # Errors
    /// The certificates or the proxy can't be used.
    pub fn new(settings: &Settings, secrets: Secrets) -> Result<Outbound, SetupError> {
        let outbound = Outbound::with_defaults(secrets);
        outbound.change(settings)?;
        Ok(outbound)
    }

    /// As the defaults say, until it is [changed](Outbound::change).
    pub fn with_defaults(secrets: Secrets) -> Outbound {
        Outbound(Arc::new(Shared { secrets, now: RwLock::default() }))
    }

    /// From now on as these settings say, with new connections. Requests under way end as they began. Reads the system's
    /// certificates, which takes a while.
    ///
    /// # Errors
    /// The certificates or the proxy can't be used; then nothing has changed.
    pub fn change(&self, settings: &Settings) -> Result<(), SetupError> {
        let next = Inner::new(settings);
        next.client(443)?;
        *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    fn now(&self) -> Arc<Inner> {
        self.0.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What flows may refer to.
    pub fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    /// What takes a moment the first time, and so is no part of a request's time; and a look at what has changed of the
    /// secrets. To be called before references are followed.
    ///
    /// # Errors
    /// The system's certificates can't be used.
    pub async fn prepare(&self) -> Result<(), OutboundError> {
        self.0.secrets.refresh().await;
        self.now().tls()?;
        Ok(())
    }

    /// Send, and follow redirects, until there is a response's head.
    ///
    /// # Errors
    /// The policy, the network, or a limit.
    pub async fn send(&self, request: Request) -> Result<Reply, OutboundError> {
        let sent = self.send_and_follow(request).await;
        sent.map_err(|error| error.without_secrets(&self.0.secrets.redactor()))
    }

    async fn send_and_follow(&self, request: Request) -> Result<Reply, OutboundError> {
        let now = self.now();
        let settings = &now.settings;
        let limit = settings.max_request.as_u64();
        if let Some(size) = request.body.as_ref().map(Bytes::len).filter(|size| *size as u64 > limit) {
            return Err(OutboundError::RequestTooLarge { size, limit });
        }
        let limits = Limits {
            body: settings.max_response.as_u64(),
            headers: settings.max_response_headers.as_u64(),
            time: settings.timeout,
            until: Instant::now() + settings.timeout,
        };
        let mut request = request;
        for _ in 0..=settings.max_redirects {
            let reply = now.send_once(&request, limits, &self.0.secrets).await?;
            match redirect::follow(&request, reply.status(), reply.headers(), settings.allow_downgrade)? {
                Some(next) => request = next,
                None => return Ok(reply),
            }
        }
        Err(OutboundError::Redirects { host: host_of(&request.url), limit: settings.max_redirects })
    }
}

impl Inner {
    async fn send_once(&self, request: &Request, limits: Limits, secrets: &Secrets) -> Result<Reply, OutboundError> {
        let host = host_of(&request.url);
        let (Some(place), Some(port)) = (request.url.host(), request.url.port_or_known_default()) else {
            return Err(OutboundError::Request);
        };
        let refused = |rule| Refused { host: host.clone(), rule };
        let standing = self.policy.host(&place, port).map_err(refused)?;
        // A proxy doesn't tell where a name leads, so that an address in `allow` is of no use for it.
        if self.settings.proxy.is_some() && standing == Standing::ByAddress {
            return Err(refused(Rule::NotAllowed).into());
        }
        let mut builder = self.client(port)?.request(request.method.clone(), request.url.clone());
        builder = builder.headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        match timeout_at(limits.until, builder.send()).await {
            Ok(Ok(response)) => Reply::new(response, host, limits, secrets.redactor()),
            Ok(Err(error)) => Err(OutboundError::of(&error, &host)),
            Err(_) => Err(OutboundError::TimedOut { host, limit: limits.time }),
        }
    }

    fn client(&self, port: u16) -> Result<Client, SetupError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&port) {
            return Ok(client.clone());
        }
        if clients.len() >= CLIENTS {
            clients.clear(); // requests under way keep theirs
        }
        let client = self.make_client(port)?;
        clients.insert(port, client.clone());
        Ok(client)
    }

    fn make_client(&self, port: u16) -> Result<Client, SetupError> {
        let settings = &self.settings;
        let tls = self.tls()?.clone();
        let failed = |error: reqwest::Error| SetupError::Client(error.without_url().to_string());
        let headers = u32::try_from(settings.max_response_headers.as_u64()).unwrap_or(u32::MAX);
        let builder = Client::builder()
            .user_agent(concat!("fireflow-worker/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none()) // each is judged here
            .referer(false)
            .no_proxy() // those of the environment
            .connect_timeout(settings.connect_timeout)
            .http2_max_header_list_size(headers);
        let builder = match &settings.proxy {
            // Only the proxy is connected to, and it may be anywhere; it resolves the names.
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy).map_err(failed)?),
            None => builder.dns_resolver(Resolver { policy: self.policy.clone(), port }),
        };
        builder.build().map_err(failed)
    }
}

/// A client for what isn't a node's: the operator says where it connects to, and no policy judges it.
///
/// # Errors
/// The system's certificates can't be used.
#[cfg(feature = "otlp")]
pub(crate) fn plain_client(timeout: std::time::Duration) -> Result<Client, SetupError> {
    let builder = Client::builder()
        .user_agent(concat!("fireflow-worker/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls::config(None)?)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy() // those of the environment
        .timeout(timeout);
    builder.build().map_err(|error| SetupError::Client(error.without_url().to_string()))
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbound").field(&self.now().settings).finish()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All else may hold secrets.
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &host_of(&self.url))
            .finish_non_exhaustive()
    }
}

/// A URL's host, for people.
fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or("no host").to_owned()
}
