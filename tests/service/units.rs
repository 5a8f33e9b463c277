//! The units, as systemd itself judges them.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::worker::PROGRAM;

/// Exposure, in tenths, that a unit may have at most.
const THRESHOLD: &str = "--threshold=20";

fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    let run = Command::new("systemd-analyze").args(arguments).arg("--no-pager").arg(unit).output();
    match run {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn units_are_valid_and_hardened() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "systemd-analyze is needed on a build server");
        eprintln!("systemd-analyze is not installed: the units are not checked");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, unit) in [
        ("fireflow-worker.service", include_str!("../../systemd/fireflow-worker.service")),
        ("fireflow-worker@.service", include_str!("../../systemd/fireflow-worker@.service")),
    ] {
        // The program is where it is.
        let path = folder.path().join(name);
        assert!(unit.contains("ExecStartPre=-/usr/local/bin/fireflow-worker --config"));
        std::fs::write(&path, unit.replace("/usr/local/bin/fireflow-worker", PROGRAM)).unwrap();
        let verified = analyze(&["verify"], &path).unwrap();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        // What a systemd before 253 says of the one setting that it doesn't know, and passes over.
        let unknown = "Failed to parse service type, ignoring: notify-reload";
        let wrong: Vec<&str> = said
            .lines()
            .filter(|line| line.contains(name.trim_end_matches(".service")) && !line.contains(unknown))
            .collect();
        assert!(verified.status.success() && wrong.is_empty(), "{name}: {said}");
        let secure = analyze(&["security", "--offline=true", THRESHOLD], &path).unwrap();
        let said = String::from_utf8_lossy(&secure.stdout).into_owned();
        assert!(secure.status.success() && said.contains("Overall exposure level"), "{name}: {said}");
    }
}

#[test]
fn both_units_say_the_same_but_for_the_instance() {
    let plain = include_str!("../../systemd/fireflow-worker.service");
    let template = include_str!("../../systemd/fireflow-worker@.service");
    let settings = |unit: &str| -> Vec<String> {
        let lines = unit.lines().filter(|line| !line.starts_with('#') && line.contains('='));
        lines
            .filter(|line| {
                !line.contains("%i") && !line.contains("/etc/fireflow") && !line.contains("fireflow-worker.")
            })
            .filter(|line| !line.starts_with("SyslogIdentifier=") && !line.starts_with("Description="))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(settings(plain), settings(template));
    assert!(template.contains("Environment=FIREFLOW__WORKER__ID=%H-%i"), "instances would share one id");
}
