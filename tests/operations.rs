//! The operator's guide says what is true: its commands are run as they stand there, on a database and a worker of their own, and
//! what it shows of their output is compared.
//!
//! In `docs/operations.md` and the pages of `docs/operations`, blocks marked `console` are run from top to bottom: lines that begin
//! with `$ fireflow-worker`, `$ psql`, `$ pg_dump`, `$ curl`, or a variable before one of these; other commands are left out. A line may go on after a
//! backslash. What follows, up to the next command, is what it writes to stdout: nothing shown, nothing compared. `…` stands for anything
//! in a line, and in a line of its own for any lines. Runs of blanks count as one. A command has to succeed.
//!
//! Each page has a database of its own, at first empty for `operations.md`; for the other pages with the schemas, the example
//! flows and a worker `worker-1`. `<!-- run: worker ID -->` starts a worker, `<!-- run: stop ID -->` stops it. The worker's admin listener is where
//! the page says 127.0.0.1:7420.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};
use support::worker::{PROGRAM, WorkerProcess, program};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Something to do, and where it stands.
#[derive(Debug)]
enum Step {
    Worker(String),
    Stop(String),
    Command { line: usize, command: String, shown: Vec<String> },
}

/// What the test runs of the commands that a page shows.
fn is_run(command: &str) -> bool {
    let mut words = command.split_whitespace().skip_while(|word| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    });
    words.next().is_some_and(|word| ["fireflow-worker", "psql", "pg_dump", "curl"].contains(&word))
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open = false;
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            open = !open && fence.split_whitespace().next() == Some("console");
            continue;
        }
        let directive = line.strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->"));
        match directive.map(|directive| directive.split_once(' ')) {
            Some(Some(("worker", id))) => steps.push(Step::Worker(id.into())),
            Some(Some(("stop", id))) => steps.push(Step::Stop(id.into())),
            Some(other) => panic!("line {}: {other:?} is nothing to run", at + 1),
            None => {}
        }
        if !open {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            let mut command = command.to_owned();
            while command.ends_with('\\') {
                command.pop();
                command.push_str(lines.next().map_or("", |(_, more)| more));
            }
            steps.push(Step::Command { line: at + 1, command, shown: Vec::new() });
        } else if let Some(Step::Command { shown, .. }) = steps.last_mut() {
            shown.push(line.to_owned());
        }
    }
    steps
}

/// Blanks count as one, and none at the end.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is as shown, where `…` stands for anything.
fn fits(shown: &str, line: &str) -> bool {
    let (shown, line) = (squeezed(shown), squeezed(line));
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether lines are as shown; a line `…` stands for any lines, or none.
fn all_fit(shown: &[String], lines: &[&str]) -> bool {
    match (shown, lines) {
        ([], lines) => lines.is_empty(),
        ([first, more @ ..], lines) if first.trim() == "…" => {
            (0..=lines.len()).any(|skipped| all_fit(more, &lines[skipped..]))
        }
        ([first, more @ ..], [line, rest @ ..]) => fits(first, line) && all_fit(more, rest),
        (_, []) => false,
    }
}

#[test]
fn what_is_shown_is_compared_and_only_ellipses_are_not() {
    let shown = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(fits("a  b", "a b ") && !fits("a b", "a c") && !fits("a", "a b"));
    assert!(
        fits("took … ms", "took 12 ms") && !fits("took … ms", "took 12 s") && fits("…x…", "axb") && !fits("…x…", "ab")
    );
    assert!(
        all_fit(&shown(&["a", "…", "d"]), &["a", "b", "c", "d"]) && !all_fit(&shown(&["a", "…", "d"]), &["a", "b"])
    );
    assert!(!all_fit(&shown(&["a"]), &["a", "b"]) && !all_fit(&shown(&["a", "b"]), &["a"]));
    let page = "```console\n$ fireflow-worker a \\\n  --b\nout\n$ systemctl c\n```\n```sh\n$ fireflow-worker \
                no\n```\n<!-- run: worker w -->\n";
    let steps = steps(page);
    assert_eq!(steps.len(), 3, "{steps:?}");
    assert!(
        matches!(&steps[0], Step::Command { line: 2, command, shown } if command == "fireflow-worker a   --b" && shown == &["out"])
    );
    assert!(matches!(&steps[2], Step::Worker(id) if id == "w"));
    assert!(
        is_run("A_B=1 fireflow-worker x")
            && is_run("psql -c x")
            && !is_run("systemctl start fireflow-worker")
            && !is_run("x=1")
    );
}

/// A page's surroundings.
struct Stage {
    url: String,
    port: u16,
    folder: tempfile::TempDir,
    workers: BTreeMap<String, WorkerProcess>,
}

impl Stage {
    async fn start(&mut self, id: &str) {
        let address = format!("127.0.0.1:{}", self.port);
        let settings = [("admin.enabled", "true"), ("admin.listen", address.as_str())];
        let worker = WorkerProcess::start(&self.url, id, &settings).await;
        self.workers.insert(id.into(), worker);
    }

    async fn command(&self, command: &str) -> std::process::Output {
        let command = command.replace("127.0.0.1:7420", &format!("127.0.0.1:{}", self.port));
        let own = Path::new(PROGRAM).parent().unwrap().display().to_string();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
        let mut shell = tokio::process::Command::new("bash");
        shell.args(["-c", &format!("set -o pipefail; {command}")]).current_dir(self.folder.path()).env_clear();
        shell.env("PATH", path).env("DATABASE_URL", &self.url).env("NO_COLOR", "1").env("HOME", self.folder.path());
        shell.env("FIREFLOW__ADMIN__LISTEN", format!("127.0.0.1:{}", self.port));
        shell.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await.unwrap()
    }
}

/// Play a page; gives how many commands were run.
async fn play(page: &Path, server: &Server, database: &str, ready: bool) -> usize {
    let (admin, connection) = tokio_postgres::connect(&server.url("postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    admin.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    for shared in ["examples", "config"] {
        std::os::unix::fs::symlink(root().join(shared), folder.path().join(shared)).unwrap();
    }
    let mut stage = Stage { url: server.url(database), port: free, folder, workers: BTreeMap::new() };
    if ready {
        assert!(program(&stage.url).arg("migrate").output().await.unwrap().status.success());
        let flows = std::fs::read_dir(root().join("examples/flows")).unwrap().map(|file| file.unwrap().path());
        assert!(program(&stage.url).args(["flow", "push"]).args(flows).output().await.unwrap().status.success());
        stage.start("worker-1").await;
    }
    let mut count = 0;
    for step in steps(&read(page)) {
        match step {
            Step::Worker(id) => stage.start(&id).await,
            Step::Stop(id) => {
                let worker =
                    stage.workers.remove(&id).unwrap_or_else(|| panic!("{}: no worker {id} runs", page.display()));
                assert!(worker.stop().await.success());
            }
            Step::Command { command, .. } if !is_run(&command) => {}
            Step::Command { line, command, shown } => {
                let place = format!("{}:{line}: {command}", page.display());
                let output = stage.command(&command).await;
                let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                assert!(output.status.success(), "{place}\n{}\n{out}{err}", output.status);
                let lines: Vec<&str> = out.trim_end().lines().collect();
                let end = shown.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
                assert!(
                    end == 0 || all_fit(&shown[..end], &lines),
                    "{place}\nshown:\n{}\nwritten:\n{out}{err}",
                    shown.join("\n")
                );
                count += 1;
            }
        }
    }
    count
}

fn pages() -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(root().join("docs/operations")) else { return Vec::new() };
    let mut pages: Vec<PathBuf> = folder
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect();
    pages.sort();
    pages
}

/// A server that writes carefully, as an operator's does: `doctor` is among the commands.
async fn server(folder: &tempfile::TempDir) -> Server {
    // It may run as another account.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let options =
        Options { programs: locate(None).unwrap(), data: Data::Kept(folder.path().join("server")), port: None };
    tokio::task::spawn_blocking(move || Server::start_blocking(&options)).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_commands_of_the_guide_do_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder).await;
    let count = play(&root().join("docs/operations.md"), &server, "guide", false).await;
    assert!(count >= 20, "{count} commands were run");
}

