//! Ports as paths into the values of root ports: finding them by id, reading, and setting them by the rules of
//! their types.
//!
//! Values are shared; a write copies what it changes and nothing else.

use std::sync::Arc;

use super::Value;
use super::model::{Direction, Node, NodeIndex, PortConfig, PortKind, PortRef, Step};
use super::value::{Object, in_javascript_order};

/// How many ways to read one port id are tried; keys that contain dots or brackets make it ambiguous.
const ATTEMPTS: usize = 1000;

/// The furthest element that a single write may add to a list.
const MAX_ELEMENT: usize = 100_000;

/// Find a port by its id: a root port, a field (`a.b`), an element that is stored (`a[0]`), or any mix.
pub(super) fn resolve(node: &Node, index: NodeIndex, id: &str) -> Option<PortRef> {
    if let Some(port) = node.port_index(id) {
        let config = node.ports[port].config.clone();
        return Some(PortRef { node: index, port, path: Box::default(), config });
    }
    let mut attempts = ATTEMPTS;
    // A root key ends where a dot or a bracket begins the rest.
    for (position, _) in id.match_indices(['.', '[']) {
        let Some(port) = node.port_index(&id[..position]) else { continue };
        let root = &node.ports[port];
        let mut path = Vec::new();
        if let Some(config) = descend(&root.config, Some(&root.value), &id[position..], &mut path, &mut attempts) {
            return Some(PortRef { node: index, port, path: path.into(), config });
        }
    }
    None
}

/// Follow the rest of an id. Recursion ends with the configuration's depth, which is bounded.
fn descend(
    config: &Arc<PortConfig>,
    value: Option<&Value>,
    rest: &str,
    path: &mut Vec<Step>,
    attempts: &mut usize,
) -> Option<Arc<PortConfig>> {
    if rest.is_empty() {
        return Some(config.clone());
    }
    *attempts = attempts.checked_sub(1)?;
    match &config.kind {
        PortKind::Any(Some(inner)) => descend(inner, value, rest, path, attempts),
        PortKind::Object(fields) => {
            let rest = rest.strip_prefix('.')?;
            let ends = rest.match_indices(['.', '[']).map(|(position, _)| position).chain([rest.len()]);
            for end in ends {
                let Some((key, field)) = fields.get_key_value(&rest[..end]) else { continue };
                path.push(Step::Key(key.clone()));
                let inner = value.and_then(Value::as_object).and_then(|object| object.get(key));
                if let Some(found) = descend(field, inner, &rest[end..], path, attempts) {
                    return Some(found);
                }
                path.pop();
            }
            None
        }
        PortKind::Array(items) => {
            let (index, rest) = rest.strip_prefix('[')?.split_once(']')?;
            let index: usize = index.parse().ok()?;
            let element = value.and_then(Value::as_array)?.get(index)?;
            path.push(Step::Index(index));
            match items {
                Some(items) => descend(items, Some(element), rest, path, attempts),
                None if rest.is_empty() => Some(Arc::new(anything())),
                None => None,
            }
        }
        _ => None,
    }
}

fn anything() -> PortConfig {
    PortConfig {
        id: Arc::from(""),
        key: Arc::from(""),
        kind: PortKind::Any(None),
        direction: Direction::Passthrough,
        required: false,
        default: None,
        raw: Arc::default(),
    }
}

/// The value that a path leads to; undefined when there is none.
pub(super) fn read(root: &Value, path: &[Step]) -> Value {
    let mut value = root;
    for step in path {
        match value.below(step) {
            Some(next) => value = next,
            None => return Value::Undefined,
        }
    }
    value.clone()
}

/// Whether nobody else holds the value at a path, or anything around it.
pub(super) fn is_alone(root: &Value, path: &[Step]) -> bool {
    let alone = |value: &Value| match value {
        Value::Array(items) => Arc::strong_count(items) == 1,
        Value::Object(fields) => Arc::strong_count(fields) == 1,
        _ => true,
    };
    let mut value = root;
    for step in path {
        match value.below(step) {
            Some(next) if alone(value) => value = next,
            Some(_) => return false,
            None => return true,
        }
    }
    alone(value)
}

impl Value {
    fn below(&self, step: &Step) -> Option<&Value> {
        match (step, self) {
            (Step::Key(key), Value::Object(fields)) => fields.get(key),
            (Step::Index(index), Value::Array(items)) => items.get(*index),
            _ => None,
        }
    }
}

/// What becomes of falsy fields (0, false, "", null, missing) where the fields of an object are rebuilt by its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Falsy {
    /// The schema's default takes their place; without one they go away. Stored flows rely on it.
    #[default]
    Filled,
    /// They stay. A flow asks for it by `keepFalsyFields: true` in its metadata.
    Kept,
}

