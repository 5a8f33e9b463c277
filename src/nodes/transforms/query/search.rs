//! Finding items by a query that was read.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::ControlFlow;

use tokio_util::sync::CancellationToken;

use super::QueryError;
use super::collate::collate;
use super::tree::{Bound, Limit, Query, Regexp, Relation, Term, Test};
use crate::flow::Value;
use crate::flow::number::{number_text, read_number};
use crate::flow::text::{ordered_fields, text_of};
use crate::nodes::javascript::{RegexpError, in_engine};
use crate::nodes::transforms::path::property;

/// Which items a query finds, by position, in the order that the original gives them.
pub(super) fn search(query: &Query, items: &[Value], cancel: &CancellationToken) -> Result<Vec<usize>, QueryError> {
    let everything: Vec<usize> = (0..items.len()).collect();
    Search { items, cancel }.select(query, &everything)
}

/// Whether a regular expression is one.
pub(super) fn check(regexp: &Regexp, cancel: &CancellationToken) -> Result<(), QueryError> {
    found(regexp, Vec::new(), cancel).map(|_| ())
}

struct Search<'a> {
    items: &'a [Value],
    cancel: &'a CancellationToken,
}

impl Search<'_> {
    /// Those of the items `among` that a query finds. Recursion ends with the query, whose depth its reader bounds.
    fn select(&self, query: &Query, among: &[usize]) -> Result<Vec<usize>, QueryError> {
        match query {
            Query::All => Ok(among.to_vec()),
            Query::Any(parts) => {
                let mut found = HashSet::new();
                for part in parts {
                    found.extend(self.select(part, among)?);
                }
                // The original sorts here, and sorting puts undefined last.
                let undefined = |index: &usize| matches!(self.items[*index], Value::Undefined);
                let (last, first): (Vec<_>, Vec<_>) =
                    among.iter().copied().filter(|index| found.contains(index)).partition(undefined);
                Ok([first, last].concat())
            }
            Query::Every(parts) => {
                let mut found = among.to_vec();
                for part in parts {
                    found = self.select(part, &found)?;
                }
                Ok(found)
            }
            Query::Not(part) => {
                let without: HashSet<usize> = self.select(part, among)?.into_iter().collect();
                Ok(among.iter().copied().filter(|index| !without.contains(index)).collect())
            }
            Query::Function(name) => Err(QueryError::Function(name.clone())),
            Query::Term(term) => self.term(term, among),
        }
    }

    fn term(&self, Term { field, test }: &Term, among: &[usize]) -> Result<Vec<usize>, QueryError> {
        let field = field.as_deref().unwrap_or_default();
        if let Test::Regexp(regexp) = test {
            return self.regexp(regexp, field, among);
        }
        let passes = tester(test);
        let mut found = Vec::new();
        for index in among {
            if self.cancel.is_cancelled() {
                return Err(QueryError::Stopped);
            }
            let mut failure = None;
            let stopped = Walk::new(field).values(&self.items[*index], 0, &mut |value| match passes(value) {
                Ok(false) => ControlFlow::Continue(()),
                Ok(true) => ControlFlow::Break(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            });
            match failure {
                Some(error) => return Err(error),
                None if stopped.is_break() => found.push(*index),
                None => {}
            }
        }
        Ok(found)
    }

    /// All at once: an expression with the flag `g` remembers from one value to the next.
    fn regexp(&self, regexp: &Regexp, field: &str, among: &[usize]) -> Result<Vec<usize>, QueryError> {
        let texts = |index: &usize| {
            let mut texts = Vec::new();
            let _ = Walk::new(field).values(&self.items[*index], 0, &mut |value| {
                if !value.is_nullish() {
                    texts.push(text_of(value));
                }
                ControlFlow::Continue(())
            });
            texts
        };
        let texts = among.iter().map(texts).collect();
        let hits = found(regexp, texts, self.cancel)?;
        Ok(among.iter().zip(hits).filter(|(_, hit)| *hit).map(|(index, _)| *index).collect())
    }
}

