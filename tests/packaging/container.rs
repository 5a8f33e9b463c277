//! A container as far as the kernel makes one: namespaces for processes and mounts, a root of its own that can't be written,
//! a user without rights, and the program as process 1. As root on Linux; elsewhere these tests say why they are skipped.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::image::{image, libraries};
use super::support::bench::Bench;
use super::support::flows::echo;
use super::support::worker::{PATIENCE, PROGRAM};
use super::{free_port, path};

const LOOK: Duration = Duration::from_millis(20);
/// In a process and a mount namespace of its own: the root read-only, its /proc, and then nothing but the program.
const ENTER: &str = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && mount -t proc proc "$1/proc" &&
    exec chroot --userspec="$USERSPEC" "$@""#;

/// A container that runs, or has run.
pub struct Container {
    child: Child,
    root: TempDir,
    log: PathBuf,
}

/// Whether there can be containers here.
pub fn possible() -> bool {
    let tried = geteuid().is_root().then(|| {
        std::process::Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "true"])
            .output()
            .map(|output| output.status)
    });
    match tried {
        Some(Ok(status)) if status.success() => true,
        tried => {
            eprintln!("skipped: no namespaces here ({tried:?}); needs root on Linux, and unshare");
            false
        }
    }
}

/// What the image has: the binary, its libraries, certificates and configuration, each where the Dockerfile puts it.
fn root() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).unwrap();
    let put = |from: &Path, to: &str| {
        let to = folder.path().join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    for library in libraries() {
        put(Path::new(&library), &library);
    }
    for (from, sources, to) in image().1.copies() {
        match (from, sources[0]) {
            (None, source) => put(&path(source), to),
            (Some(_), binary) if binary.ends_with("/fireflow-worker") => put(Path::new(PROGRAM), to),
            (Some(_), of_the_build_image) => put(Path::new(of_the_build_image), to),
        }
    }
    std::fs::create_dir(folder.path().join("proc")).unwrap();
    folder
}

impl Container {
    /// Start the image with these arguments, and these variables besides its own.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Container {
        let (root, (_, shipped)) = (root(), image());
        let log = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", ENTER, "sh"]);
        command.arg(root.path()).args(shipped.command("ENTRYPOINT")).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("USERSPEC", shipped.the("USER"));
        command.envs(shipped.environment()).envs(environment.iter().copied());
        let output = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).kill_on_drop(true);
        Container { child: command.spawn().unwrap(), root, log }
    }

    /// What was said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Wait until the log holds this.
    pub async fn says(&mut self, text: &str) {
        let said = async {
            while !self.log().contains(text) {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("it ended with {status} and without {text:?}:\n{}", self.log());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, said).await.is_err() {
            panic!("it didn't say {text:?}");
        }
    }

    /// Its process 1, by its number out here.
    pub fn first(&self) -> i32 {
        let unshare = self.child.id().expect("it runs").cast_signed();
        let children = children(unshare);
        assert_eq!(children.len(), 1, "{children:?}: {}", self.log());
        children[0].0
    }

    /// Send its process 1 a signal, as container engines do.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.first()).unwrap(), signal).unwrap();
    }

    /// Wait for its end; its exit code.
    pub async fn ended(&mut self) -> i32 {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap().code().unwrap_or_else(|| panic!("killed:\n{}", self.log())),
            Err(_) => panic!("it didn't end:\n{}", self.log()),
        }
    }

    /// Run a command of the image beside process 1; its exit code and what it said.
    async fn execute(&self, command: &[String], environment: &[(&str, &str)]) -> (i32, String) {
        let (_, shipped) = image();
        let (user, group) = shipped.the("USER").split_once(':').unwrap();
        let mut inside = Command::new("nsenter");
        inside.args(["--mount", "--pid", "--root", "--wd", "--setuid", user, "--setgid", group, "--target"]);
        inside.arg(self.first().to_string()).arg("--").args(command);
        inside.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        inside.envs(shipped.environment()).envs(environment.iter().copied());
        let output = inside.output().await.unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.code().unwrap(), said)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
    }
}

/// The child processes of a process, with their states.
pub fn children(parent: i32) -> Vec<(i32, char)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // After the command, which may hold anything: state and parent.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let state = fields.next().and_then(|state| state.chars().next());
        if fields.next() == Some(&parent.to_string()) {
            found.push((pid, state.unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn the_image_serves_on_a_root_that_can_t_be_written_and_is_healthy() {
    if !possible() {
        return;
    }
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let (url, port) = (bench.database.url(), free_port());
    let listen = format!("0.0.0.0:{port}");
    let environment =
        [("DATABASE_URL", url.as_str()), ("FIREFLOW__ADMIN__LISTEN", &listen), ("FIREFLOW__WORKER__ID", "contained")];
    let (_, shipped) = image();
    let arguments = shipped.command("CMD");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut container = Container::start(&arguments, &environment);
    container.says("serving").await;
    let first = container.first();
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (user, _) = shipped.the("USER").split_once(':').unwrap();
    assert_eq!(field("Uid:").split_whitespace().next(), Some(user), "{status}");
    assert!(field("NSpid:").ends_with("\t1"), "{status}");

    bench.client.enqueue("EX1", "echo", json!({"text": "contained"})).await;
    assert_eq!(bench.client.until("EX1", "SUCCESS").await.result()["outputs"]["text"], "contained");
    let check = shipped.command("HEALTHCHECK");
    assert_eq!(container.execute(&check, &environment).await, (0, "ok\n".into()));

    let written = std::fs::write(container.root.path().join("written"), ""); // out here, it can be
    assert!(written.is_ok());
    let inside = format!("/proc/{first}/root/written");
    let refused = std::fs::write(&inside, "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{refused}");

    container.signal(Signal::TERM);
    assert_eq!(container.ended().await, 0, "{}", container.log());
    assert!(container.log().contains("draining") && container.log().contains("stopped"), "{}", container.log());
}