/// What was put on ports below something absent: they keep it to themselves, since no parent takes it.
#[derive(Clone, Debug, Default)]
pub struct Orphans(Vec<(usize, Box<[Step]>, Value)>);

impl Orphans {
    /// What a port shows, whose root port holds `root`: the value at its path; below something absent, what was put on
    /// it, or else its default.
    pub(super) fn value_of(&self, root: &Value, port: &PortRef) -> Value {
        let Some((last, ancestors)) = port.path.split_last() else { return root.clone() };
        match (last, read(root, ancestors)) {
            (Step::Key(key), Value::Object(fields)) => fields.get(key).cloned().unwrap_or_default(),
            (Step::Index(index), Value::Array(items)) => items.get(*index).cloned().unwrap_or_default(),
            _ => match self.0.iter().find(|(root, path, _)| *root == port.port && *path == port.path) {
                Some((_, _, value)) => value.clone(),
                None => port.config.default.as_ref().map(Value::from).unwrap_or_default(),
            },
        }
    }

    /// Set what a port shows.
    pub(super) fn set(&mut self, root: &mut Value, port: &PortRef, new: Value, falsy: Falsy) {
        if write(root, &port.path, &port.config, new.clone(), falsy) {
            return;
        }
        self.0.retain(|(root, path, _)| *root != port.port || *path != port.path);
        self.0.push((port.port, port.path.clone(), new));
    }
}

/// Set what a path leads to, as the type of the port there has it. Below something absent nothing is written, and false
/// comes back.
pub(super) fn write(root: &mut Value, path: &[Step], config: &PortConfig, new: Value, falsy: Falsy) -> bool {
    let Some((last, ancestors)) = path.split_last() else {
        let old = std::mem::take(root);
        *root = assigned(&old, new, config, falsy);
        return true;
    };
    let mut value = root;
    for step in ancestors {
        let next = match (step, value) {
            (Step::Key(key), Value::Object(fields)) => Arc::make_mut(fields).get_mut(key),
            (Step::Index(index), Value::Array(items)) => Arc::make_mut(items).get_mut(*index),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => return false,
        }
    }
    match (last, value) {
        (Step::Key(key), Value::Object(fields)) => {
            let fields = Arc::make_mut(fields);
            let old = fields.get(key).cloned().unwrap_or_default();
            fields.insert(key.clone(), assigned(&old, new, config, falsy));
            true
        }
        (Step::Index(index), Value::Array(items)) => {
            if *index > MAX_ELEMENT {
                return true;
            }
            let items = Arc::make_mut(items);
            if items.len() <= *index {
                items.resize(*index + 1, Value::Undefined);
            }
            items[*index] = assigned(&items[*index], new, config, falsy);
            true
        }
        _ => false,
    }
}

/// As [`write()`], for a value from outside: absent objects on the way are made.
pub(super) fn put(root: &mut Value, path: &[Step], config: &PortConfig, new: Value, falsy: Falsy) {
    for depth in 0..path.len() {
        if matches!(path[depth], Step::Key(_)) && read(root, &path[..depth]).is_nullish() {
            write(root, &path[..depth], &anything(), Value::empty_object(), falsy);
        }
    }
    write(root, path, config, new, falsy);
}

/// What a port holds after `new` was put on it: objects take over keys, any ports fill falsy fields, others replace.
fn assigned(old: &Value, new: Value, config: &PortConfig, falsy: Falsy) -> Value {
    match &config.kind {
        PortKind::Object(_) => merged(old, new),
        PortKind::Any(Some(_)) => filled(new, config.underlying(), falsy),
        _ => new,
    }
}

/// What an object port holds after an object was put on it: the new one's keys and values, where known keys keep
/// their places. Undefined fields stay away.
pub fn merged(old: &Value, new: Value) -> Value {
    let (Value::Object(old), Value::Object(fields)) = (old, &new) else { return new };
    if Arc::ptr_eq(old, fields) {
        return new;
    }
    let same_order = old.len() <= fields.len() && old.keys().zip(fields.keys()).all(|(a, b)| a == b);
    if same_order && !fields.values().any(|value| matches!(value, Value::Undefined | Value::Object(_))) {
        return new; // nothing to rearrange: share it
    }
    let mut merged = Object::with_capacity(fields.len());
    for (key, before) in old.iter() {
        if let Some(value) = fields.get(key).filter(|value| !matches!(value, Value::Undefined)) {
            merged.insert(key.clone(), self::merged(before, value.clone()));
        }
    }
    for (key, value) in fields.iter() {
        if !merged.contains_key(key) && !matches!(value, Value::Undefined) {
            merged.insert(key.clone(), value.clone());
        }
    }
    Value::from(in_javascript_order(merged))
}

