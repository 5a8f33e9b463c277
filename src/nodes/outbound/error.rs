//! What can go wrong on the way out. Texts end up in events and logs: they name hosts, rules and settings, and never show
//! a URL, a header or a body.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use super::Refused;
use crate::nodes::secrets::{Redactor, SecretError};

/// A request that got no response, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// The policy refuses the host.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A secret can't be used here.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The request isn't one.
    #[error("the request can't be made")]
    Request,
    /// The request's body is too large.
    #[error("the request's body has {size} bytes; outbound.max_request allows {limit}")]
    RequestTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: u64,
    },
    /// The response's body is too large. It wasn't read further.
    #[error("the response of {host} is larger than {limit} bytes (outbound.max_response); ask for less")]
    ResponseTooLarge {
        /// Whose.
        host: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The response's head is too large.
    #[error("the headers of the response of {host} are larger than {limit} bytes (outbound.max_response_headers)")]
    HeadersTooLarge {
        /// Whose.
        host: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// More redirects than allowed.
    #[error("too many redirects: the last one comes from {host}, and outbound.max_redirects allows {limit}")]
    Redirects {
        /// Who redirects.
        host: String,
        /// The limit.
        limit: u32,
    },
    /// A redirect that isn't followed.
    #[error("{host} redirects to {to}, which is not followed: {why}")]
    Redirect {
        /// Who redirects.
        host: String,
        /// Where, without path.
        to: String,
        /// Why it isn't followed.
        why: String,
    },
    /// The time of the attempt is over.
    #[error("{host} took longer than {} in all (outbound.timeout)", humantime::format_duration(*limit))]
    TimedOut {
        /// Who.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// The network failed, or the server spoke no HTTP.
    #[error("{0}")]
    Network(String),
    /// The client can't be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl OutboundError {
    /// Whether another attempt may go better.
    pub fn is_transient(&self) -> bool {
        matches!(self, OutboundError::Network(_) | OutboundError::TimedOut { .. })
    }

    /// The same without secrets, which a server may have put into the host that it redirects to.
    pub(super) fn without_secrets(mut self, redactor: &Redactor) -> OutboundError {
        let clean = |text: &mut String| {
            if let Cow::Owned(cleaned) = redactor.text(text) {
                *text = cleaned;
            }
        };
        match &mut self {
            OutboundError::Refused(Refused { host, .. })
            | OutboundError::ResponseTooLarge { host, .. }
            | OutboundError::HeadersTooLarge { host, .. }
            | OutboundError::Redirects { host, .. }
            | OutboundError::TimedOut { host, .. }
            | OutboundError::Network(host) => clean(host),
            OutboundError::Redirect { host, to, .. } => {
                clean(host);
                clean(to);
            }
            OutboundError::Secret(_)
            | OutboundError::Request
            | OutboundError::RequestTooLarge { .. }
            | OutboundError::Setup(_) => {}
        }
        self
    }

    /// What the library says, without the URL: it may hold credentials.
    pub(super) fn of(error: &reqwest::Error, host: &str) -> OutboundError {
        // The innermost cause is the one that says something, and comes from below HTTP.
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return OutboundError::Refused(refused.clone());
        }
        let kind = if error.is_connect() {
            "could not connect to"
        } else if error.is_timeout() {
            "time is over for"
        } else if error.is_builder() {
            return OutboundError::Request;
        } else {
            "the connection failed to"
        };
        let inner = if std::ptr::addr_eq(cause, error) { String::new() } else { format!(": {cause}") };
        OutboundError::Network(format!("{kind} {host}{inner}"))
    }
}

/// The client can't be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The file with certificates.
    #[error("can't use outbound.ca_file {}: {why}", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The system's certificates.
    #[error("can't set up TLS: {0}; are the system's root certificates installed?")]
    Tls(#[from] rustls::Error),
    /// Something in the HTTP library, such as the proxy's URL.
    #[error("can't prepare the HTTP client: {0}")]
    Client(String),
}
