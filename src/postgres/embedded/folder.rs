//! The data folder: who uses it, what is in it, and how it is made.
//!
//! ```text
//! <folder>/lock        held by the process that uses the folder, whose number is in it
//!          password    of the server's superuser, mode 0600
//!          cluster/    PostgreSQL's own data directory; appears whole or not at all
//!          server.log
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::Context;
use super::locate::Programs;
use super::{Error, SUPERUSER};

/// A data folder that we hold the lock of.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Make the folder if need be, and lock it.
    pub(super) fn open(path: &Path, account: &Account) -> Result<Folder, Error> {
        let path = &std::path::absolute(path).context("can't resolve", path)?;
        if path.exists() {
            check_ours(path)?;
        } else {
            make_folder(path)?;
            account.give(path)?;
        }
        let lock = lock(path)?;
        account.give(&path.join("lock"))?;
        account.check_reach(path)?;
        Ok(Folder { path: path.clone(), _lock: lock })
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.path.join("cluster")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("server.log")
    }

    /// The superuser's password, after `initdb` has run if it had to.
    pub(super) fn prepare(&self, programs: &Programs, account: &Account, durable: bool) -> Result<String, Error> {
        let file = self.path.join("password");
        if !self.cluster().exists() {
            let password = uuid::Uuid::new_v4().simple().to_string();
            write_private(&file, &password)?;
            account.give(&file)?;
            self.initdb(programs, account, &file, durable)?;
            return Ok(password);
        }
        let version = std::fs::read_to_string(self.cluster().join("PG_VERSION"));
        let version = version.map_err(|error| self.damaged(format!("cluster/PG_VERSION: {error}")))?;
        if version.trim() != programs.major.to_string() {
            let (folder, found) = (self.path.clone(), version.trim().to_owned());
            return Err(Error::OtherVersion { folder, found, have: programs.major });
        }
        let password =
            std::fs::read_to_string(&file).map_err(|error| self.damaged(format!("file password: {error}")))?;
        Ok(password.trim().to_owned())
    }

    /// Into a folder beside, which gets its name when it is complete: a run that is killed leaves nothing half-made.
    fn initdb(&self, programs: &Programs, account: &Account, password: &Path, durable: bool) -> Result<(), Error> {
        let fresh = self.path.join("cluster.new");
        let program = programs.program("initdb");
        let run = |locale: &str| {
            let _ = std::fs::remove_dir_all(&fresh); // usually there is none
            let mut command = account.command(&program);
            command.arg("-D").arg(&fresh).arg("--pwfile").arg(password);
            command.args(["-U", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale", locale]);
            if !durable {
                command.arg("--no-sync");
            }
            command.output().context("can't run", &program)
        };
        // Old systems don't know C.UTF-8; C differs only in what is an upper or lower case letter beyond ASCII.
        let mut output = run("C.UTF-8")?;
        if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("locale") {
            output = run("C")?;
        }
        if !output.status.success() {
            let _ = std::fs::remove_dir_all(&fresh);
            let text = [output.stdout, output.stderr].concat();
            let output_text = String::from_utf8_lossy(&text).trim().to_owned();
            return Err(Error::Initdb { folder: self.path.clone(), status: output.status, output: output_text });
        }
        std::fs::rename(&fresh, self.cluster()).context("can't rename", fresh)
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { folder: self.path.clone(), what }
    }
}

/// A folder that is empty or was made here; anything else is somebody's and is left alone.
fn check_ours(path: &Path) -> Result<(), Error> {
    let mut entries = std::fs::read_dir(path).context("can't read", path)?.peekable();
    if entries.peek().is_none() || path.join("lock").is_file() {
        return Ok(());
    }
    Err(Error::ForeignFolder { folder: path.to_owned() })
}

/// With its parents; only the last one is private.
fn make_folder(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).context("can't create", parent)?;
    }
    DirBuilder::new().mode(0o700).create(path).context("can't create", path)
}

/// The system drops the lock with our process, however it ends.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).context("can't open", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder); // the number only helps the reader of the error
            let holder = if holder.trim().is_empty() { "(unknown)" } else { holder.trim() }.to_owned();
            return Err(Error::InUse { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(error).context("can't lock", &path),
    }
    let write = |file: &mut File| {
        file.rewind()?;
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).context("can't write", &path)?;
    Ok(file)
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).context("can't open", path)?;
    file.write_all(text.as_bytes()).context("can't write", path)
}
