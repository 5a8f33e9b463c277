//! A query once it is read.

use std::rc::Rc;

/// A query, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Query {
    /// Finds everything.
    All,
    /// Finds what one of the parts finds.
    Any(Vec<Rc<Query>>),
    /// Finds what all parts find.
    Every(Vec<Rc<Query>>),
    /// Finds what the part doesn't.
    Not(Rc<Query>),
    /// Finds items with a value that passes a test.
    Term(Term),
    /// A call of a function of this name; there are none.
    Function(String),
}

/// A test of the values in a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    /// The field, dotted; `None` for any.
    pub field: Option<String>,
    pub test: Test,
}

/// A test of one value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// The value's text holds this one, upper and lower case alike.
    Holds(String),
    /// The value's text is this one.
    Is(String),
    /// The whole text fits a pattern with `*` and `?`.
    Fits(String),
    /// A regular expression is found in the text.
    Regexp(Regexp),
    /// The value lies within bounds. The second one may be absent.
    Within(Bound, Option<Bound>),
}

/// A regular expression in JavaScript's terms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Regexp {
    pub pattern: String,
    pub flags: String,
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub relation: Relation,
    pub limit: Limit,
}

/// How a value must stand to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    AtLeast,
    Above,
    AtMost,
    Below,
}

/// What a bound compares with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Limit {
    Number(f64),
    Flag(bool),
    Text(String),
    Regexp(Regexp),
    /// A variable, which has no value.
    Variable(String),
}

impl Query {
    /// The query with a field for the terms that have none.
    pub fn in_field(&self, field: &str) -> Rc<Query> {
        let parts = |parts: &[Rc<Query>]| parts.iter().map(|part| part.in_field(field)).collect();
        Rc::new(match self {
            Query::Any(of) => Query::Any(parts(of)),
            Query::Every(of) => Query::Every(parts(of)),
            Query::Not(part) => Query::Not(part.in_field(field)),
            Query::Term(Term { field: None, test }) => {
                Query::Term(Term { field: Some(field.to_owned()), test: test.clone() })
            }
            other => other.clone(),
        })
    }
}
