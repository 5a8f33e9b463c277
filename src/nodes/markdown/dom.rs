//! A page as a tree, built by an HTML parser that mends what browsers mend. Nodes live in one vector and are linked by
//! their places in it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use html5ever::interface::{ElemName, ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::{Attribute, LocalName, Namespace, ParseOpts, Parser, QualName, ns, parse_document};

/// Place of a node.
pub(super) type Id = usize;

const DOCUMENT: Id = 0;

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    /// The document, or what a template holds.
    Fragment,
    /// An element.
    Element(Element),
    /// A text.
    Text(String),
    /// A comment, or something else that is not shown.
    Other,
}

/// An element's name and attributes.
#[derive(Debug)]
pub(super) struct Element {
    name: QualName,
    attributes: Vec<Attribute>,
    /// What a template holds, apart from its children.
    contents: Option<Id>,
}

/// A node and its neighbours.
#[derive(Debug)]
pub(super) struct Node {
    pub kind: Kind,
    pub parent: Option<Id>,
    pub previous: Option<Id>,
    pub next: Option<Id>,
    pub first_child: Option<Id>,
    pub last_child: Option<Id>,
    /// Distance from the document when it was put into it.
    depth: usize,
}

/// All nodes of a page.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    deepest: usize,
}

impl Tree {
    /// An HTML element's name in lower case; empty for all else, elements of SVG and MathML included.
    pub fn tag(&self, node: Id) -> &str {
        match &self.nodes[node].kind {
            Kind::Element(Element { name, .. }) if name.ns == ns!(html) => &name.local,
            _ => "",
        }
    }

    /// An element's name in lower case, whatever it belongs to.
    pub fn local_name(&self, node: Id) -> &str {
        match &self.nodes[node].kind {
            Kind::Element(element) => &element.name.local,
            _ => "",
        }
    }

    /// Whether a node is an element.
    pub fn is_element(&self, node: Id) -> bool {
        matches!(self.nodes[node].kind, Kind::Element(_))
    }

    /// An attribute's value, when the element has it.
    pub fn attribute(&self, node: Id, name: &str) -> Option<&str> {
        match &self.nodes[node].kind {
            Kind::Element(element) => {
                let found = element.attributes.iter().find(|attribute| &*attribute.name.local == name);
                found.map(|attribute| &*attribute.value)
            }
            _ => None,
        }
    }

    /// A text node's text.
    pub fn text(&self, node: Id) -> Option<&str> {
        match &self.nodes[node].kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A node's children.
    pub fn children(&self, node: Id) -> impl Iterator<Item = Id> {
        std::iter::successors(self.nodes[node].first_child, |child| self.nodes[*child].next)
    }

    /// A node and all below it, in the order in which they stand in the page.
    pub fn walk(&self, from: Id) -> impl Iterator<Item = Id> {
        let mut at = Some(from);
        std::iter::from_fn(move || {
            let here = at?;
            at = self.nodes[here].first_child.or_else(|| self.after(here, from));
            Some(here)
        })
    }

    /// What follows a node and all below it, within `root`.
    pub fn after(&self, node: Id, root: Id) -> Option<Id> {
        let mut at = node;
        while at != root {
            match self.nodes[at].next {
                Some(next) => return Some(next),
                None => at = self.nodes[at].parent?,
            }
        }
        None
    }

    /// All texts below a node, joined.
    pub fn text_content(&self, node: Id) -> String {
        self.walk(node).filter_map(|node| self.text(node)).collect()
    }

    /// Take a node out of the tree. Texts that touch then become one.
    pub fn remove(&mut self, node: Id) {
        let (previous, next) = (self.nodes[node].previous, self.nodes[node].next);
        self.detach(node);
        let (Some(previous), Some(next)) = (previous, next) else { return };
        if !matches!(self.nodes[previous].kind, Kind::Text(_)) {
            return;
        }
        if let Kind::Text(text) = &mut self.nodes[next].kind {
            let text = std::mem::take(text);
            self.detach(next);
            self.push_text(previous, &text);
        }
    }

    /// Take a node out of the tree, and leave its neighbours as they are.
    pub fn detach(&mut self, node: Id) {
        let Node { parent, previous, next, .. } = self.nodes[node];
        match (previous, parent) {
            (Some(previous), _) => self.nodes[previous].next = next,
            (None, Some(parent)) => self.nodes[parent].first_child = next,
            (None, None) => {}
        }
        match (next, parent) {
            (Some(next), _) => self.nodes[next].previous = previous,
            (None, Some(parent)) => self.nodes[parent].last_child = previous,
            (None, None) => {}
        }
        let node = &mut self.nodes[node];
        (node.parent, node.previous, node.next) = (None, None, None);
    }

    fn make(&mut self, kind: Kind) -> Id {
        let node =
            Node { kind, parent: None, previous: None, next: None, first_child: None, last_child: None, depth: 0 };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn push_text(&mut self, node: Id, more: &str) {
        if let Kind::Text(text) = &mut self.nodes[node].kind {
            text.push_str(more);
        }
    }

    /// Put what the parser hands in before a child of `parent`, or at its end. A text joins the one before it.
    fn insert(&mut self, parent: Id, before: Option<Id>, new: NodeOrText<Id>) {
        let previous = match before {
            Some(before) => self.nodes[before].previous,
            None => self.nodes[parent].last_child,
        };
        let node = match new {
            NodeOrText::AppendText(text) => match previous {
                Some(previous) if matches!(self.nodes[previous].kind, Kind::Text(_)) => {
                    self.push_text(previous, &text);
                    return;
                }
                _ => self.make(Kind::Text(text.to_string())),
            },
            NodeOrText::AppendNode(node) => {
                self.detach(node);
                node
            }
        };
        // Taking the node out of its old place may have changed this one.
        let previous = match before {
            Some(before) => self.nodes[before].previous,
            None => self.nodes[parent].last_child,
        };
        match previous {
            Some(previous) => self.nodes[previous].next = Some(node),
            None => self.nodes[parent].first_child = Some(node),
        }
        match before {
            Some(before) => self.nodes[before].previous = Some(node),
            None => self.nodes[parent].last_child = Some(node),
        }
        let depth = self.nodes[parent].depth + 1;
        self.deepest = self.deepest.max(depth);
        let inserted = &mut self.nodes[node];
        (inserted.parent, inserted.previous, inserted.next, inserted.depth) = (Some(parent), previous, before, depth);
    }
}

/// A page that is being read.
pub(super) struct Reader(Parser<Sink>);

impl Reader {
    /// Nothing read yet.
    pub fn new() -> Reader {
        let mut tree = Tree::default();
        tree.make(Kind::Fragment); // the document
        let sink = Sink { tree: RefCell::new(tree), count: Cell::new(0), deepest: Cell::new(0) };
        Reader(parse_document(sink, ParseOpts::default()))
    }

    /// Read on.
    pub fn feed(&mut self, text: &str) {
        self.0.process(StrTendril::from_slice(text));
    }

    /// How many nodes there are, and how deep they nest at most.
    pub fn size(&self) -> (usize, usize) {
        let sink = &self.0.tokenizer.sink.sink;
        (sink.count.get(), sink.deepest.get())
    }

    /// The tree, and its first element with this id.
    pub fn finish(self, id: &str) -> (Tree, Option<Id>) {
        let tree = self.0.finish();
        let found = tree.walk(DOCUMENT).find(|node| tree.attribute(*node, "id") == Some(id));
        (tree, found)
    }
}

/// Where the parser puts the nodes.
struct Sink {
    tree: RefCell<Tree>,
    count: Cell<usize>,
    deepest: Cell<usize>,
}

impl Sink {
    fn change<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut tree = self.tree.borrow_mut();
        let result = change(&mut tree);
        self.count.set(tree.nodes.len());
        self.deepest.set(tree.deepest);
        result
    }
}

/// An element's name, as the parser asks for it.
#[derive(Debug)]
struct Name(QualName);

impl ElemName for Name {
    fn ns(&self) -> &Namespace {
        &self.0.ns
    }

