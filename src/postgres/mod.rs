//! Pool, statements, TLS, listener, poolers, and the embedded server for `dev` and the tests.

pub mod embedded;

mod connect;
mod error;
mod listener;
mod pooler;
mod session;
mod settings;
mod tls;
mod url;

pub use connect::{Driver, Target, connect, pool, single};
pub use error::{Error, is_transient};
pub use listener::{Event, Listener, Notification};
pub use pooler::{Pooler, Pooling, detect};
pub use session::{Element, Parameter, Parameters, Pool, Session, SqlType, Statements, Transaction};
pub use settings::{PlanCache, Settings};
pub use tls::TlsError;
pub use url::{DatabaseUrl, UrlError};
