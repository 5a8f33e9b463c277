//! Types of ports as a file writes them: `string`, `number[]`, `stream<string>`, or a map with `type` and more.

use serde_json::{Map, Value as Json, json};

use super::reading::Reading;
use super::tree::{Kind, Spanned, Tree};
use crate::flow::model::Json as Object;

/// The types of ports.
pub(super) const TYPES: [&str; 9] =
    ["string", "number", "boolean", "enum", "array", "object", "stream", "secret", "any"];

/// Keys that a port's configuration takes over as they are.
pub(super) const PLAIN_KEYS: [&str; 17] = [
    "name",
    "title",
    "description",
    "required",
    "order",
    "min",
    "max",
    "step",
    "integer",
    "minLength",
    "maxLength",
    "pattern",
    "isMutable",
    "isSchemaMutable",
    "isOptional",
    "metadata",
    "ui",
];

/// Keys that give a type its structure.
const STRUCTURE_KEYS: [&str; 7] = ["type", "fields", "items", "options", "secret", "of", "default"];

/// Keys of a root port.
const ROOT_KEYS: [&str; 2] = ["direction", "value"];

/// The value that a port of a type has when nobody says another one; none where that is nothing.
pub(super) fn empty(name: &str) -> Option<Json> {
    match name {
        "string" | "enum" => Some("".into()),
        "number" => Some(0.into()),
        "boolean" => Some(false.into()),
        "array" => Some(json!([])),
        "object" => Some(json!({})),
        "stream" => Some(json!({"type": "stream", "buffer": [], "isClosed": false})),
        _ => None,
    }
}

/// A root port's declaration.
pub(super) struct Declared<'t> {
    /// Configuration in the stored form; `type` is there only when the file says it.
    pub config: Object,
    pub value: Option<&'t Tree>,
    /// The fields of an object, or what stands for them, are listed: nothing is added by what is seen of them.
    pub closed: bool,
}

/// Read a root port's declaration.
pub(super) fn root<'t>(tree: &'t Tree, reading: &mut Reading) -> Declared<'t> {
    let config = config(tree, true, reading);
    let closed = ["schema", "itemConfig", "underlyingType", "options"].iter().any(|key| config.contains_key(*key));
    Declared { config, value: tree.get("value"), closed }
}

/// Read the type of a flow's input: `type`, and the `fields` of an object.
pub(super) fn input<'t>(tree: &'t Tree, reading: &mut Reading) -> Declared<'t> {
    let mut config = match tree.get("type") {
        Some(name) => config(name, false, reading),
        None => Object::from_iter([("type".to_owned(), "object".into())]),
    };
    if let Some(listed) = tree.get("fields") {
        config.insert("schema".into(), json!({"properties": fields(listed, reading)}));
    }
    let closed = config.contains_key("schema") || config.contains_key("itemConfig");
    Declared { config, value: None, closed }
}

/// A type in the stored form. Recursion is bounded: a file's depth is.
fn config(tree: &Tree, is_root: bool, reading: &mut Reading) -> Object {
    match &tree.kind {
        Kind::Text(text) => named(&Spanned { text: text.clone(), span: tree.span.clone() }, reading),
        Kind::Map(entries) => described(tree, entries, is_root, reading),
        _ => {
            reading.wrong("a type (`string`, `number[]`), or a map with `type` and more", tree);
            Object::new()
        }
    }
}

/// A type by its text.
fn named(written: &Spanned, reading: &mut Reading) -> Object {
    let text = written.text.trim();
    let inner = |text: &str, reading: &mut Reading| {
        named(&Spanned { text: text.to_owned(), span: written.span.clone() }, reading)
    };
    // Each suffix makes the type nest one level deeper; loading has a limit, and so has this recursion.
    if text.matches(['[', '<']).count() > 16 {
        reading.error("bad-type", "the type nests too deeply", &written.span);
        return Object::new();
    }
    if let Some(items) = text.strip_suffix("[]") {
        return array(inner(items, reading));
    }
    if let Some(items) = text.strip_prefix("stream<").and_then(|rest| rest.strip_suffix('>')) {
        return stream(inner(items, reading));
    }
    let mut config = Object::new();
    match text {
        "array" => return array(any()),
        "stream" => return stream(any()),
        "object" => {
            config.insert("type".into(), text.into());
        }
        "enum" | "secret" => {
            let message = format!("a type `{text}` needs more than its name");
            let hint = if text == "enum" { "{type: enum, options: [a, b]}" } else { "{type: secret, secret: openai}" };
            reading.hint("bad-type", message, &written.span, format!("write `{hint}`"));
            return Object::new();
        }
        _ if TYPES.contains(&text) => {
            config.insert("type".into(), text.into());
        }
        _ => {
            let known = TYPES.map(|name| name.to_owned());
            reading.unknown("unknown-type", &format!("`{text}` is no type"), text, known.iter(), &written.span);
        }
    }
    config
}

fn any() -> Object {
    Object::from_iter([("type".to_owned(), "any".into())])
}

fn array(items: Object) -> Object {
    Object::from_iter([("type".to_owned(), "array".into()), ("itemConfig".to_owned(), items.into())])
}

fn stream(items: Object) -> Object {
    Object::from_iter([("type".to_owned(), "stream".into()), ("itemConfig".to_owned(), items.into())])
}

