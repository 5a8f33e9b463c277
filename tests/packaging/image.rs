//! The image, as the Dockerfile makes it.

use std::path::Path;
use std::process::Command;

use fireflow_worker::config::{self, Settings};

use super::dockerfile::{Stage, stages};
use super::{admin_port, path, read};

/// The stages that build and that are shipped.
pub fn image() -> (Stage, Stage) {
    let mut stages = stages(&read("Dockerfile"));
    let shipped = stages.pop().expect("a stage");
    let build = stages.pop().expect("another stage before it");
    assert!(stages.is_empty() && build.from.ends_with(" AS build"), "{}", build.from);
    (build, shipped)
}

#[test]
fn the_image_needs_no_shell_and_no_root() {
    let (_, shipped) = image();
    // Each command is a program of the image by its path, and a list of arguments.
    let programs: Vec<&str> = shipped.copies().iter().map(|(.., to)| *to).collect();
    for instruction in ["ENTRYPOINT", "HEALTHCHECK"] {
        let command = shipped.command(instruction);
        assert!(programs.contains(&command[0].as_str()), "{instruction} {command:?}: the image has {programs:?}");
    }
    assert_eq!(shipped.command("CMD"), ["run"]);
    assert!(shipped.all("RUN").is_empty() && shipped.all("SHELL").is_empty());
    let user = shipped.the("USER");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "a number, and not root: {user}");
    // The signal that the worker drains on.
    assert_eq!(shipped.the("STOPSIGNAL"), "SIGTERM");
}

#[test]
fn the_image_s_settings_are_the_worker_s() {
    let (_, shipped) = image();
    let port = admin_port(&Settings::default());
    assert_eq!(shipped.the("EXPOSE"), port);
    let environment = shipped.environment();
    let (_, file) = environment.iter().find(|(name, _)| name == "FIREFLOW_CONFIG").expect("a configuration");
    let copied = shipped.copies().into_iter().find(|(.., to)| to == file).expect("it is copied");
    let (settings, _) = config::load(Some(&path(copied.1[0])), environment, Vec::new()).unwrap();
    let listen = settings.admin.listen.to_string();
    assert_eq!(listen, format!("0.0.0.0:{port}"), "a listener on the container's loopback can't be reached");
}

#[test]
fn what_is_copied_is_there_and_let_through() {
    let (build, shipped) = image();
    let let_through = read(".dockerignore");
    for stage in [&build, &shipped] {
        for source in stage.copies().iter().filter(|(from, ..)| from.is_none()).flat_map(|(_, sources, _)| sources) {
            assert!(path(source).exists(), "{source} is copied and isn't there");
            let top = source.split('/').next().unwrap();
            assert!(let_through.lines().any(|line| line == format!("!{top}")), ".dockerignore keeps {source} back");
        }
    }
    // And nothing is let through that isn't copied: what changes there would not change the image.
    for line in let_through.lines().filter_map(|line| line.strip_prefix('!')) {
        let copied = |stage: &Stage| {
            let sources: Vec<String> =
                stage.copies().iter().flat_map(|(_, sources, _)| sources.clone()).map(str::to_owned).collect();
            sources.iter().any(|source| source.split('/').next() == Some(line))
        };
        assert!(copied(&build) || copied(&shipped), ".dockerignore lets {line} through, and nothing copies it");
    }
}

/// Cargo is asked whether what the build stage has is a whole package, and each file that the sources include is looked for.
#[test]
fn the_build_stage_has_all_that_is_compiled() {
    let (build, _) = image();
    let folder = tempfile::tempdir().unwrap();
    for (_, sources, to) in build.copies() {
        for source in sources {
            let to = if to == "./" { source } else { to };
            let copied = Command::new("cp").arg("-R").arg(path(source)).arg(folder.path().join(to)).status().unwrap();
            assert!(copied.success(), "{source}");
        }
    }
    // Asked to build what there isn't, it looks at the package as it does before each build, and builds nothing.
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--locked", "--no-default-features", "--bin", "nothing", "--target-dir", "target"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&cargo.stderr);
    assert!(said.contains("no bin target named `nothing`"), "{said}");

    let mut included = 0;
    let mut folders = vec![folder.path().join("src")];
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(&here).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            for macro_name in ["include_str!(\"", "include_bytes!(\""] {
                for name in text.split(macro_name).skip(1).filter_map(|rest| rest.split('"').next()) {
                    assert!(here.join(name).exists(), "{} includes {name}, which isn't copied", file.display());
                    included += 1;
                }
            }
        }
    }
    assert!(included > 10, "{included}");
}

#[test]
fn the_image_s_compiler_is_one_that_the_crate_allows() {
    let (build, _) = image();
    let minor = |text: &str| text.split('.').nth(1).and_then(|part| part.parse::<u32>().ok());
    let image = build.from.strip_prefix("rust:").and_then(|rest| minor(rest.split('-').next()?));
    assert!(image.is_some() && image >= minor(env!("CARGO_PKG_RUST_VERSION")), "{}", build.from);
}

/// The runtime image has glibc, libgcc and what belongs to them, and is of the Debian that the binary is built on.
#[test]
fn the_binary_needs_no_more_than_the_runtime_image_has() {
    const THERE: [&str; 6] = ["linux-vdso", "ld-linux", "libc.so", "libm.so", "libgcc_s.so", "libpthread.so"];
    let (build, shipped) = image();
    assert!(build.from.contains("bookworm"), "{}", build.from);
    assert!(shipped.from.starts_with("gcr.io/distroless/cc-debian12"), "{}", shipped.from);
    if !Path::new("/lib64/ld-linux-x86-64.so.2").exists() {
        eprintln!("skipped: no glibc here to ask");
        return;
    }
    for library in libraries() {
        let name = library.rsplit('/').next().unwrap();
        assert!(THERE.iter().any(|there| name.starts_with(there)), "{name} isn't in the runtime image");
    }
}

/// The libraries that the program loads, as far as they are files.
pub fn libraries() -> Vec<String> {
    let listed = Command::new("ldd").arg(super::support::worker::PROGRAM).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let paths: Vec<String> = paths.map(str::to_owned).collect();
    assert!(paths.iter().any(|path| path.contains("libc.so")), "{listed}");
    paths
}
