//! Where PostgreSQL's server programs are.
//!
//! Distributions keep `initdb` and `postgres` off the PATH (Debian) or in a folder of their own, so PATH alone
//! finds them on few machines. The search is explicit: what was looked at is part of the error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;
use super::hint::install_hint;

/// Environment variable that names the folder with the server programs.
pub const BIN_VARIABLE: &str = "FIREFLOW_PG_BIN";

/// The folder with `initdb`, `postgres` and their kin, and the version found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Folder that holds `initdb` and `postgres`.
    pub bin: PathBuf,
    /// PostgreSQL's major version, such as 17.
    pub major: u32,
}

impl Programs {
    /// Full path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The programs in this folder, or why it holds none.
    fn at(folder: &Path) -> Result<Programs, String> {
        // A PATH entry may be a symbolic link into the real folder, where the server finds its own kin.
        let postgres = folder.join("postgres").canonicalize().map_err(|_| "no postgres".to_owned())?;
        let bin = postgres.parent().unwrap_or(folder).to_path_buf();
        if !bin.join("initdb").is_file() {
            return Err("no initdb".to_owned());
        }
        let output = Command::new(bin.join("postgres")).arg("--version").output();
        let text = output.map_err(|error| format!("postgres does not run: {error}"))?.stdout;
        let text = String::from_utf8_lossy(&text);
        let major = major_version(&text).ok_or_else(|| format!("not a version: {:?}", text.trim()))?;
        Ok(Programs { bin, major })
    }
}

/// One place that was looked at, and what was wrong with it.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The folder, or how it would have been found.
    pub place: String,
    /// Why nothing came of it.
    pub why: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.place, self.why)
    }
}

/// Find the server programs: `explicit`, the variable `FIREFLOW_PG_BIN`, PATH, `pg_config`, then the folders that
/// distributions use, newest version first.
///
/// A place that somebody named and that holds no programs is an error, not a reason to look further.
pub fn locate(explicit: Option<&Path>) -> Result<Programs, Error> {
    let variable = std::env::var_os(BIN_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    for (folder, source) in [(explicit, "the setting"), (variable.as_deref(), BIN_VARIABLE)] {
        if let Some(folder) = folder {
            return Programs::at(folder).map_err(|why| Error::WrongBin {
                folder: folder.to_owned(),
                source_name: source,
                why,
            });
        }
    }
    let mut tried = Vec::new();
    for folder in candidates(&mut tried) {
        match Programs::at(&folder) {
            Ok(programs) => return Ok(programs),
            // Most PATH entries and usual folders hold nothing; only the telling ones are worth a line.
            Err(why) if folder.is_dir() => tried.push(Tried { place: folder.display().to_string(), why }),
            Err(_) => {}
        }
    }
    if tried.is_empty() {
        tried.push(Tried { place: "the usual folders".into(), why: "none exists".into() });
    }
    Err(Error::NotFound { tried, hint: install_hint() })
}

/// Folders worth a look, best first, without repetition.
fn candidates(tried: &mut Vec<Tried>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut add = |folder: PathBuf| {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    };
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        if folder.join("postgres").exists() {
            add(folder);
        }
    }
    match Command::new("pg_config").arg("--bindir").output() {
        Ok(output) if output.status.success() => add(String::from_utf8_lossy(&output.stdout).trim().into()),
        Ok(output) => tried.push(Tried { place: "pg_config --bindir".into(), why: output.status.to_string() }),
        Err(_) => tried.push(Tried { place: "PATH".into(), why: "neither postgres nor pg_config".into() }),
    }
    for folder in usual_folders(Path::new("/")) {
        add(folder);
    }
    folders
}

/// Places where distributions install the server, below `root`, newest version first in each.
fn usual_folders(root: &Path) -> Vec<PathBuf> {
    /// Folder, what its versioned entries begin with, and where in them the programs are.
    const VERSIONED: [(&str, &str, &str); 9] = [
        ("usr/lib/postgresql", "", "bin"), // Debian, Ubuntu
        ("usr", "pgsql-", "bin"),          // RHEL and Fedora with PostgreSQL's own packages
        ("usr/lib", "postgresql", "bin"),  // SUSE
        ("usr/libexec", "postgresql", ""), // Alpine
        ("opt/homebrew/opt", "postgresql@", "bin"),
        ("usr/local/opt", "postgresql@", "bin"), // Homebrew on Intel
        ("home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
        ("Applications/Postgres.app/Contents/Versions", "", "bin"),
        ("opt/local/lib", "postgresql", "bin"), // MacPorts
    ];
    const PLAIN: [&str; 4] = ["usr/local/pgsql/bin", "usr/local/bin", "usr/bin", "opt/homebrew/bin"];
    let mut found = Vec::new();
    for (parent, prefix, inner) in VERSIONED {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(root.join(parent))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version = name.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
                Some((version, entry.path().join(inner)))
            })
            .collect();
        versions.sort_by(|a, b| b.cmp(a));
        found.extend(versions.into_iter().map(|(_, folder)| folder));
    }
    found.extend(PLAIN.map(|folder| root.join(folder)));
    found
}

/// The major version in what `postgres --version` prints: `postgres (PostgreSQL) 15.14 (Debian …)`.
fn major_version(text: &str) -> Option<u32> {
    let after = text.split("(PostgreSQL)").nth(1)?.trim_start();
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_distribution_suffix() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("mysqld 8.0"), None);
    }

    #[test]
    fn newer_versions_come_first_and_numbers_are_compared_as_numbers() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "17"] {
            std::fs::create_dir_all(root.path().join("usr/lib/postgresql").join(version).join("bin")).unwrap();
        }
        std::fs::create_dir_all(root.path().join("usr/pgsql-16/bin")).unwrap();
        let folders = usual_folders(root.path());
        let names: Vec<_> = folders.iter().map(|f| f.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names[..4],
            [
                "usr/lib/postgresql/17/bin",
                "usr/lib/postgresql/15/bin",
                "usr/lib/postgresql/9.6/bin",
                "usr/pgsql-16/bin"
            ]
        );
    }

    #[test]
    fn a_named_folder_without_programs_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let error = locate(Some(root.path())).unwrap_err().to_string();
        assert!(error.contains(&root.path().display().to_string()) && error.contains("no postgres"), "{error}");
    }
}