#[tokio::test]
async fn the_commands_of_its_pages_do_what_they_show() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder).await;
    let mut played = BTreeMap::new();
    for (number, page) in pages().iter().enumerate() {
        if steps(&read(page)).iter().any(|step| matches!(step, Step::Command { command, .. } if is_run(command))) {
            let count = play(page, &server, &format!("page_{number}"), true).await;
            played.insert(page.file_name().unwrap().to_str().unwrap().to_owned(), count);
        }
    }
    let executions = played.get("executions.md").copied().unwrap_or(0);
    assert!(executions >= 10, "{executions} commands of executions.md were run: {played:?}");
}

/// Words in backticks of the first column of the table under this head.
fn first_column(text: &str, head: &str) -> BTreeSet<String> {
    let (_, table) = text.split_once(head).unwrap_or_else(|| panic!("no table {head}"));
    let (table, _) = table.split_once("\n\n").unwrap();
    let cells = table.lines().skip(1).filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_guide_names_every_check_command_exit_code_and_page() {
    let guide = read(&root().join("docs/operations.md"));
    let database = support::TestDatabase::new().await;
    assert!(program(&database.url()).arg("migrate").output().await.unwrap().status.success());
    let visit = program(&database.url()).args(["doctor", "--json"]).output().await.unwrap();
    let visit: serde_json::Value = serde_json::from_slice(&visit.stdout).unwrap();
    let checks: BTreeSet<String> = visit["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["check"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(first_column(&guide, "| check | looks whether |"), checks);

    let help = program("postgres://127.0.0.1:1/none").arg("--help").output().await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let named = list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let commands: BTreeSet<String> = named
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert_eq!(first_column(&guide, "| command | does | changes something |"), commands);

    let (_, codes) = help.split_once("Exit codes: ").unwrap();
    let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<u8>().ok());
    let codes: Vec<u8> = codes.split(',').filter_map(number).collect();
    let (_, table) = guide.split_once("| code | of | meaning | what to do |").unwrap();
    let shown: Vec<u8> = table.lines().filter_map(|line| number(line.strip_prefix('|')?)).collect();
    assert!(codes.iter().all(|code| shown.contains(code)), "{codes:?} {shown:?}");

    for page in pages() {
        let name = format!("(operations/{}", page.file_name().unwrap().to_str().unwrap());
        assert!(guide.contains(&name), "the guide doesn't link {name})");
    }
    let targets = guide
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.starts_with("http"));
    for target in targets.map(|target| target.split('#').next().unwrap_or_default()).filter(|file| !file.is_empty()) {
        let there = root().join("docs").join(target).exists();
        assert!(there, "the guide links to {target}, which isn't there");
    }
}
