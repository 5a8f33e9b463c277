//! Pool, statements, TLS, listener, poolers, and the embedded server for `dev` and the tests.

pub mod embedded;

mod connect;
mod dial;
mod error;
mod listener;
mod passfile;
mod passwords;
mod pooler;
mod session;
mod settings;
mod telling;
mod tls;
mod url;
mod watched;

pub use connect::{Target, connect, connect_by, pool, single};
pub use dial::{Driver, Spare};
pub use error::{Error, is_read_only, is_transient};
pub use listener::{Event, Listener, Notification};
pub use passwords::Passwords;
pub use pooler::{Pooler, Pooling, detect};
pub use session::{Element, Parameter, Parameters, Pool, Session, SqlType, Statements, Transaction};
pub use settings::{PlanCache, Settings};
pub use telling::Telling;
pub use tls::TlsError;
pub use url::{DatabaseUrl, UrlError};
