//! What connecting can fail with, by what an operator does about it.

use std::error::Error as _;
use std::io;

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use rustls::CertificateError;
use tokio_postgres::error::SqlState;

use super::connect::Target;
use super::dial::{LOCAL, READ_ONLY};
use super::tls::TlsError;

/// A connection could not be had. Each text names the target, without the password, and what to look at next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing answers there.
    #[error("can't reach PostgreSQL: {target}: {why}; check host, port and firewall, and that the server runs")]
    Unreachable {
        /// What was tried.
        target: Target,
        /// What the system said.
        why: String,
    },
    /// The server is there and not ready: starting, stopping, or a standby.
    #[error("PostgreSQL is not ready: {target}: {why}; it is starting, stopping or a read-only standby, try again")]
    NotReady {
        /// What was tried.
        target: Target,
        /// What the server said.
        why: String,
    },
    /// User or password are not accepted.
    #[error("PostgreSQL refused the login: {target}: {why}; check user and password, and the server's pg_hba.conf")]
    Login {
        /// What was tried.
        target: Target,
        /// What the server said.
        why: String,
    },
    /// There is no such database.
    #[error("no such database: {target}; create it (createdb {}), or correct the name in the URL", target.database)]
    UnknownDatabase {
        /// What was tried.
        target: Target,
    },
    /// The server has no connection left.
    #[error(
        "PostgreSQL has no connection left: {target}: {why}; use fewer workers or connections, or raise the server's max_connections"
    )]
    TooManyConnections {
        /// What was tried.
        target: Target,
        /// What the server said.
        why: String,
    },
    /// TLS could not be agreed on.
    #[error("TLS failed: {target}: {why}; check sslmode and sslrootcert in the URL, and the server's certificate")]
    Tls {
        /// What was tried.
        target: Target,
        /// What went wrong.
        why: String,
    },
    /// The TLS settings are wrong, whatever the server.
    #[error(transparent)]
    TlsSettings(#[from] TlsError),
    /// A file with a password or a certificate can't be used.
    #[error("can't connect: {target}: {why}")]
    Local {
        /// What was tried.
        target: Target,
        /// Which file, and why.
        why: String,
    },
    /// All connections of the pool are in use for too long.
    #[error(
        "no free connection to PostgreSQL: {target}: waited {seconds} s; raise the pool size, or look for long transactions"
    )]
    PoolExhausted {
        /// What was tried.
        target: Target,
        /// How long.
        seconds: u64,
    },
    /// Anything else.
    #[error("PostgreSQL: {target}: {why}")]
    Other {
        /// What was tried.
        target: Target,
        /// What the server or the driver said.
        why: String,
        /// Whether another attempt may help.
        transient: bool,
    },
}

impl Error {
    /// Whether trying again later may help without anybody doing something.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::NotReady { .. }
            | Error::TooManyConnections { .. }
            | Error::PoolExhausted { .. } => true,
            Error::Other { transient, .. } => *transient,
            Error::Login { .. }
            | Error::UnknownDatabase { .. }
            | Error::Tls { .. }
            | Error::TlsSettings(_)
            | Error::Local { .. } => false,
        }
    }

    /// Whether it is the configuration that is wrong, whatever the server does.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Error::TlsSettings(_) | Error::Local { .. })
    }

    /// Why this connection attempt failed.
    pub(super) fn of(target: &Target, error: &tokio_postgres::Error) -> Error {
        let target = target.clone();
        let why = innermost(error);
        let Some(code) = error.code() else {
            if let Some(why) = why.strip_prefix(LOCAL) {
                return Error::Local { target, why: why.to_owned() };
            }
            if let Some(why) = login(&why) {
                return Error::Login { target, why: why.to_owned() };
            }
            return match io_source(error) {
                _ if is_tls(error) => Error::Tls { target, why: explain(error).unwrap_or(why) },
                Some(io) if io.kind() == io::ErrorKind::PermissionDenied && why.contains(READ_ONLY) => {
                    Error::NotReady { target, why }
                }
                Some(_) => Error::Unreachable { target, why },
                None => Error::Other { target, why, transient: is_transient(error) },
            };
        };
        match code {
            &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Error::Login { target, why }
            }
            &SqlState::INVALID_CATALOG_NAME => Error::UnknownDatabase { target },
            &SqlState::TOO_MANY_CONNECTIONS => Error::TooManyConnections { target, why },
            &SqlState::CANNOT_CONNECT_NOW => Error::NotReady { target, why },
            _ => Error::Other { target, why, transient: is_transient(error) },
        }
    }

    /// Why the pool gave no connection.
    pub fn of_pool(target: &Target, error: &PoolError, waited: std::time::Duration) -> Error {
        let target = target.clone();
        match error {
            // A connection may also break while its session is set up.
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Error::of(&target, error)
            }
            PoolError::Timeout(TimeoutType::Wait) => Error::PoolExhausted { target, seconds: waited.as_secs() },
            PoolError::Timeout(_) => Error::Unreachable { target, why: "no answer in time".into() },
            other => Error::Other { target, why: other.to_string(), transient: false },
        }
    }
}

/// Whether a statement or connection failed for a reason that passes by itself, so that it may be tried again:
/// lost connections, a server that is starting, stopping, short of resources or read-only, deadlocks, serialization
/// failures, locks and time limits.
///
/// Who cancels one of our statements wants its lock or its load gone, and not what it was for.
pub fn is_transient(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        // A certificate doesn't get better by itself, though it is reported as an input error.
        return error.is_closed() || (io_source(error).is_some() && !is_tls(error));
    };
    let code = code.code();
    match code {
        "25006" | "25P03" | "40001" | "40003" | "40P01" | "55P03" => true,
        _ => ["08", "53", "57"].contains(&code.get(..2).unwrap_or_default()),
    }
}

/// Whether the session can't write: its server is a standby now, or was made read-only. A new one may reach another.
pub fn is_read_only(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

fn io_source(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// What the driver says of a login that the server didn't refuse.
fn login(why: &str) -> Option<&'static str> {
    match why {
        "password missing" => Some("the server wants a password, and there is none"),
        "server did not use channel binding" => Some(
            "the server didn't use channel binding, which channel_binding=require demands: it must store the password as \
             scram-sha-256 and ask for it over TLS",
        ),
        "unsupported authentication method" | "unsupported SASL mechanism" => {
            Some("the server asks for a kind of login that isn't known here; known are passwords and certificates")
        }
        _ => None,
    }
}

/// What a failed handshake means, where the library's words need an explanation.
fn explain(error: &tokio_postgres::Error) -> Option<String> {
    let tls = io_source(error)?.get_ref()?.downcast_ref::<rustls::Error>()?;
    let meaning = match tls {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is of an authority that sslrootcert doesn't have"
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has expired"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another host (subjectAltName)",
        rustls::Error::AlertReceived(_) => "the server refused the handshake; it may not accept sslcert, or want one",
        _ => return None,
    };
    Some(format!("{meaning} ({tls})"))
}

/// TLS itself was refused, by us or by the server. A connection that was lost during the handshake is just lost.
pub(super) fn is_tls(error: &tokio_postgres::Error) -> bool {
    match io_source(error) {
        Some(io) => io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        None => error.to_string().starts_with("error performing TLS handshake"),
    }
}

/// The deepest cause: the layers above only say that there was an error.
fn innermost(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.message().to_owned();
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