/// A value as an any port shows it, whose underlying type is given. Only objects have children there to be rebuilt.
pub fn filled(value: Value, underlying: &PortConfig, falsy: Falsy) -> Value {
    if falsy == Falsy::Filled && matches!(underlying.kind, PortKind::Object(_)) {
        rebuilt(value, underlying)
    } else {
        value
    }
}

/// A value as a port shows it once its children are rebuilt: each field that an object's schema names and whose value
/// is falsy has the schema's default instead, or goes away when there is none. So it is for the objects within, those
/// in lists included. Stored flows rely on it. Recursion ends with the configuration, whose depth is bounded.
fn rebuilt(value: Value, config: &PortConfig) -> Value {
    let (schema, fields) = match (&config.kind, &value) {
        (PortKind::Object(schema), Value::Object(fields)) => (schema, fields),
        (PortKind::Array(Some(items)), Value::Array(list)) => return rebuilt_items(&value, list, items.underlying()),
        _ => return value,
    };
    let mut changes: Vec<(&Arc<str>, Value)> = Vec::new();
    for (key, field) in schema {
        let before = fields.get(key).cloned().unwrap_or_default();
        let after = if before.is_truthy() {
            before.clone()
        } else {
            field.default.as_ref().map_or(Value::Undefined, Value::from)
        };
        let after = rebuilt(after, field.underlying());
        if !before.is(&after) {
            changes.push((key, after));
        }
    }
    if changes.is_empty() {
        return value;
    }
    let mut object = Object::clone(fields);
    for (key, after) in changes {
        match after {
            Value::Undefined => {
                object.shift_remove(key);
            }
            after => {
                object.insert(key.clone(), after);
            }
        }
    }
    Value::from(in_javascript_order(object))
}

/// The same list where no item changes.
fn rebuilt_items(value: &Value, list: &[Value], items: &PortConfig) -> Value {
    if !matches!(items.kind, PortKind::Object(_) | PortKind::Array(_)) {
        return value.clone();
    }
    let after: Vec<Value> = list.iter().map(|item| rebuilt(item.clone(), items)).collect();
    let same = list.iter().zip(&after).all(|(before, after)| before.is(after));
    if same { value.clone() } else { Value::from(after) }
}

/// What a root port holds after its own node set it: as by an edge, but an any port is left as it is, and a list has
/// new children, so that objects in it are filled.
pub(super) fn set_by_node(old: &Value, new: Value, config: &PortConfig, falsy: Falsy) -> Value {
    match &config.kind {
        PortKind::Object(_) => merged(old, new),
        PortKind::Array(_) if falsy == Falsy::Filled => rebuilt(new, config),
        _ => new,
    }
}

/// Put a list in the place of another one wherever a value holds that very one. Lists are shared by all who hold them,
/// so a change of one is a change for all.
pub(super) fn replace_list(value: &mut Value, old: &Arc<Vec<Value>>, new: &Value) {
    if !holds_list(value, old) {
        return;
    }
    match value {
        Value::Array(items) if Arc::ptr_eq(items, old) => *value = new.clone(),
        Value::Array(items) => Arc::make_mut(items).iter_mut().for_each(|item| replace_list(item, old, new)),
        Value::Object(fields) => Arc::make_mut(fields).values_mut().for_each(|field| replace_list(field, old, new)),
        _ => {}
    }
}