/// For each list of texts, whether the expression is found in one of them.
fn found(regexp: &Regexp, texts: Vec<Vec<String>>, cancel: &CancellationToken) -> Result<Vec<bool>, QueryError> {
    const SEARCH: &str = "(pattern, flags, lists) => { const regexp = new RegExp(pattern, flags); \
                          return lists.map(texts => texts.some(text => regexp.test(text))); }";
    let hits = in_engine(cancel, |context| {
        let search: rquickjs::Function = context.eval(SEARCH)?;
        search.call::<_, Vec<bool>>((&regexp.pattern, &regexp.flags, texts))
    });
    hits.map_err(|error| match error {
        RegexpError::Stopped => QueryError::Stopped,
        other => QueryError::Regexp(format!("/{}/{}: {other}", regexp.pattern, regexp.flags)),
    })
}

type Tester<'a> = Box<dyn Fn(&Value) -> Result<bool, QueryError> + 'a>;

fn tester(test: &Test) -> Tester<'_> {
    match test {
        Test::Holds(text) => {
            let text = text.to_lowercase();
            Box::new(move |value| Ok(text_of(value).to_lowercase().contains(&text)))
        }
        Test::Is(text) => Box::new(move |value| Ok(text_of(value) == *text)),
        Test::Fits(pattern) => {
            let pattern: Vec<u16> = pattern.encode_utf16().collect();
            Box::new(move |value| Ok(fits_value(value, &pattern)))
        }
        Test::Within(first, second) => {
            let variable = |bound: &Bound| match &bound.limit {
                Limit::Variable(name) => Some(QueryError::Variable(name.clone())),
                _ => None,
            };
            match variable(first).or_else(|| second.as_ref().and_then(variable)) {
                Some(error) => Box::new(move |_| Err(error.clone())),
                None => Box::new(move |value| {
                    Ok(within(value, first) && second.as_ref().is_none_or(|bound| within(value, bound)))
                }),
            }
        }
        Test::Regexp(_) => Box::new(|_| Ok(false)), // searched for by the engine, all values at once
    }
}

fn fits_value(value: &Value, pattern: &[u16]) -> bool {
    !value.is_nullish() && fits(&text_of(value).encode_utf16().collect::<Vec<_>>(), pattern)
}

