//! The Debian package, as far as it can be known without building it (`packaging/debian/build`, `packaging/debian/try`).

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
        let commands = script.lines().filter(|line| !line.trim_start().starts_with('#') && !line.contains("echo "));
        for line in commands.filter(|line| line.contains("systemctl") || line.contains("deb-systemd")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(!words.iter().any(|word| ["start", "enable", "restart"].contains(word)), "{line}");
        }
    }
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
