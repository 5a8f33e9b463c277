//! The example flows: built in, so that an installed binary has them, too.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    cli::flow::{Document, in_folder, parse},
    nodes::Registry,
};

/// What the demo runs and expects.
pub(super) const DEMO: &str = include_str!("../../../examples/demo.json");

macro_rules! examples {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../examples/flows/", $name)))),*]
    };
}

const FLOWS: &[(&str, &str)] = examples![
    "handled-error.yaml",
    "hello-world.yaml",
    "order-desk.yaml",
    "parallel.yaml",
    "price-note.json",
    "shipping.yaml",
    "weather-report.yaml",
    "worker-status.toml",
];

/// The flows of `examples/flows`.
pub(super) fn built_in() -> anyhow::Result<Vec<Document>> {
    let registry = Registry::standard();
    FLOWS.iter().map(|(name, text)| parse(name, text, &registry)).collect()
}

/// The flows of a folder.
pub(super) fn from_folder(folder: &Path) -> anyhow::Result<Vec<Document>> {
    let registry = Registry::standard();
    let read = |path: &std::path::PathBuf| {
        let source = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("{source}: can't read"))?;
        parse(&source, &text, &registry)
    };
    in_folder(folder)?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_of_the_folder_is_built_in_and_in_the_demo_and_has_no_problem() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flows");
        let built_in = built_in().unwrap();
        let ids = |documents: &[Document]| documents.iter().map(|document| document.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&from_folder(&folder).unwrap()), ids(&built_in));
        for document in &built_in {
            assert!(document.problems.is_empty(), "{}: {:?}", document.id, document.problems);
            assert!(DEMO.contains(&format!("\"flow\": \"{}\"", document.id)), "{} isn't in the demo", document.id);
        }
    }
}
