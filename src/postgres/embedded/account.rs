//! Which system account the server runs as. PostgreSQL refuses to run as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Error;
use super::error::Context;

/// The account that the server's programs run as.
#[derive(Clone, Debug)]
pub(super) enum Account {
    /// The one that we run as.
    Own,
    /// Another one, because we are root.
    Other { user: String, uid: u32, gid: u32 },
}

impl Account {
    /// Our own, or `postgres`, else `nobody`, when we are root.
    pub(super) fn choose() -> Result<Account, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Own);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "_postgres", "nobody"].iter().find_map(|user| entry(&passwd, user)).ok_or(Error::NoAccount)
    }

    /// A command that will run as this account, outside our process group (so that Ctrl-C in a terminal reaches us
    /// and not the server), and without PostgreSQL's variables from our environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // Messages are searched for known texts, and macOS wants a locale to be set.
        command.env("LC_ALL", "C").current_dir("/").process_group(0).stdin(Stdio::null());
        if let Account::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Give a file or folder that we made to this account.
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        match self {
            Account::Own => Ok(()),
            Account::Other { uid, gid, .. } => chown(path, Some(*uid), Some(*gid)).context("can't give away", path),
        }
    }

    /// Fails when this account can't enter and write this folder.
    pub(super) fn check_reach(&self, folder: &Path) -> Result<(), Error> {
        let Account::Other { user, .. } = self else { return Ok(()) };
        if self.may(folder, "test -x \"$1\" && test -w \"$1\"") {
            return Ok(());
        }
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        let blocked = way.into_iter().find(|step| !self.may(step, "test -x \"$1\"")).unwrap_or(folder);
        Err(Error::Unreachable { folder: folder.to_owned(), blocked: blocked.to_owned(), user: user.clone() })
    }

    fn may(&self, folder: &Path, test: &str) -> bool {
        let status = self.command(Path::new("/bin/sh")).args(["-c", test, "sh"]).arg(folder).status();
        status.is_ok_and(|status| status.success())
    }
}

/// The account of this name in the text of `/etc/passwd`.
fn entry(passwd: &str, user: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != user {
            return None;
        }
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        Some(Account::Other { user: user.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\nnobody:x:65534:65533:n:/:/bin/sh\n";
        assert!(entry(passwd, "postgres").is_none());
        let Some(Account::Other { uid, gid, .. }) = entry(passwd, "nobody") else { panic!("nobody is there") };
        assert_eq!((uid, gid), (65534, 65533));
    }
}
