//! A Dockerfile, read as far as ours goes.

use std::collections::BTreeMap;

use super::texts;

/// From one FROM to the next.
pub struct Stage {
    pub from: String,
    pub steps: Vec<(String, String)>,
}

/// The stages, each with its instructions; arguments of the whole file are put in.
pub fn stages(text: &str) -> Vec<Stage> {
    let (mut stages, mut arguments) = (Vec::<Stage>::new(), BTreeMap::new());
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    for line in joined.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no instruction: {line}"));
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        match name {
            "ARG" if stages.is_empty() => {
                let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("no default: {line}"));
                arguments.insert(format!("${{{key}}}"), value.to_owned());
            }
            "FROM" => {
                let from = arguments.get(&rest).cloned().unwrap_or(rest);
                stages.push(Stage { from, steps: Vec::new() });
            }
            _ => stages.last_mut().expect("a FROM").steps.push((name.to_owned(), rest)),
        }
    }
    stages
}

impl Stage {
    /// What stands after each instruction of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.steps.iter().filter(|(found, _)| found == name).map(|(_, rest)| rest.as_str()).collect()
    }

    /// What stands after the only instruction of this name.
    pub fn the(&self, name: &str) -> &str {
        match self.all(name).as_slice() {
            [one] => one,
            found => panic!("{name}: expected it once, found {found:?}"),
        }
    }

    /// The command of an instruction in the exec form: without a shell.
    pub fn command(&self, name: &str) -> Vec<String> {
        let rest = self.the(name);
        let list =
            rest.find('[').map(|at| &rest[at..]).unwrap_or_else(|| panic!("{name} {rest}: not in the exec form"));
        texts(&serde_json::from_str(list).unwrap_or_else(|error| panic!("{name} {list}: {error}")))
    }

    /// The variables that it sets.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = self.all("ENV").into_iter().flat_map(str::split_whitespace);
        pairs.map(|pair| pair.split_once('=').expect("NAME=value")).map(|(k, v)| (k.into(), v.into())).collect()
    }

    /// Each COPY: the stage that it is from, if any, its sources, and its destination.
    pub fn copies(&self) -> Vec<(Option<&str>, Vec<&str>, &str)> {
        self.all("COPY").into_iter().map(copy).collect()
    }
}

fn copy(rest: &str) -> (Option<&str>, Vec<&str>, &str) {
    let mut words: Vec<&str> = rest.split(' ').collect();
    let from = words[0].strip_prefix("--from=");
    if from.is_some() {
        words.remove(0);
    }
    let to = words.pop().expect("a destination");
    (from, words, to)
}
