//! Which values fit which ports: the rules by which editors join ports. At run time nothing is converted or refused.

use std::collections::HashSet;

use serde_json::Value as JsonValue;

use crate::flow::model::{PortConfig, PortKind};

/// How well what comes out of one port goes into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    /// It depends on the value.
    Loose(String),
    /// Objects without a field that the target names.
    Lacks(String),
    /// It never does.
    Never(String),
}

/// Recursion ends with the configurations' depth, which is bounded.
pub(super) fn fit(from: &PortConfig, to: &PortConfig) -> Fit {
    match (&from.kind, &to.kind) {
        (_, PortKind::Any(_)) => Fit::Fits,
        (PortKind::Any(Some(_)), _) => match from.underlying() {
            inner if matches!(inner.kind, PortKind::Any(_)) => anything(to),
            inner => fit(inner, to),
        },
        (PortKind::Any(None), _) => anything(to),
        (PortKind::String, PortKind::String)
        | (PortKind::Number, PortKind::Number)
        | (PortKind::Boolean, PortKind::Boolean)
        | (PortKind::Enum, PortKind::Enum) => Fit::Fits,
        (PortKind::String, PortKind::Enum) => Fit::Loose("a text may be none of the enum's options".into()),
        (PortKind::Enum, PortKind::String) => Fit::Loose("an editor does not join an enum to a string".into()),
        (PortKind::Array(from), PortKind::Array(to_items)) | (PortKind::Stream(from), PortKind::Stream(to_items)) => {
            items(from.as_deref(), to_items.as_deref(), to)
        }
        (PortKind::Object(from_fields), PortKind::Object(_)) => fields(from, from_fields, to),
        (PortKind::Secret, PortKind::Secret) => {
            let of = |config: &PortConfig| config.raw.get("secretType").and_then(JsonValue::as_str).map(str::to_owned);
            match (of(from), of(to)) {
                (Some(from), Some(to)) if from != to => Fit::Loose(format!("a secret of {from} is none of {to}")),
                _ => Fit::Fits,
            }
        }
        _ => Fit::Never(format!("{} is not {}", name(from), name(to))),
    }
}

/// A port of which nothing is known gives a value that nothing converts.
fn anything(to: &PortConfig) -> Fit {
    match to.kind {
        PortKind::String | PortKind::Number | PortKind::Boolean => {
            Fit::Loose(format!("what comes may be no {}, and nothing converts it", name(to)))
        }
        _ => Fit::Fits,
    }
}

fn flag(config: &PortConfig, key: &str) -> bool {
    config.raw.get(key).and_then(JsonValue::as_bool).unwrap_or(false)
}

fn items(from: Option<&PortConfig>, to: Option<&PortConfig>, target: &PortConfig) -> Fit {
    let (Some(from), Some(to)) = (from, to) else { return Fit::Fits };
    let open = |config: &PortConfig| matches!(config.underlying().kind, PortKind::Any(None));
    if flag(target, "isMutable") || flag(target, "isSchemaMutable") || open(from) || open(to) {
        return Fit::Fits;
    }
    match fit(from, to) {
        Fit::Never(why) => Fit::Never(format!("of their items, {why}")),
        Fit::Loose(why) => Fit::Loose(format!("of their items, {why}")),
        other => other,
    }
}

type Fields = indexmap::IndexMap<std::sync::Arc<str>, std::sync::Arc<PortConfig>>;

fn fields(from: &PortConfig, from_fields: &Fields, to: &PortConfig) -> Fit {
    let PortKind::Object(to_fields) = &to.kind else { return Fit::Fits };
    let unknown = from_fields.is_empty() && flag(from, "isSchemaMutable");
    let mut lacking = Vec::new();
    let mut loose = Fit::Fits;
    for (key, field) in to_fields {
        let Some(source) = from_fields.get(key) else {
            let optional = field.raw.get("required").and_then(JsonValue::as_bool) == Some(false);
            if !optional && !unknown {
                lacking.push(key.as_ref());
            }
            continue;
        };
        match fit(source, field) {
            Fit::Never(why) => return Fit::Never(format!("in the field {key}, {why}")),
            Fit::Loose(why) => loose = Fit::Loose(format!("in the field {key}, {why}")),
            Fit::Lacks(_) | Fit::Fits => {}
        }
    }
    if lacking.is_empty() { loose } else { Fit::Lacks(super::names::listed(lacking)) }
}

/// A type's name: `array<number>`.
pub(super) fn name(config: &PortConfig) -> String {
    const DEEPEST: usize = 3;
    fn inner(config: Option<&PortConfig>, depth: usize) -> String {
        match config.map(|config| &config.kind) {
            None => "any".into(),
            Some(PortKind::String) => "string".into(),
            Some(PortKind::Number) => "number".into(),
            Some(PortKind::Boolean) => "boolean".into(),
            Some(PortKind::Enum) => "enum".into(),
            Some(PortKind::Object(_)) => "object".into(),
            Some(PortKind::Secret) => "secret".into(),
            Some(PortKind::Any(_)) => "any".into(),
            Some(PortKind::Array(_)) if depth == 0 => "array".into(),
            Some(PortKind::Stream(_)) if depth == 0 => "stream".into(),
            Some(PortKind::Array(items)) => format!("array<{}>", inner(items.as_deref(), depth - 1)),
            Some(PortKind::Stream(items)) => format!("stream<{}>", inner(items.as_deref(), depth - 1)),
        }
    }
    inner(Some(config), DEEPEST)
}

/// Names of fields, for hints.
pub(super) fn field_names(config: &PortConfig) -> Vec<&str> {
    match &config.underlying().kind {
        PortKind::Object(fields) => {
            let mut seen = HashSet::new();
            fields.keys().map(|key| &**key).filter(|key| seen.insert(*key)).collect()
        }
        _ => Vec::new(),
    }
}
