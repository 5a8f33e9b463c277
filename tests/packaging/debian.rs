//! The Debian package, as far as it can be known without building it (`packaging/debian/build`, `packaging/debian/try`).

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::support::worker::program;
use super::{path, read};

fn metadata() -> toml::Table {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

/// Each asset: what it is made from, where it goes, its mode.
fn assets() -> Vec<(String, String, String)> {
    let metadata = metadata();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let assets = metadata["assets"].as_array().unwrap().iter();
    assets.map(|asset| (text(&asset[0]), text(&asset[1]), text(&asset[2]))).collect()
}

#[test]
fn all_that_is_packed_is_there_or_made_by_the_build() {
    let build = read("packaging/debian/build");
    for (source, target, mode) in assets() {
        assert!(!target.starts_with('/'), "{target}");
        assert_eq!(mode, if target == "usr/bin/" { "755" } else { "644" }, "{target}");
        if let Some(made) = source.strip_prefix("packaging/debian/stage/") {
            let folder = made.split('/').next().unwrap();
            assert!(build.contains(&format!("\"$stage/{folder}")), "the build doesn't make {source}");
        } else if let Some((folder, pattern)) = source.split_once('*') {
            let found = std::fs::read_dir(path(folder)).unwrap();
            let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert!(names.into_iter().any(|name| name.ends_with(pattern)), "{source}");
        } else {
            assert!(path(&source).exists() || source == "target/release/fireflow-worker", "{source}");
        }
    }
    assert!(path(metadata()["license-file"][0].as_str().unwrap()).exists());
}

#[test]
fn the_configuration_is_the_reference_and_stays_over_upgrades() {
    let configuration = metadata()["conf-files"][0].as_str().unwrap().to_owned();
    assert!(
        assets()
            .iter()
            .any(|(source, target, _)| { source == "config/worker.toml" && format!("/{target}") == configuration })
    );
    // The unit and the scripts name it.
    assert!(read("systemd/fireflow-worker.service").contains(&configuration));
    assert!(read("packaging/debian/scripts/postinst").contains(&configuration));
}

#[test]
fn the_unit_runs_as_the_user_that_the_package_makes() {
    let unit = read("systemd/fireflow-worker.service");
    let users = read("packaging/debian/fireflow-worker.conf");
    let made: Vec<&str> =
        users.lines().filter(|line| line.starts_with("u ")).filter_map(|line| line.split(' ').nth(1)).collect();
    let [user] = made.as_slice() else { panic!("{made:?}") };
    assert!(unit.contains(&format!("User={user}\n")) && unit.contains(&format!("Group={user}\n")));
    // What the build does to the unit: the head goes, and programs are where Debian has them.
    assert!(unit.contains("\n[Unit]\n") && unit.contains("/usr/local/bin/fireflow-worker"));
}

#[test]
fn nothing_starts_by_itself() {
    assert!(!metadata().contains_key("systemd-units"), "cargo-deb would start it");
    for script in ["postinst", "prerm", "postrm"] {
        let script = read(&format!("packaging/debian/scripts/{script}"));
        let said = |line: &str| ["#", "say ", "echo "].iter().any(|word| line.trim_start().starts_with(word));
        let commands = script.lines().filter(|line| !said(line));
        for line in commands.filter(|line| line.contains("systemctl") || line.contains("deb-systemd")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(!words.iter().any(|word| ["start", "enable", "restart"].contains(word)), "{line}");
        }
    }
}

/// A machine with units that run, as far as `postinst` can see one.
struct Machine(tempfile::TempDir);

impl Machine {
    /// Programs that write down how they are called. `checks` says what the check of each unit ends with; a unit of `broken` doesn't come
    /// back from a restart.
    fn new(checks: &[(&str, i32)], broken: &[&str]) -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        let folder = machine.0.path().display().to_string();
        let script = |name: &str, text: &str| {
            let file = machine.0.path().join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        std::fs::create_dir(machine.0.path().join("system")).unwrap();
        let units: Vec<&str> = checks.iter().map(|(unit, _)| *unit).collect();
        for (unit, code) in checks {
            let of = if unit.contains('@') { "fireflow-worker@.service" } else { "fireflow-worker.service" };
            let unit_file = read(&format!("systemd/{of}"))
                .replace("/usr/local/bin/fireflow-worker", &format!("{folder}/fireflow-worker"));
            let drop_in = "[Service]\nLoadCredential=database-url:/etc/fireflow/url\nEnvironment=A=1 \\\n  B=%i\n";
            std::fs::write(machine.0.path().join(unit), format!("# /lib/{of}\n{unit_file}\n# drop-in\n{drop_in}"))
                .unwrap();
            let name = unit.trim_start_matches("fireflow-worker@").trim_end_matches(".service");
            let name = if name == "fireflow-worker" { "worker" } else { name };
            std::fs::write(machine.0.path().join(format!("{name}.code")), code.to_string()).unwrap();
        }
        script("systemd-sysusers", "exit 0");
        script(
            "systemctl",
            &format!(
                "echo \"systemctl $*\" >> {folder}/calls\ncase \"$*\" in\n  *list-units*) printf '%s loaded active running x\\n' {} ;;\n  \
                 *cat*) cat {folder}/\"$3\" ;;\nesac",
                units.join(" ")
            ),
        );
        script(
            "deb-systemd-invoke",
            &format!(
                "echo \"invoke $*\" >> {folder}/calls\ncase \" {} \" in *\" $2 \"*) exit 1 ;; esac",
                broken.join(" ")
            ),
        );
        script(
            "systemd-run",
            &format!("echo \"run $*\" >> {folder}/calls\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\""),
        );
        script(
            "fireflow-worker",
            &format!(
                "[ \"$1 $3\" = '--config check' ] || exit 99\nname=${{2#/etc/fireflow/}}\necho \"said by $name\"\n\
                 exit \"$(cat {folder}/\"${{name%.toml}}\".code)\""
            ),
        );
        machine
    }

    /// Upgrade; what was said, and the calls of other programs.
    fn upgrade(&self, before: &str) -> (String, Vec<String>) {
        let folder = self.0.path().display().to_string();
        let script = read("packaging/debian/scripts/postinst");
        let here = script.replace("/run/systemd/system", &format!("{folder}/system"));
        assert_ne!(script, here);
        let mut command = Command::new("sh");
        command.args(["-c", &here, "postinst", "configure", before]);
        let ended = command.env("PATH", format!("{folder}:/usr/bin:/bin")).env_remove("DPKG_ROOT").output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "an upgrade never fails for a worker: {said}");
        let calls = std::fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        (said, calls.lines().map(str::to_owned).collect())
    }
}

