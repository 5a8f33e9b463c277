//! Names for the nodes of a stored flow.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::reference::is_name;
use crate::flow::model::{Flow, Json as Object, Node};

/// The metadata of nodes, by id.
pub(super) fn metadata_by_id(stored: &Json) -> HashMap<&str, &Object> {
    let mut found = HashMap::new();
    for node in stored.get("nodes").and_then(Json::as_array).into_iter().flatten() {
        if let (Some(id), Some(metadata)) = (node["id"].as_str(), node["metadata"].as_object()) {
            found.entry(id).or_insert(metadata);
        }
    }
    found
}

/// Names for nodes: their ids, where a person could have written them, else by their titles and types.
pub(super) fn names(flow: &Flow, stored: &Json) -> Vec<String> {
    const RANDOM: usize = 16;
    let metadata = metadata_by_id(stored);
    let made = |id: &str| id.strip_prefix("NO").is_some_and(|rest| rest.len() == RANDOM);
    let mut taken: HashSet<String> =
        flow.nodes.iter().map(|node| &*node.id).filter(|id| is_name(id) && !made(id)).map(str::to_owned).collect();
    let mut name = |node: &Node| {
        if is_name(&node.id) && !made(&node.id) {
            return node.id.to_string();
        }
        let title = metadata.get(&*node.id).and_then(|metadata| metadata.get("title")?.as_str());
        let from = title.filter(|title| title.chars().any(char::is_alphanumeric)).unwrap_or(&node.type_name);
        let base = kebab(from.trim_end_matches("V2").trim_end_matches("Node"));
        let base = if base.is_empty() { "node".to_owned() } else { base };
        let free = |name: &String| !taken.contains(name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(free).unwrap_or(base);
        taken.insert(name.clone());
        name
    };
    flow.nodes.iter().map(&mut name).collect()
}

/// `HTTPRequest` as `http-request`.
fn kebab(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut name = String::new();
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character.is_alphanumeric() {
            let begins = character.is_uppercase()
                && (before.is_lowercase()
                    || before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase()));
            if !name.is_empty() && (begins || !before.is_alphanumeric()) {
                name.push('-');
            }
            name.extend(character.to_lowercase());
        }
        before = character;
    }
    name.chars().take(LONGEST).collect::<String>().trim_matches('-').to_owned()
}
