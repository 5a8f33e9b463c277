//! TOML as a tree.

use toml::Spanned as At;
use toml::de::{DeTable, DeValue};

use super::tree::{Kind, MAX_DEPTH, Spanned, Tree};
use super::yaml::json_number;
use crate::flow::diagnostic::Diagnostic;

/// Read a file. Its parser ends at a depth of its own; the tree's limit is checked here.
pub(super) fn read(text: &str) -> Result<Tree, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut findings: Vec<Diagnostic> = errors
        .iter()
        .map(|error| Diagnostic::error("syntax", format!("this is no TOML: {}", error.message())).at(error.span()))
        .collect();
    if !findings.is_empty() {
        return Err(findings);
    }
    let span = table.span();
    let kind = self::table(table.get_ref(), 1, &mut findings);
    if findings.is_empty() { Ok(Tree { kind, span }) } else { Err(findings) }
}

fn table(table: &DeTable, depth: usize, findings: &mut Vec<Diagnostic>) -> Kind {
    let mut entries: Vec<(Spanned, Tree)> = Vec::with_capacity(table.len());
    for (key, value) in table {
        let key = Spanned { text: key.get_ref().to_string(), span: key.span() };
        entries.push((key, tree(value, depth, findings)));
    }
    // In the order of the file.
    entries.sort_by_key(|(key, _)| key.span.start);
    Kind::Map(entries)
}

fn tree(value: &At<DeValue>, depth: usize, findings: &mut Vec<Diagnostic>) -> Tree {
    let span = value.span();
    let mut wrong = |code: &'static str, message: String| {
        findings.push(Diagnostic::error(code, message).at(Some(span.clone())));
        Kind::Null
    };
    let kind = match value.get_ref() {
        DeValue::Array(_) | DeValue::Table(_) if depth >= MAX_DEPTH => {
            wrong("too-deep", format!("the file nests deeper than {MAX_DEPTH} levels"))
        }
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Boolean(flag) => Kind::Bool(*flag),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Kind::Number(number.into()),
            Err(_) => wrong("not-a-number", format!("{} is too large a number", number.as_str())),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>().ok().and_then(json_number) {
            Some(number) => Kind::Number(number),
            None => wrong("not-a-number", format!("{} is no finite number", number.as_str())),
        },
        DeValue::Datetime(time) => Kind::Text(time.to_string()),
        DeValue::Array(items) => Kind::List(items.iter().map(|item| tree(item, depth + 1, findings)).collect()),
        DeValue::Table(inner) => table(inner, depth + 1, findings),
    };
    Tree { kind, span }
}