fn restarted(calls: &[String]) -> Vec<&str> {
    calls.iter().filter_map(|call| call.strip_prefix("invoke try-restart ")).collect()
}

#[test]
fn an_upgrade_restarts_what_the_new_version_can_start_and_holds_back_the_rest() {
    let units = [
        ("fireflow-worker.service", 0),
        ("fireflow-worker@away.service", 69),
        ("fireflow-worker@old.service", 1),
        ("fireflow-worker@wrong.service", 78),
        ("fireflow-worker@last.service", 0),
    ];
    let (said, calls) = Machine::new(&units, &[]).upgrade("0.1.0");
    assert_eq!(
        restarted(&calls),
        ["fireflow-worker.service", "fireflow-worker@away.service", "fireflow-worker@last.service"],
        "{said}"
    );
    for part in [
        "fireflow-worker@old.service goes on with the version before",
        "said by old.toml",
        "run fireflow-worker migrate as the tables' owner",
        "systemctl restart fireflow-worker@old.service",
        "said by wrong.toml",
        "correct the configuration, then: systemctl restart fireflow-worker@wrong.service",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("said by worker.toml") && !said.contains("last.service"), "{said}");
    // Those that start or reload at this moment, too.
    assert!(calls.iter().any(|call| call.contains("list-units") && call.contains("=active,reloading,activating ")));
    // Checked as the unit would: its user, environment and credentials, with what an administrator has added.
    let check = calls.iter().find(|call| call.contains("/etc/fireflow/away.toml check")).unwrap();
    for property in [
        "User=fireflow",
        "Group=fireflow",
        "EnvironmentFile=-/etc/fireflow/away.env",
        "LoadCredential=database-url:fireflow-worker.away.database-url",
        "LoadCredential=database-password:fireflow-worker.away.database-password",
        "LoadCredential=database-url:/etc/fireflow/url",
        "Environment=A=1    B=away",
    ] {
        assert!(check.contains(&format!("--property={property} ")), "{property}: {check}");
    }
    assert!(check.contains("-away ") && !check.contains("%") && check.contains(" --wait "), "{check}");
}

#[test]
fn an_upgrade_stops_at_a_worker_that_does_not_come_back_and_a_first_installation_starts_nothing() {
    let units = [("fireflow-worker.service", 0), ("fireflow-worker@b.service", 0), ("fireflow-worker@c.service", 0)];
    let (said, calls) = Machine::new(&units, &["fireflow-worker@b.service"]).upgrade("0.1.0");
    assert_eq!(restarted(&calls), ["fireflow-worker.service", "fireflow-worker@b.service"]);
    assert!(said.contains("fireflow-worker@b.service was restarted and didn't come back"), "{said}");
    assert!(said.contains("fireflow-worker@c.service is not restarted either"), "{said}");
    let (_, calls) = Machine::new(&units, &[]).upgrade("");
    assert!(restarted(&calls).is_empty() && !calls.iter().any(|call| call.contains("fireflow-worker")), "{calls:?}");
}

#[test]
fn scripts_are_shell() {
    for script in ["postinst", "prerm", "postrm"] {
        let name = format!("packaging/debian/scripts/{script}");
        assert!(!read(&name).contains("#DEBHELPER#"), "{name}: nobody replaces it");
        let checked = Command::new("sh").arg("-n").arg(path(&name)).output().unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    for name in ["packaging/debian/build", "packaging/debian/try", "packaging/upgrade"] {
        let checked = Command::new("bash").arg("-n").arg(path(name)).output().unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn the_changelog_is_of_this_version() {
    let changelog = read(metadata()["changelog"].as_str().unwrap());
    let first = changelog.lines().next().unwrap();
    assert!(first.starts_with(&format!("fireflow-worker ({}) ", env!("CARGO_PKG_VERSION"))), "{first}");
}

/// What the build asks the binary for.
#[tokio::test]
async fn the_binary_writes_its_pages_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    let pages = program("").args(["man", "--dir"]).arg(folder.path()).output().await.unwrap();
    assert!(pages.status.success(), "{}", String::from_utf8_lossy(&pages.stderr));
    let page = std::fs::read_to_string(folder.path().join("fireflow-worker.1")).unwrap();
    assert!(page.starts_with(".ie") || page.contains(".TH"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let completions = program("").args(["completions", shell]).output().await.unwrap();
        assert!(completions.status.success() && completions.stdout.len() > 100, "{shell}");
    }
}
