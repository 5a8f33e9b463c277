//! In which line of the file a key stands.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Deeper than any key.
const DEEPEST: usize = 8;

/// The line of each key, section and list item, counted from 1, by its dotted path: `queue`, `queue.name`, `queue[1].name`.
/// Empty for a text that is no TOML.
pub(super) fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        let starts: Vec<usize> = text.match_indices('\n').map(|(end, _)| end).collect();
        let line = |offset: usize| starts.partition_point(|end| *end < offset) + 1;
        walk(table.get_ref(), "", 1, &line, &mut found);
    }
    found
}

fn walk(
    table: &DeTable<'_>,
    path: &str,
    depth: usize,
    line: &impl Fn(usize) -> usize,
    found: &mut BTreeMap<String, usize>,
) {
    if depth > DEEPEST {
        return;
    }
    for (key, value) in table {
        let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        found.insert(path.clone(), line(key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => walk(inner, &path, depth + 1, line, found),
            DeValue::Array(items) => {
                for (place, item) in items.iter().enumerate() {
                    let path = format!("{path}[{place}]");
                    found.insert(path.clone(), line(Spanned::span(item).start));
                    if let DeValue::Table(inner) = item.get_ref() {
                        walk(inner, &path, depth + 1, line, found);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sections_and_items_have_lines() {
        let text = "# first\n[worker]\nid = \"a\"\n\n[[queue]]\nname = \"x\"\n[[queue]]\nname = \"y\"\n[outbound]\nallow = [\n  \"a\",\n  \"b\",\n]\n";
        let lines = lines(text);
        for (key, line) in [
            ("worker", 2),
            ("worker.id", 3),
            ("queue[0].name", 6),
            ("queue[1]", 7),
            ("queue[1].name", 8),
            ("outbound.allow", 10),
            ("outbound.allow[1]", 12),
        ] {
            assert_eq!(lines.get(key), Some(&line), "{key} in {lines:?}");
        }
        assert!(super::lines("no = = toml").is_empty());
    }
}
