//! Start, address and stop of a private server.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::error::Context;
use super::folder::Folder;
use super::guardian::Guardian;
use super::leftover::stop_leftover;
use super::locate::Programs;
use super::{Error, SUPERUSER};

/// A start includes crash recovery of what a killed run left.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A fast shutdown writes a checkpoint; after this long the server is ended at once, which loses nothing committed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Another program may take the free port between our choice and the server's.
const PORT_ATTEMPTS: u32 = 5;
/// Systems limit the path of a socket to 104 bytes or a little more; its name takes some of them.
const SOCKET_FOLDER_LIMIT: usize = 80;
/// How much of the log goes into an error.
const LOG_TAIL: u64 = 4096;

/// Where the data lives, and so how carefully it is written.
#[derive(Clone, Debug)]
pub enum Data {
    /// In this folder, durably; made when it is not there.
    Kept(PathBuf),
    /// In a folder that goes with the server. Written without `fsync`, for there is nothing to lose.
    Temporary,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's programs, from [`locate`](super::locate).
    pub programs: Programs,
    /// Where the data lives.
    pub data: Data,
    /// Port on 127.0.0.1; none means a free one.
    pub port: Option<u16>,
}

/// A running private server.
pub struct Server {
    // Order matters: fields drop from the top, and the lock in `folder` must outlive the process.
    child: Option<Child>,
    guardian: Option<Guardian>,
    socket_folder: PathBuf,
    /// Remove these when the server has ended.
    garbage: Vec<PathBuf>,
    port: u16,
    password: String,
    folder: Folder,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("folder", &self.folder.path).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Server {
    /// Prepare the data folder if need be, start the server and wait until it takes connections.
    ///
    /// # Errors
    /// The folder is used by another process, is not ours, or holds another version's data; the server does not
    /// start, with the end of its log.
    pub async fn start(options: Options) -> Result<Server, Error> {
        // If the caller goes away meanwhile, the finished server is dropped, and so stopped.
        let task = tokio::task::spawn_blocking(move || Server::start_blocking(&options));
        match task.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()), // blocking tasks are never cancelled
        }
    }

    /// As [`start`](Server::start), for callers without a runtime.
    pub fn start_blocking(options: &Options) -> Result<Server, Error> {
        let account = Account::choose()?;
        let durable = matches!(options.data, Data::Kept(_));
        let (path, mut garbage) = match &options.data {
            Data::Kept(path) => (path.clone(), Vec::new()),
            Data::Temporary => {
                let name = format!("fireflow-pg-{}", uuid::Uuid::new_v4().simple());
                let path = std::env::temp_dir().join(name);
                (path.clone(), vec![path])
            }
        };
        let made = Garbage(std::mem::take(&mut garbage)); // removed if anything below fails
        let folder = Folder::open(&path, &account)?;
        stop_leftover(&folder.path, &folder.cluster())?;
        let password = folder.prepare(&options.programs, &account, durable)?;
        let socket_folder = socket_folder(&folder.path, &account)?;
        let mut made = made;
        if socket_folder != folder.path {
            made.0.push(socket_folder.clone());
        }
        let (child, guardian, port) = run(options, &account, &folder, &socket_folder, durable)?;
        let garbage = std::mem::take(&mut made.0);
        Ok(Server { child: Some(child), guardian: Some(guardian), socket_folder, garbage, port, password, folder })
    }

    /// Connection URL of a database on 127.0.0.1, with the password in it.
    pub fn url(&self, database: &str) -> String {
        let password = &self.password;
        format!("postgresql://{SUPERUSER}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Connection URL of a database through the server's Unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        let folder: String =
            url::form_urlencoded::byte_serialize(self.socket_folder.as_os_str().as_encoded_bytes()).collect();
        format!("postgresql://{SUPERUSER}:{}@{folder}:{}/{database}", self.password, self.port)
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Number of the server's main process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The folder that the server's data is in.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// End all sessions, stop the server and wait for its end.
    pub async fn stop(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await; // a panic in there has been reported already
    }

    fn stop_now(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let temporary = self.garbage.contains(&self.folder.path);
        let first = if temporary { Signal::QUIT } else { Signal::INT };
        for (signal, patience) in [(first, STOP_TIMEOUT), (Signal::QUIT, Duration::from_secs(5))] {
            signal_child(&child, signal);
            if wait(&mut child, patience).is_some() {
                break;
            }
        }
        let _ = child.kill(); // if it has ended, this does nothing
        let _ = child.wait();
        if let Some(guardian) = self.guardian.take() {
            guardian.release();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_now();
        drop(Garbage(std::mem::take(&mut self.garbage)));
    }
}

/// Folders that are removed on drop.
struct Garbage(Vec<PathBuf>);

impl Drop for Garbage {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = std::fs::remove_dir_all(folder); // the system's temporary folder is swept by others too
        }
    }
}

