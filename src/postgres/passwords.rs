//! Where passwords come from that the connection string doesn't have. They are looked up for each connection anew, so that one
//! that changes in a file is used from the next connection on.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::passfile::{self, Place};
use crate::config::secret_file;

/// The folder of a service's credentials, as systemd says.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The sources besides the connection string, in this order: the file of the configuration, `PGPASSWORD`, a password file
/// (`~/.pgpass`), the service's credential. Shows no password.
#[derive(Clone, Default)]
pub struct Passwords {
    /// The key of the configuration that names a file.
    key: &'static str,
    file: Option<PathBuf>,
    variable: Option<Vec<u8>>,
    passfile: Option<PathBuf>,
    credential: Option<PathBuf>,
}

/// A password, and where it is from.
pub(super) struct Found {
    /// The bytes.
    pub password: Vec<u8>,
    /// The source, for people.
    pub source: String,
}

impl Passwords {
    /// From this file, which is the value of `key`; from the variables PGPASSWORD, PGPASSFILE and HOME; and from the credential of
    /// this name, if the process has one. `variable` gives the value of a variable.
    pub fn new(
        key: &'static str,
        file: Option<&Path>,
        credential: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Passwords {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = || variable("HOME").map(|home| Path::new(&home).join(".pgpass"));
        let credential = variable(CREDENTIALS).map(|folder| Path::new(&folder).join(credential));
        Passwords {
            key,
            file: file.map(Path::to_owned),
            variable: variable("PGPASSWORD").map(std::os::unix::ffi::OsStringExt::into_vec),
            passfile: variable("PGPASSFILE").map(PathBuf::from).or_else(home),
            credential: credential.filter(|file| file.exists()),
        }
    }

    /// With this password file (`passfile` of the connection string).
    pub(super) fn with_passfile(mut self, file: Option<PathBuf>) -> Passwords {
        self.passfile = file.or(self.passfile);
        self
    }

    /// Warn of files that everybody may read.
    pub fn warn(&self) {
        if let Some(file) = &self.file {
            secret_file::warn_if_open(self.key, file);
        }
    }

    /// The password for this place, of the first source that has one. Reads files.
    ///
    /// # Errors
    /// A file that the configuration names, or a credential, can't be used.
    pub(super) fn find(&self, place: &Place<'_>) -> Result<Option<Found>, String> {
        if let Some(file) = &self.file {
            let source = format!("{} {}", self.key, file.display());
            let password = secret_file::read(file).map_err(|error| format!("{source}: {error}"))?;
            return Ok(Some(Found { password, source }));
        }
        if let Some(password) = &self.variable {
            return Ok(Some(Found { password: password.clone(), source: "PGPASSWORD".into() }));
        }
        if let Some(file) = &self.passfile
            && let Ok(Some(password)) = passfile::find(file, place)
        {
            return Ok(Some(Found { password, source: format!("the password file {}", file.display()) }));
        }
        if let Some(file) = &self.credential {
            let source = format!("the credential {}", file.display());
            let password = secret_file::read(file).map_err(|error| format!("{source}: {error}"))?;
            return Ok(Some(Found { password, source }));
        }
        Ok(None)
    }

    /// Where was looked in vain, for people.
    pub(super) fn looked(&self, place: &Place<'_>) -> String {
        let passfile = match &self.passfile {
            Some(file) => match passfile::find(file, place) {
                Ok(_) => format!("{} has no line for it", file.display()),
                Err(why) => format!("{}: {why}", file.display()),
            },
            None => "no password file".into(),
        };
        format!(
            "no password in the URL, no {}, no PGPASSWORD, {passfile}, no credential: docs/operations/security.md#passwords",
            if self.key.is_empty() { "database.password_file" } else { self.key }
        )
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords")
            .field("key", &self.key)
            .field("file", &self.file)
            .field("variable", &self.variable.is_some())
            .field("passfile", &self.passfile)
            .field("credential", &self.credential)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const PLACE: Place<'static> = Place { host: b"h", port: 1, database: "d", user: "u" };

    #[test]
    fn sources_come_in_their_order_and_files_are_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::write(path(name), text).unwrap();
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("file", "of the file\n");
        write(".pgpass", "h:*:*:*:of home\n");
        write("other", "h:*:*:*:of PGPASSFILE\n");
        write("database-password", "of the credential\n");
        let all = [
            ("PGPASSWORD", "of PGPASSWORD".into()),
            ("PGPASSFILE", path("other").into_os_string()),
            ("HOME", folder.path().into()),
            ("CREDENTIALS_DIRECTORY", folder.path().into()),
        ];
        let mut sources = vec![];
        for first in 0..=all.len() {
            let file = path("file");
            let file = (first == 0).then_some(file.as_path());
            let variables = &all[first.saturating_sub(1)..];
            let variable = |name: &str| variables.iter().find(|known| known.0 == name).map(|known| known.1.clone());
            let passwords = Passwords::new("database.password_file", file, "database-password", variable);
            let found = passwords.find(&PLACE).unwrap().unwrap();
            sources.push(String::from_utf8(found.password).unwrap());
            assert!(!format!("{passwords:?} {} {}", found.source, passwords.looked(&PLACE)).contains("of PGPASSWORD"));
        }
        assert_eq!(
            sources,
            ["of the file", "of PGPASSWORD", "of PGPASSFILE", "of home", "of the credential"].map(String::from)
        );

        let passwords = Passwords::new("database.password_file", Some(&path("file")), "none", |_| None);
        write("file", "another");
        assert_eq!(passwords.find(&PLACE).unwrap().unwrap().password, b"another");
        std::fs::remove_file(path("file")).unwrap();
        let error = passwords.find(&PLACE).err().unwrap();
        assert!(error.contains("database.password_file") && error.contains("/file"), "{error}");
        assert!(Passwords::default().find(&PLACE).unwrap().is_none());
    }
}
