//! What is seen of a port's value: what the file gives, and the fields and elements that edges enter or leave.

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::tree::{Kind, Span, Tree};

/// Position of an edge.
pub(super) type LinkIndex = usize;

/// The furthest element that an edge may add to a list that the file doesn't give.
const MAX_ELEMENT: usize = 255;

/// A value, or a part of one.
#[derive(Default)]
pub(super) struct Shape {
    pub kind: ShapeKind,
    /// Edges that bring it.
    pub from: Vec<LinkIndex>,
    /// Edges that take it.
    pub to: Vec<LinkIndex>,
    /// Whether the file gives it, if only by naming an edge.
    pub given: bool,
    pub span: Option<Span>,
}

#[derive(Default)]
pub(super) enum ShapeKind {
    #[default]
    Unknown,
    Leaf(Json),
    Object(IndexMap<String, Shape>),
    List(Vec<Shape>),
}

impl Shape {
    /// A value in which `$` means nothing. Recursion is bounded: a file's depth is.
    pub fn verbatim(tree: &Tree) -> Shape {
        let kind = match &tree.kind {
            Kind::Map(entries) => {
                let fields = entries.iter().map(|(key, value)| (key.text.clone(), Shape::verbatim(value)));
                ShapeKind::Object(fields.collect())
            }
            Kind::List(items) => ShapeKind::List(items.iter().map(Shape::verbatim).collect()),
            _ => ShapeKind::Leaf(tree.to_json()),
        };
        Shape { kind, given: true, span: Some(tree.span.clone()), ..Shape::default() }
    }

    /// The part at a path such as `.user.tags[0]`, made where nothing is known yet. None: the path doesn't fit.
    pub fn at_path(&mut self, path: &str) -> Option<&mut Shape> {
        let mut shape = self;
        let mut rest = path;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('.') {
                if matches!(shape.kind, ShapeKind::Unknown) {
                    shape.kind = ShapeKind::Object(IndexMap::new());
                }
                let ShapeKind::Object(fields) = &mut shape.kind else { return None };
                let end = key_end(inner, |key| fields.contains_key(key));
                if end == 0 {
                    return None;
                }
                shape = fields.entry(inner[..end].to_owned()).or_default();
                rest = &inner[end..];
            } else {
                let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
                let index: usize = index.parse().ok()?;
                if matches!(shape.kind, ShapeKind::Unknown) {
                    shape.kind = ShapeKind::List(Vec::new());
                }
                let ShapeKind::List(items) = &mut shape.kind else { return None };
                if index >= items.len() {
                    if index > MAX_ELEMENT {
                        return None;
                    }
                    items.resize_with(index + 1, Shape::default);
                }
                shape = &mut items[index];
                rest = after;
            }
        }
        Some(shape)
    }

    /// Whether edges enter or leave below.
    pub fn has_links_below(&self) -> bool {
        let linked = |shape: &Shape| !shape.from.is_empty() || !shape.to.is_empty() || shape.has_links_below();
        match &self.kind {
            ShapeKind::Object(fields) => fields.values().any(linked),
            ShapeKind::List(items) => items.iter().any(linked),
            _ => false,
        }
    }

    /// Whether the file gives a value, or a part of one, and not only edges.
    pub fn has_value(&self) -> bool {
        match &self.kind {
            ShapeKind::Unknown => false,
            ShapeKind::Leaf(_) => true,
            ShapeKind::Object(fields) => self.given || fields.values().any(|field| field.given),
            ShapeKind::List(_) => true,
        }
    }
}

/// Where the key at a path's start ends: known keys may contain dots and brackets themselves, the longest counts.
pub(super) fn key_end(path: &str, known: impl Fn(&str) -> bool) -> usize {
    const ATTEMPTS: usize = 64;
    let first = path.find(['.', '[']).unwrap_or(path.len());
    let ends: Vec<usize> =
        path.match_indices(['.', '[']).map(|(at, _)| at).take(ATTEMPTS).chain([path.len()]).collect();
    ends.into_iter().rev().find(|end| *end > 0 && known(&path[..*end])).unwrap_or(first)
}