/// Whether a whole text fits a pattern: `?` stands for one unit of UTF-16, `*` for any number, neither for line ends.
/// Goes back to the last star only: an earlier one never has to take more.
fn fits(text: &[u16], pattern: &[u16]) -> bool {
    const STAR: u16 = b'*' as u16;
    const ONE: u16 = b'?' as u16;
    let ends_line = |unit: u16| matches!(unit, 0x0a | 0x0d | 0x2028 | 0x2029);
    let (mut at, mut step) = (0, 0);
    let mut star: Option<(usize, usize)> = None; // behind the star, and where its share of the text ends
    while at < text.len() {
        match pattern.get(step) {
            Some(&STAR) => {
                star = Some((step + 1, at));
                step += 1;
            }
            Some(&ONE) if !ends_line(text[at]) => {
                at += 1;
                step += 1;
            }
            Some(&unit) if unit != ONE && unit == text[at] => {
                at += 1;
                step += 1;
            }
            _ => match star {
                Some((behind, end)) if !ends_line(text[end]) => {
                    star = Some((behind, end + 1));
                    (step, at) = (behind, end + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[step..].iter().all(|unit| *unit == STAR)
}

fn within(value: &Value, Bound { relation, limit }: &Bound) -> bool {
    let lower = matches!(relation, Relation::AtLeast | Relation::Above);
    let difference = difference(value, limit, if lower { -1.0 } else { 1.0 });
    match relation {
        Relation::AtLeast => difference >= 0.0,
        Relation::Above => difference > 0.0,
        Relation::AtMost => difference <= 0.0,
        Relation::Below => difference < 0.0,
    }
}

/// How far a value lies above a limit, in whatever measure its type has; `incomparable` where there is none.
fn difference(value: &Value, limit: &Limit, incomparable: f64) -> f64 {
    if let Value::Number(number) = value {
        return number
            - match limit {
                Limit::Number(limit) => *limit,
                Limit::Flag(flag) => f64::from(u8::from(*flag)),
                Limit::Text(text) => read_number(text).unwrap_or(f64::NAN),
                Limit::Regexp(_) | Limit::Variable(_) => f64::NAN,
            };
    }
    match (value, limit) {
        (_, Limit::Text(pattern)) if pattern.contains(['*', '?']) => {
            let pattern: Vec<u16> = pattern.encode_utf16().collect();
            if fits_value(value, &pattern) { 0.0 } else { -1.0 }
        }
        (_, Limit::Flag(flag)) => f64::from(u8::from(as_number(value) == Some(f64::from(u8::from(*flag))))),
        (Value::Bool(flag), _) => {
            let other = match limit {
                Limit::Number(number) => Some(*number),
                Limit::Text(text) => read_number(text),
                Limit::Flag(_) | Limit::Regexp(_) | Limit::Variable(_) => None,
            };
            f64::from(u8::from(other == Some(f64::from(u8::from(*flag)))))
        }
        (Value::String(text), _) => {
            let limit = match limit {
                Limit::Text(limit) => limit.clone(),
                Limit::Number(number) => number_text(*number),
                Limit::Regexp(regexp) => format!("/{}/{}", regexp.pattern, regexp.flags),
                Limit::Flag(_) | Limit::Variable(_) => String::new(), // dealt with above, and before
            };
            match collate(text, &limit) {
                Ordering::Less => -1.0,
                Ordering::Equal => 0.0,
                Ordering::Greater => 1.0,
            }
        }
        _ => incomparable,
    }
}

/// A value as JavaScript's `==` has it beside a flag; null and undefined are no number there.
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Undefined | Value::Null => None,
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => Some(*number),
        composite => read_number(&text_of(composite)),
    }
}

/// A way through an item to the values of a field.
struct Walk<'a> {
    /// Any field.
    any: bool,
    /// The field's names. Lists on the way add a step of their own, which stays for what is visited afterwards.
    names: Vec<&'a str>,
}

type Visit<'a> = dyn FnMut(&Value) -> ControlFlow<()> + 'a;

impl<'a> Walk<'a> {
    fn new(field: &'a str) -> Walk<'a> {
        Walk { any: field.is_empty(), names: field.split('.').collect() }
    }

    /// Show the values that the field leads to, `depth` steps down, until `visit` has seen enough.
    fn values(&mut self, value: &Value, depth: usize, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let name = self.names.get(depth).copied().filter(|name| !name.is_empty());
        let open_end = name.is_none() && self.names.last().is_some_and(|last| last.ends_with('*'));
        let children: Vec<(String, &Value)> = match value {
            Value::Array(items) => {
                if depth == self.names.len() && !open_end && !self.any {
                    return items.iter().try_for_each(visit);
                }
                items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
            }
            Value::Object(fields) => {
                ordered_fields(fields).into_iter().map(|(key, field)| (key.to_string(), field)).collect()
            }
            leaf => {
                let arrived = depth == self.names.len() || open_end || self.any;
                return if arrived { visit(leaf) } else { ControlFlow::Continue(()) };
            }
        };
        let items = value.as_array().unwrap_or_default();
        let within_items = name.is_some_and(|name| items.iter().any(|item| property(item, name).is_some()));
        if let Some(name) = name.filter(|name| !name.contains(['*', '?']) && !within_items)
            && let Some(inner) = property(value, name)
        {
            return self.values(&inner, depth + 1, visit);
        }
        if within_items {
            self.names.insert(depth, "*");
        }
        let pattern: Option<Vec<u16>> = name.map(|name| name.encode_utf16().collect());
        for (key, child) in children {
            let fitting = |pattern: &Vec<u16>| fits(&key.encode_utf16().collect::<Vec<_>>(), pattern);
            if self.any || pattern.as_ref().is_some_and(fitting) || open_end {
                self.values(child, depth + 1, visit)?;
            } else if within_items
                && matches!(child, Value::Array(_) | Value::Object(_))
                && let Some(inner) = name.and_then(|name| property(child, name))
            {
                self.values(&inner, depth + 2, visit)?;
            }
        }
        ControlFlow::Continue(())
    }
}
