//! A private PostgreSQL server, for `dev` and the tests.
//!
//! It listens on 127.0.0.1 and on a socket, with a random password, and lives no longer than this process: it is
//! stopped by [`Server::stop`], when the value is dropped, and by a small guardian process when neither happens.
//! Run as root it becomes user `postgres` or `nobody`, because PostgreSQL refuses root.

mod account;
#[cfg(feature = "download")]
mod download;
mod error;
mod folder;
mod guardian;
mod hint;
mod leftover;
mod locate;
mod server;

#[cfg(feature = "download")]
pub use download::{Progress, locate_or_download};
pub use error::Error;
pub use locate::{BIN_VARIABLE, Programs, Tried, locate};
pub use server::{Data, Options, Server};

/// The database superuser of a private server.
pub const SUPERUSER: &str = "postgres";
