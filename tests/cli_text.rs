//! What the command line says of itself: the help of every command, errors of usage, completion scripts and the manual.
//!
//! `FIREFLOW_RECORD=1 cargo test --test cli_text` writes the recorded texts in `tests/cli_text` anew; look at what changed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::worker::PROGRAM;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_text")
}

/// The program, with nothing in its environment, and no terminal.
fn program(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("NO_COLOR", "1").stdin(Stdio::null()).args(arguments).output().unwrap()
}

fn out(arguments: &[&str]) -> String {
    let output = program(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// All commands, as words: those of each `Commands:` in the helps.
fn commands() -> Vec<Vec<String>> {
    let (mut found, mut open) = (Vec::new(), vec![Vec::new()]);
    while let Some(command) = open.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = out(&[&words[..], &["--help"]].concat());
        if let Some((_, list)) = help.split_once("\nCommands:\n") {
            // Names begin after two blanks; what a line goes on with, further in.
            let named = list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
            let names = named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
            open.extend(names.map(|name| [&command[..], &[name.to_owned()]].concat()));
        }
        found.push(command);
    }
    found.sort();
    found
}

fn recorded(name: &str, text: &str) -> Option<String> {
    let path = folder().join(name);
    if std::env::var_os("FIREFLOW_RECORD").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    (before != text).then(|| format!("{name} differs from what the program says:\n{text}"))
}

#[test]
fn the_help_of_every_command_is_as_recorded() {
    let commands = commands();
    assert!(commands.len() >= 19, "{commands:?}");
    let (mut names, mut wrong) = (BTreeSet::new(), Vec::new());
    for command in &commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let name = format!("{}.txt", [&["help"], &words[..]].concat().join("-"));
        wrong.extend(recorded(&name, &out(&[&words[..], &["--help"]].concat())));
        names.insert(name);
    }
    assert!(wrong.is_empty(), "FIREFLOW_RECORD=1 records them anew\n{}", wrong.join("\n"));
    // What is recorded of commands that are gone would be read as if they were there.
    for file in std::fs::read_dir(folder()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with("help") || names.contains(&name), "tests/cli_text/{name}: there is no such command");
    }
}

#[test]
fn errors_of_usage_are_as_recorded() {
    let wrong: [&[&str]; 16] = [
        &[],
        &["frob"],
        &["chekc"],
        &["check", "--jsno"],
        &["run", "--worker-id"],
        &["enqueue"],
        &["enqueue", "f", "--wait-timeout", "soon"],
        &["flow", "psuh"],
        &["doctor", "--patience", "long"],
        &["gc"],
        &["gc", "--older-than", "5m"],
        &["gc", "--older-than", "30d", "--statuses", "enqueued"],
        &["completions", "tcsh"],
        &["man", "frob"],
        &["check", "--config", "/no/such/worker.toml"],
        &["check", "--database-url", "nonsense"],
    ];
    let mut text = String::new();
    for arguments in wrong {
        let output = program(arguments);
        assert!(output.stdout.is_empty() && !output.status.success(), "{arguments:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        text.push_str(&format!(
            "$ fireflow-worker {}\n{said}exit code {}\n\n",
            arguments.join(" "),
            output.status.code().unwrap()
        ));
    }
    let wrong = recorded("errors.txt", &text);
    assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
}

/// The shell's own judgement of a script, where the shell is there.
fn judged(shell: &str, arguments: &[&str], script: &Path) -> Option<Output> {
    let judged = Command::new(shell).args(arguments).arg(script).output();
    if judged.is_err() {
        eprintln!("skipped: no {shell} here");
    }
    judged.ok()
}

#[test]
fn completion_scripts_are_scripts_and_complete() {
    let folder = tempfile::tempdir().unwrap();
    let bash = folder.path().join("bash");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = out(&["completions", shell]);
        for word in ["doctor", "older-than", "validate", "database-url"] {
            assert!(script.contains(word), "{shell} doesn't know {word}");
        }
        let file = folder.path().join(shell);
        std::fs::write(&file, script).unwrap();
        if ["bash", "zsh"].contains(&shell)
            && let Some(judged) = judged(shell, &["-n"], &file)
        {
            assert!(judged.status.success(), "{shell}: {judged:?}");
        }
    }
    // Bash completes by it.
    let completed = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let test = format!(
            "source {}; COMP_WORDS=({line}); COMP_CWORD={}; COMP_LINE='{line}'; COMP_POINT={}; \
             _fireflow__worker fireflow-worker '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            bash.display(),
            words.len() - 1,
            line.len(),
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let output = Command::new("bash").args(["--norc", "-c", &test]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    if judged("bash", &["-n"], &bash).is_some() {
        assert_eq!(completed("fireflow-worker doc"), "doctor");
        assert_eq!(completed("fireflow-worker flow pu"), "push pull");
        assert_eq!(completed("fireflow-worker gc --older"), "--older-than");
        assert!(completed("fireflow-worker completions z").contains("zsh"));
    }
}

#[test]
fn the_manual_has_a_page_for_every_command_and_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("man");
    let written = program(&["man", "--dir", dir.to_str().unwrap()]);
    assert!(written.status.success() && written.stdout.is_empty(), "{written:?}");
    let mut pages: Vec<String> =
        std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    let mut expected: Vec<String> = commands()
        .iter()
        .map(|words| format!("{}.1", [&["fireflow-worker".to_owned()], &words[..]].concat().join("-")))
        .collect();
    expected.sort();
    assert_eq!(pages, expected);
    for page in &pages {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
        if let Some(judged) = judged("groff", &["-man", "-Tutf8", "-ww", "-z"], &dir.join(page)) {
            assert!(
                judged.status.success() && judged.stderr.is_empty(),
                "{page}: {}",
                String::from_utf8_lossy(&judged.stderr)
            );
        }
    }
    let one = out(&["man", "flow", "push"]);
    assert_eq!(one, std::fs::read_to_string(dir.join("fireflow-worker-flow-push.1")).unwrap());
    assert_eq!(out(&["man"]), std::fs::read_to_string(dir.join("fireflow-worker.1")).unwrap());
    if let Some(shown) = judged("groff", &["-man", "-Tascii", "-P-c"], &dir.join("fireflow-worker-gc.1")) {
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        // Terminals of old print a letter twice to make it bold.
        let mut plain = String::new();
        for letter in text.chars() {
            match letter {
                '\u{8}' => drop(plain.pop()),
                letter => plain.push(letter),
            }
        }
        assert!(plain.contains("--older-than <DURATION>"), "{plain}");
    }
    let unwritable = program(&["man", "--dir", "/proc/nowhere"]);
    assert_eq!(unwritable.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&unwritable.stderr).contains("/proc/nowhere: can't make this folder"),
        "{unwritable:?}"
    );
}