/// Start the process, on another port when ours was taken meanwhile.
fn run(
    options: &Options,
    account: &Account,
    folder: &Folder,
    socket_folder: &Path,
    durable: bool,
) -> Result<(Child, Guardian, u16), Error> {
    let pid_file = folder.cluster().join("postmaster.pid");
    let mut attempt = 1;
    loop {
        let port = match options.port {
            Some(port) => port,
            None => free_port()?,
        };
        let log = log_file(folder, account)?;
        let log_start = log.metadata().map(|data| data.len()).unwrap_or(0);
        let mut child = spawn(&options.programs, account, folder, socket_folder, port, durable, log)?;
        // From here on a panic or a kill of ours leaves no server behind.
        let guardian = match Guardian::watch(account, child.id(), &pid_file, (!durable).then_some(&*folder.path)) {
            Ok(guardian) => guardian,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        match wait_ready(&mut child, &pid_file) {
            Ok(()) => return Ok((child, guardian, port)),
            Err(why) => {
                signal_child(&child, Signal::QUIT);
                let _ = wait(&mut child, STOP_TIMEOUT);
                let _ = child.kill();
                let _ = child.wait();
                guardian.release();
                let log = folder.log();
                let tail = tail(&log, log_start);
                if options.port.is_none() && attempt < PORT_ATTEMPTS && tail.contains("already in use") {
                    attempt += 1;
                    continue;
                }
                return Err(Error::Start { why, log, tail });
            }
        }
    }
}

fn spawn(
    programs: &Programs,
    account: &Account,
    folder: &Folder,
    socket_folder: &Path,
    port: u16,
    durable: bool,
    log: File,
) -> Result<Child, Error> {
    let program = programs.program("postgres");
    let mut command = account.command(&program);
    command.arg("-D").arg(folder.cluster()).args(["-p", &port.to_string()]);
    command.arg("-c").arg(format!("unix_socket_directories={}", socket_folder.display()));
    let mut set = |setting: &str| {
        command.args(["-c", setting]);
    };
    set("listen_addresses=127.0.0.1");
    if !durable {
        for setting in [
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "shared_buffers=32MB",
            "max_connections=200",
        ] {
            set(setting);
        }
    }
    let errors = log.try_clone().context("can't open", folder.log())?;
    command.stdout(Stdio::from(log)).stderr(Stdio::from(errors)).spawn().context("can't run", program)
}

/// PostgreSQL notes its state in its pid file, in the eighth line.
fn wait_ready(child: &mut Child, pid_file: &Path) -> Result<(), String> {
    let until = Instant::now() + START_TIMEOUT;
    let own = child.id().to_string();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Err(ended(status)),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        let text = std::fs::read_to_string(pid_file).unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        if lines.next() == Some(&own) && lines.nth(6) == Some("ready") {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("not ready after {} s", START_TIMEOUT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ended(status: ExitStatus) -> String {
    format!("it ended with {status}")
}

fn signal_child(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal); // not reaped yet, so the number is still the server's
    }
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("can't listen on", "127.0.0.1")?;
    Ok(listener.local_addr().context("can't listen on", "127.0.0.1")?.port())
}

/// The data folder itself, or one with a short name when its path is too long for a socket.
fn socket_folder(folder: &Path, account: &Account) -> Result<PathBuf, Error> {
    let path = folder.as_os_str().as_encoded_bytes();
    // A comma or quote would end the name in PostgreSQL's list of folders.
    if path.len() <= SOCKET_FOLDER_LIMIT && !path.iter().any(|byte| b",\"' ".contains(byte)) {
        return Ok(folder.to_owned());
    }
    let short = PathBuf::from(format!("/tmp/ffpg-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]));
    std::fs::create_dir(&short).context("can't create", &short)?;
    account.give(&short)?;
    Ok(short)
}

fn log_file(folder: &Folder, account: &Account) -> Result<File, Error> {
    let path = folder.log();
    let file = File::options().create(true).append(true).open(&path).context("can't open", &path)?;
    account.give(&path)?;
    Ok(file)
}

/// The last lines of what was logged since `start`.
fn tail(log: &Path, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let from = start.max(file.metadata()?.len().saturating_sub(LOG_TAIL));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(can't be read: {error})"))
}
