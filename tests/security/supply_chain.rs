//! What the program is built from: licences, sources and duplicates of its dependencies, by `deny.toml`. cargo-deny reads the same
//! file and knows more, advisories above all, but isn't everywhere; this is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value as Json;

#[derive(Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

/// `name`, or `name@version`.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
struct Sources {
    #[serde(rename = "allow-registry")]
    registries: Vec<String>,
}

/// A dependency of what is shipped.
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None for our own.
    source: Option<String>,
}

fn policy() -> Policy {
    toml::from_str(include_str!("../../deny.toml")).unwrap()
}

/// All that is built into the program, or runs while it is built, with all features.
fn shipped(target: &str) -> Vec<Package> {
    let arguments =
        ["metadata", "--locked", "--offline", "--format-version=1", "--all-features", "--filter-platform", target];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Json = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: HashMap<&str, &Json> = nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let (mut seen, mut next) = (BTreeSet::new(), vec![metadata["resolve"]["root"].as_str().unwrap()]);
    while let Some(id) = next.pop() {
        if seen.insert(id) {
            let dependencies = nodes[id]["deps"].as_array().unwrap().iter();
            let built = |dependency: &&Json| {
                dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].as_str() != Some("dev"))
            };
            next.extend(dependencies.filter(built).map(|dependency| dependency["pkg"].as_str().unwrap()));
        }
    }
    let text = |package: &Json, key: &str| package[key].as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().unwrap().iter();
    let packages = packages.filter(|package| seen.contains(package["id"].as_str().unwrap()));
    packages
        .map(|package| Package {
            name: text(package, "name").unwrap(),
            version: text(package, "version").unwrap(),
            license: text(package, "license"),
            source: text(package, "source"),
        })
        .collect()
}

/// Whether an expression of SPDX is fulfilled by these licences alone. An unknown form isn't.
fn allowed(expression: &str, allow: &[String]) -> bool {
    // The form of old: a slash for OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (fulfilled, rest) = any(&words, allow);
    fulfilled && rest.is_empty()
}

fn any<'a, 'w>(words: &'a [&'w str], allow: &[String]) -> (bool, &'a [&'w str]) {
    let (mut fulfilled, mut rest) = all(words, allow);
    while let ["OR", more @ ..] = rest {
        let (other, after) = all(more, allow);
        (fulfilled, rest) = (fulfilled || other, after);
    }
    (fulfilled, rest)
}

fn all<'a, 'w>(words: &'a [&'w str], allow: &[String]) -> (bool, &'a [&'w str]) {
    let (mut fulfilled, mut rest) = one(words, allow);
    while let ["AND", more @ ..] = rest {
        let (other, after) = one(more, allow);
        (fulfilled, rest) = (fulfilled && other, after);
    }
    (fulfilled, rest)
}

fn one<'a, 'w>(words: &'a [&'w str], allow: &[String]) -> (bool, &'a [&'w str]) {
    match words {
        ["(", more @ ..] => match any(more, allow) {
            (fulfilled, [")", rest @ ..]) => (fulfilled, rest),
            _ => (false, &[]),
        },
        [license, "WITH", exception, rest @ ..] => (allow.contains(&format!("{license} WITH {exception}")), rest),
        [license, rest @ ..] => (allow.iter().any(|known| known == license), rest),
        [] => (false, &[]),
    }
}

#[test]
fn expressions_of_licences_are_read_as_they_are_meant() {
    let allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(String::from);
    for (expression, fulfilled) in [
        ("MIT", true),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("GPL-3.0 OR (MIT AND Apache-2.0)", true),
        ("(MIT OR GPL-3.0) AND ISC", false),
        ("MIT OR ISC AND GPL-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("(MIT", false),
        ("MIT)", false),
        ("MIT Apache-2.0", false),
        ("", false),
    ] {
        assert_eq!(allowed(expression, &allow), fulfilled, "{expression}");
    }
}

#[test]
fn dependencies_have_licences_and_sources_that_are_allowed_and_are_there_once() {
    let policy = policy();
    let mut wrong = Vec::new();
    let mut skipped = BTreeSet::new();
    for target in &policy.graph.targets {
        let packages = shipped(target);
        assert!(packages.len() > 100, "{}", packages.len());
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Package { name, version, license, source } in &packages {
            versions.entry(name).or_default().push(version);
            let Some(source) = source else { continue };
            if !policy.sources.registries.iter().any(|known| source == &format!("registry+{known}")) {
                wrong.push(format!("{name} {version} is from {source}"));
            }
            match license {
                Some(license) if allowed(license, &policy.licenses.allow) => {}
                license => wrong.push(format!("{name} {version} has the licence {license:?}")),
            }
            if policy.bans.deny.iter().any(|banned| banned.name == *name) {
                wrong.push(format!("{name} is banned"));
            }
        }
        for (name, versions) in versions {
            let skips = |version: &&str| {
                let full = format!("{name}@{version}");
                policy
                    .bans
                    .skip
                    .iter()
                    .find(|skip| skip.name == full || skip.name == name)
                    .map(|skip| skip.name.clone())
            };
            let found: Vec<_> = versions.iter().filter_map(skips).collect();
            if versions.len() > 1 && found.len() + 1 < versions.len() {
                wrong.push(format!("{name} is there as {}", versions.join(" and ")));
            }
            if versions.len() > 1 {
                skipped.extend(found);
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "deny.toml doesn't allow this:\n{}", wrong.join("\n"));
    let idle: Vec<_> = policy.bans.skip.iter().map(|skip| &skip.name).filter(|name| !skipped.contains(*name)).collect();
    assert!(idle.is_empty(), "in deny.toml and needed no more: {idle:?}");
}