    fn local_name(&self) -> &LocalName {
        &self.0.local
    }
}

impl TreeSink for Sink {
    type Handle = Id;
    type Output = Tree;
    type ElemName<'a> = Name;

    fn finish(self) -> Tree {
        self.tree.into_inner()
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Id {
        DOCUMENT
    }

    fn elem_name<'a>(&'a self, target: &'a Id) -> Name {
        match &self.tree.borrow().nodes[*target].kind {
            Kind::Element(element) => Name(element.name.clone()),
            _ => Name(QualName::new(None, ns!(), LocalName::from(""))), // only elements are asked for
        }
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, flags: ElementFlags) -> Id {
        self.change(|tree| {
            let contents = flags.template.then(|| tree.make(Kind::Fragment));
            tree.make(Kind::Element(Element { name, attributes, contents }))
        })
    }

    fn create_comment(&self, _: StrTendril) -> Id {
        self.change(|tree| tree.make(Kind::Other))
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Id {
        self.change(|tree| tree.make(Kind::Other))
    }

    fn append(&self, parent: &Id, child: NodeOrText<Id>) {
        self.change(|tree| tree.insert(*parent, None, child));
    }

    fn append_based_on_parent_node(&self, element: &Id, previous: &Id, child: NodeOrText<Id>) {
        let has_parent = self.tree.borrow().nodes[*element].parent.is_some();
        if has_parent {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Id) -> Id {
        match &self.tree.borrow().nodes[*target].kind {
            Kind::Element(Element { contents: Some(contents), .. }) => *contents,
            _ => *target, // only templates are asked for
        }
    }

    fn same_node(&self, x: &Id, y: &Id) -> bool {
        x == y
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Id, new: NodeOrText<Id>) {
        self.change(|tree| {
            if let Some(parent) = tree.nodes[*sibling].parent {
                tree.insert(parent, Some(*sibling), new);
            }
        });
    }

    fn add_attrs_if_missing(&self, target: &Id, attributes: Vec<Attribute>) {
        self.change(|tree| {
            if let Kind::Element(element) = &mut tree.nodes[*target].kind {
                for attribute in attributes {
                    if !element.attributes.iter().any(|known| known.name == attribute.name) {
                        element.attributes.push(attribute);
                    }
                }
            }
        });
    }

    fn remove_from_parent(&self, target: &Id) {
        self.change(|tree| tree.detach(*target));
    }

    fn reparent_children(&self, node: &Id, new_parent: &Id) {
        self.change(|tree| {
            while let Some(child) = tree.nodes[*node].first_child {
                tree.insert(*new_parent, None, NodeOrText::AppendNode(child));
            }
        });
    }
}