fn described(tree: &Tree, entries: &[(Spanned, Tree)], is_root: bool, reading: &mut Reading) -> Object {
    let mut known: Vec<&str> = STRUCTURE_KEYS.iter().chain(&PLAIN_KEYS).copied().collect();
    if is_root {
        known.extend(ROOT_KEYS);
    }
    reading.known_keys(entries, &known, "a port");
    let mut config = Object::new();
    if let Some(name) = tree.get("type") {
        match &name.kind {
            // These say the rest by keys of their own.
            Kind::Text(text) if matches!(text.as_str(), "enum" | "secret" | "array" | "stream") => {
                config.insert("type".into(), text.as_str().into());
            }
            _ => config = self::config(name, false, reading),
        }
    } else if !is_root {
        reading.error("missing-type", "the type is missing: `type: string`", &tree.span);
    }
    if let Some(fields) = tree.get("fields") {
        config.entry("type").or_insert_with(|| "object".into());
        config.insert("schema".into(), json!({"properties": self::fields(fields, reading)}));
    }
    if let Some(items) = tree.get("items") {
        config.entry("type").or_insert_with(|| "array".into());
        config.insert("itemConfig".into(), self::config(items, false, reading).into());
    }
    if let Some(options) = tree.get("options") {
        config.entry("type").or_insert_with(|| "enum".into());
        config.insert("options".into(), self::options(options, reading).into());
    }
    if let Some(secret) = reading.text_of(tree, "secret") {
        config.entry("type").or_insert_with(|| "secret".into());
        config.insert("secretType".into(), secret.text.into());
    }
    if let Some(inner) = tree.get("of") {
        config.entry("type").or_insert_with(|| "any".into());
        config.insert("underlyingType".into(), self::config(inner, false, reading).into());
    }
    let name = config.get("type").and_then(Json::as_str).unwrap_or_default().to_owned();
    for (key, needed) in
        [("fields", "object"), ("items", "array"), ("options", "enum"), ("secret", "secret"), ("of", "any")]
    {
        let fits = name == needed || name.is_empty() || (key == "items" && name == "stream");
        if let (false, Some(part)) = (fits, tree.get(key)) {
            let message = format!("`{key}` belongs to the type {needed}, and this is {name}");
            reading.error("bad-type", message, &part.span);
        }
    }
    if matches!(name.as_str(), "array" | "stream") {
        config.entry("itemConfig").or_insert_with(|| any().into());
    }
    if name == "enum" && !config.contains_key("options") && !is_root {
        reading.hint("bad-type", "an enum needs its options", &tree.span, "add `options: [a, b]`");
    }
    for (key, value) in entries {
        if PLAIN_KEYS.contains(&key.text.as_str()) {
            config.insert(key.text.clone(), value.to_json());
        }
        if key.text == "default" {
            config.insert("defaultValue".into(), value.to_json());
        }
    }
    if let (true, Some(direction)) = (is_root, reading.text_of(tree, "direction")) {
        if ["input", "output", "passthrough"].contains(&direction.text.as_str()) {
            config.insert("direction".into(), direction.text.into());
        } else {
            let known = ["input", "output", "passthrough"].map(str::to_owned);
            let message = format!("`{}` is no direction", direction.text);
            reading.unknown("bad-direction", &message, &direction.text, known.iter(), &direction.span);
        }
    }
    config
}

fn fields(tree: &Tree, reading: &mut Reading) -> Map<String, Json> {
    let Some(entries) = tree.as_map() else {
        reading.wrong("a map of fields: `{name: string}`", tree);
        return Map::new();
    };
    let field = |(key, tree): &(Spanned, Tree), reading: &mut Reading| {
        let mut field = config(tree, false, reading);
        complete(&key.text, &mut field);
        (key.text.clone(), field.into())
    };
    entries.iter().map(|entry| field(entry, reading)).collect()
}

/// What every field's configuration has: its key, and a default by its type.
pub(super) fn complete(key: &str, field: &mut Object) {
    field.insert("key".into(), key.into());
    let name = field.get("type").and_then(Json::as_str).unwrap_or_default().to_owned();
    if name == "object" && !field.contains_key("schema") {
        field.insert("schema".into(), json!({"properties": {}}));
    }
    // `default: null` says that there is none.
    match field.get("defaultValue") {
        Some(Json::Null) => {
            field.shift_remove("defaultValue");
        }
        Some(_) => {}
        None if name == "stream" => {}
        None => {
            if let Some(empty) = empty(&name) {
                field.insert("defaultValue".into(), empty);
            }
        }
    }
}

fn options(tree: &Tree, reading: &mut Reading) -> Vec<Json> {
    let Kind::List(items) = &tree.kind else {
        reading.wrong("a list of options: `[low, high]`", tree);
        return Vec::new();
    };
    let option = |item: &Tree, reading: &mut Reading| match &item.kind {
        Kind::Text(id) => Some(json!({"id": id, "type": "string", "defaultValue": id})),
        Kind::Map(_) if item.get("id").and_then(Tree::as_text).is_some() => Some(item.to_json()),
        _ => {
            reading.wrong("an option's id, or its configuration with an `id`", item);
            None
        }
    };
    items.iter().filter_map(|item| option(item, reading)).collect()
}
