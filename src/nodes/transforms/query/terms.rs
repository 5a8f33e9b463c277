//! Terms of a query: values, with a field or without one, and ranges of them.

use super::lexis::Read;
use super::parse::{Parsed, Parser, Rule, term};
use super::tree::{Bound, Limit, Query, Relation, Test};
use crate::flow::number::number_text;
use std::rc::Rc;

impl Parser {
    pub(super) fn term(&mut self, at: usize) -> Parsed {
        self.remembered(Rule::Term, at, |parser, at| {
            if let Some(found) = parser.field_term(at) {
                return Some(found);
            }
            if let Some((test, end)) = parser.range(at) {
                return Some((term(None, test), end));
            }
            if let Some((test, end)) = parser.value(at) {
                return Some((term(None, test), end));
            }
            parser.in_parentheses(at, Parser::term)
        })
    }

    pub(super) fn field_term(&mut self, at: usize) -> Parsed {
        self.remembered(Rule::FieldTerm, at, |parser, at| {
            if let Some((_, end)) = parser.exists(at) {
                return Some((Rc::new(Query::All), end)); // known to the language, and tested by nobody
            }
            let (field, start) = parser.source.field(at)?;
            let found = |(test, end)| Some((term(Some(field.clone()), test), end));
            if let Some((name, end)) = parser.variable(start) {
                return found((Test::Holds(name), end));
            }
            if let Some(read) = parser.range(start) {
                return found(read);
            }
            if let Some(read) = parser.regexp(start).or_else(|| parser.quoted(start)) {
                return found(read);
            }
            if let Some((name, end)) = parser.function(start) {
                return Some((Rc::new(Query::Function(name)), end));
            }
            if let Some((group, end)) = parser.group(start) {
                return Some((group.in_field(&field), end));
            }
            let read = parser.text_in_parentheses(start).or_else(|| parser.wildcard(start));
            read.or_else(|| parser.plain(start)).and_then(found)
        })
    }

    pub(super) fn exists(&self, at: usize) -> Read<String> {
        let end = self.source.literal(at, "_exists_")?;
        let colon = self.source.literal(self.source.spaces(end), ":")?;
        self.source.field_name(self.source.spaces(colon))
    }

    pub(super) fn value(&mut self, at: usize) -> Read<Test> {
        if let Some((name, end)) = self.variable(at) {
            return Some((Test::Holds(name), end));
        }
        let marked = self.regexp(at).or_else(|| self.quoted(at));
        marked.or_else(|| self.text_in_parentheses(at)).or_else(|| self.wildcard(at)).or_else(|| self.plain(at))
    }

    pub(super) fn regexp(&mut self, at: usize) -> Read<Test> {
        let (regexp, end) = self.source.regexp(at)?;
        self.regexps.insert(regexp.clone());
        Some((Test::Regexp(regexp), end))
    }

    pub(super) fn quoted(&self, at: usize) -> Read<Test> {
        let (text, end) = self.source.quoted(at)?;
        Some((Test::Is(text), end))
    }

    pub(super) fn text_in_parentheses(&self, at: usize) -> Read<Test> {
        let start = self.source.spaces(self.source.literal(at, "(")?);
        let loose = || self.source.loose_text(start).map(|(text, end)| (Test::Holds(text), end));
        let (test, end) = self.quoted(start).or_else(loose)?;
        Some((test, self.source.literal(self.source.spaces(end), ")")?))
    }

    pub(super) fn wildcard(&self, at: usize) -> Read<Test> {
        let (pattern, end) = self.source.wildcard(at)?;
        Some((Test::Fits(pattern), end))
    }

    /// A flag, a number or a word: each finds texts that hold it.
    pub(super) fn plain(&self, at: usize) -> Read<Test> {
        let flag = self.source.flag(at).map(|(flag, end)| (flag.to_string(), end));
        let number = || self.source.number(at).map(|(number, end)| (number_text(number), end));
        let (text, end) = flag.or_else(number).or_else(|| self.source.word_of_term(at))?;
        Some((Test::Holds(text), end))
    }

    pub(super) fn range(&mut self, at: usize) -> Read<Test> {
        if let Some((lower, end)) = self.lower_bound(at)
            && let Some(word) = self.source.some_spaces(end)
            && let Some(end) = self.source.literal(word, "TO").and_then(|end| self.source.some_spaces(end))
            && let Some((upper, end)) = self.upper_bound(end)
        {
            return Some((Test::Within(lower, Some(upper)), end));
        }
        let signs =
            [(">=", Relation::AtLeast), (">", Relation::Above), ("<=", Relation::AtMost), ("<", Relation::Below)];
        let (relation, start) =
            signs.iter().find_map(|(sign, relation)| Some((*relation, self.source.literal(at, sign)?)))?;
        let (limit, end) = self.compared(start)?;
        Some((Test::Within(Bound { relation, limit }, None), end))
    }

    pub(super) fn lower_bound(&mut self, at: usize) -> Read<Bound> {
        let (relation, start) = match self.source.char(at)? {
            '[' => (Relation::AtLeast, at + 1),
            '{' => (Relation::Above, at + 1),
            _ => return None,
        };
        let (limit, end) = self.limit(self.source.spaces(start), f64::NEG_INFINITY)?;
        Some((Bound { relation, limit }, end))
    }

    pub(super) fn upper_bound(&mut self, at: usize) -> Read<Bound> {
        let (limit, end) = self.limit(self.source.spaces(at), f64::INFINITY)?;
        let relation = match self.source.char(end)? {
            ']' => Relation::AtMost,
            '}' => Relation::Below,
            _ => return None,
        };
        Some((Bound { relation, limit }, end + 1))
    }

    /// One side of a range with `TO`; `*` is no limit.
    pub(super) fn limit(&mut self, at: usize, open: f64) -> Read<Limit> {
        if let Some(end) = self.source.literal(at, "*") {
            return Some((Limit::Number(open), end));
        }
        if let Some((number, end)) = self.source.number(at) {
            return Some((Limit::Number(number), end));
        }
        if let Some((name, end)) = self.variable(at) {
            return Some((Limit::Variable(name), end));
        }
        let (text, end) = self.source.quoted(at).or_else(|| self.source.word_of_term(at))?;
        Some((Limit::Text(text), end))
    }

    /// What stands behind a sign of comparison.
    pub(super) fn compared(&mut self, at: usize) -> Read<Limit> {
        if let Some((name, end)) = self.variable(at) {
            return Some((Limit::Variable(name), end));
        }
        let marked = self.regexp(at).or_else(|| self.quoted(at)).or_else(|| self.text_in_parentheses(at));
        if let Some((test, end)) = marked.or_else(|| self.wildcard(at)) {
            let limit = match test {
                Test::Regexp(regexp) => Limit::Regexp(regexp),
                Test::Holds(text) | Test::Is(text) | Test::Fits(text) => Limit::Text(text),
                Test::Within(..) => return None, // none of the above reads a range
            };
            return Some((limit, end));
        }
        if let Some((flag, end)) = self.source.flag(at) {
            return Some((Limit::Flag(flag), end));
        }
        if let Some((number, end)) = self.source.number(at) {
            return Some((Limit::Number(number), end));
        }
        let (text, end) = self.source.word_of_term(at)?;
        Some((Limit::Text(text), end))
    }
}
