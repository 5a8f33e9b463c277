//! What can go wrong with the private server, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::locate::{BIN_VARIABLE, Tried};

/// The private server could not be found, made, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server programs on this machine.
    #[error(
        "found no PostgreSQL server programs (initdb, postgres); looked at: {}\n\
         install them: {hint}\nor name their folder in {BIN_VARIABLE}",
        list(tried)
    )]
    NotFound {
        /// What was looked at.
        tried: Vec<Tried>,
        /// The command that installs them here.
        hint: String,
    },
    /// A folder was named, and holds no server programs.
    #[error("{source_name} names {} as the folder of PostgreSQL's server programs, but: {why}", folder.display())]
    WrongBin {
        /// The folder.
        folder: PathBuf,
        /// Where it was named.
        source_name: &'static str,
        /// What is missing.
        why: String,
    },
    /// The download of server programs failed.
    #[error("could not download PostgreSQL from {url}: {why}\ninstall it instead: {hint}")]
    Download {
        /// Where it was asked for.
        url: String,
        /// What failed.
        why: String,
        /// The command that installs it here.
        hint: String,
    },
    /// Another live process uses the data folder.
    #[error("{} is in use by process {holder}; stop that one, or use another data folder", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// The data folder exists and is not one of ours.
    #[error("{} is not empty and holds no private PostgreSQL server; name an empty or new folder", folder.display())]
    ForeignFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The account that the server runs as can't get at a folder.
    #[error(
        "PostgreSQL can't run as root, and user {user}, which it runs as instead, can't use {}; \
         use a data folder below /var/lib or /tmp, or let {user} in: chmod o+x {}",
        folder.display(), blocked.display()
    )]
    Unreachable {
        /// The folder that is needed.
        folder: PathBuf,
        /// The first folder on the way that refuses.
        blocked: PathBuf,
        /// The account.
        user: String,
    },
    /// We are root and there is neither `postgres` nor `nobody`.
    #[error(
        "PostgreSQL can't run as root, and this machine has neither a user postgres nor nobody; run as another user"
    )]
    NoAccount,
    /// The data was made by another major version.
    #[error(
        "{} holds data of PostgreSQL {found}, but the programs found are version {have}; \
         install PostgreSQL {found}, or remove the folder to begin afresh", folder.display()
    )]
    OtherVersion {
        /// The data folder.
        folder: PathBuf,
        /// The version of the data.
        found: String,
        /// The version of the programs.
        have: u32,
    },
    /// Files are missing.
    #[error("the data in {} is damaged: {what}; restore it from a copy, or remove the folder to begin afresh", folder.display())]
    Damaged {
        /// The data folder.
        folder: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// A server of an earlier run doesn't end.
    #[error("a PostgreSQL server left over from an earlier run (process {pid}) still uses {} and does not stop; end it by hand", folder.display())]
    Leftover {
        /// The data folder.
        folder: PathBuf,
        /// Its process.
        pid: i32,
    },
    /// `initdb` failed.
    #[error("initdb failed ({status}) in {}:\n{output}", folder.display())]
    Initdb {
        /// The data folder.
        folder: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("PostgreSQL did not start ({why}); the end of {}:\n{tail}", log.display())]
    Start {
        /// Exit status or time-out.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A file operation failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn list(tried: &[Tried]) -> String {
    tried.iter().map(Tried::to_string).collect::<Vec<_>>().join(", ")
}

/// Names what was done, and to which file, when it fails.
pub(super) trait Context<T> {
    fn context(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what, path: path.into(), source })
    }
}