fn holds_list(value: &Value, list: &Arc<Vec<Value>>) -> bool {
    match value {
        Value::Array(items) => Arc::ptr_eq(items, list) || items.iter().any(|item| holds_list(item, list)),
        Value::Object(fields) => fields.values().any(|field| holds_list(field, list)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object_config(properties: &[(&str, PortKind, Option<serde_json::Value>)]) -> PortConfig {
        let fields = properties.iter().map(|(key, kind, default)| {
            let config = PortConfig { kind: kind.clone(), default: default.clone(), ..anything() };
            (Arc::from(*key), Arc::new(config))
        });
        PortConfig { kind: PortKind::Object(fields.collect()), ..anything() }
    }

    #[test]
    fn objects_take_over_keys_and_keep_the_places_of_known_ones() {
        let old = Value::from(&json!({"b": {"y": 1, "x": 2}, "a": 1, "gone": 3}));
        let new = Value::from(&json!({"new": 4, "a": null, "b": {"x": 5, "z": 6}}));
        assert_eq!(merged(&old, new).to_json().to_string(), r#"{"b":{"x":5,"z":6},"a":null,"new":4}"#);
        assert_eq!(merged(&old, Value::Null).to_json(), json!(null));
    }

    #[test]
    fn falsy_fields_of_any_ports_fall_back_to_the_schema() {
        let inner = object_config(&[("deep", PortKind::Number, Some(json!(7)))]);
        let config = object_config(&[
            ("zero", PortKind::Number, Some(json!(5))),
            ("empty", PortKind::String, None),
            ("kept", PortKind::Boolean, Some(json!(false))),
            ("missing", PortKind::String, Some(json!("d"))),
            ("inner", inner.kind, None),
        ]);
        let value = Value::from(&json!({"zero": 0, "empty": "", "kept": true, "beyond": 0, "inner": {"deep": 0}}));
        let expected = json!({"zero": 5, "kept": true, "beyond": 0, "inner": {"deep": 7}, "missing": "d"});
        assert_eq!(filled(value, &config, Falsy::Filled).to_json(), expected);
    }

    #[test]
    fn lists_of_nodes_have_their_items_filled_at_any_depth() {
        let row = object_config(&[("n", PortKind::Number, None), ("t", PortKind::String, Some(json!("d")))]);
        let rows = |items| PortConfig { kind: PortKind::Array(Some(Arc::new(items))), ..anything() };
        let table = rows(rows(row.clone()));
        let value = || Value::from(&json!([[{"n": 0, "t": "", "x": 0}, 0, {"n": 1, "t": "u"}], 5]));
        let expected = json!([[{"t": "d", "x": 0}, 0, {"n": 1, "t": "u"}], 5]);
        assert_eq!(set_by_node(&Value::Null, value(), &table, Falsy::Filled).to_json(), expected);
        // By an edge nothing is rebuilt, nor in an any port that stands for a list.
        assert_eq!(assigned(&Value::Null, value(), &table, Falsy::Filled).to_json(), value().to_json());
        assert_eq!(filled(value(), &table, Falsy::Filled).to_json(), value().to_json());
        let object = object_config(&[("rows", rows(row).kind, None)]);
        let value = Value::from(&json!({"rows": [{"n": 0, "t": "u"}]}));
        assert_eq!(filled(value, &object, Falsy::Filled).to_json(), json!({"rows": [{"t": "u"}]}));
    }

    #[test]
    fn ports_below_something_absent_keep_their_value_to_themselves() {
        let config = PortConfig { default: Some(json!("d")), ..anything() };
        let path = [Step::Key("a".into()), Step::Key("b".into())];
        let port = PortRef { node: 0, port: 1, path: path.into(), config: Arc::new(config) };
        let mut orphans = Orphans::default();
        let mut root = Value::from(&json!({"a": null}));
        assert_eq!(orphans.value_of(&root, &port).to_json(), json!("d"));
        orphans.set(&mut root, &port, "x".into(), Falsy::Filled);
        orphans.set(&mut root, &port, "y".into(), Falsy::Filled);
        assert_eq!((root.to_json(), orphans.value_of(&root, &port).to_json()), (json!({"a": null}), json!("y")));
        let present = Value::from(&json!({"a": {}}));
        assert!(matches!(orphans.value_of(&present, &port), Value::Undefined));
    }

    #[test]
    fn a_shared_list_is_replaced_wherever_it_is_held() {
        let list = Arc::new(vec![Value::from(1.0)]);
        let shared = Value::Array(list.clone());
        let mut holder =
            Value::from(vec![Value::from(Object::from_iter([("a".into(), shared)])), Value::from(vec![1.0.into()])]);
        replace_list(&mut holder, &list, &Value::from(2.0));
        assert_eq!(holder.to_json(), json!([{"a": 2}, [1]])); // the second one only looks the same
    }

    #[test]
    fn writes_copy_what_is_shared_and_stop_at_absent_parents() {
        let mut root = Value::from(&json!({"list": [{"x": 1}]}));
        let shared = root.clone();
        let path = [Step::Key("list".into()), Step::Index(0), Step::Key("x".into())];
        write(&mut root, &path, &anything(), Value::from(2.0), Falsy::Filled);
        assert_eq!(root.to_json(), json!({"list": [{"x": 2}]}));
        assert_eq!(shared.to_json(), json!({"list": [{"x": 1}]}));

        let mut nothing = Value::Null;
        write(&mut nothing, &path, &anything(), Value::from(2.0), Falsy::Filled);
        assert_eq!(nothing.to_json(), json!(null));
        let keys = [Step::Key("a".into()), Step::Key("b".into())];
        put(&mut nothing, &keys, &anything(), Value::from(2.0), Falsy::Filled);
        assert_eq!(nothing.to_json(), json!({"a": {"b": 2}}));

        let mut list = Value::from(&json!([1]));
        write(&mut list, &[Step::Index(2)], &anything(), Value::from(3.0), Falsy::Filled);
        assert_eq!(list.to_json(), json!([1, null, 3]));
        write(&mut list, &[Step::Index(usize::MAX)], &anything(), Value::from(3.0), Falsy::Filled);
        assert_eq!(list.to_json(), json!([1, null, 3]));
    }
}
