//! Reading a query. The language is one of ordered choices: the first way to read a part wins, whatever follows.
//! What was read at a position is remembered, so that trying another way costs nothing twice.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::QueryError;
use super::lexis::{Read, Source};
use super::search;
use super::tree::{Query, Regexp, Term, Test};

/// The longest query that is read, in characters.
pub(super) const MAX_LENGTH: usize = 65_536;
/// How deep rules may call each other; some three of them for each parenthesis.
const MAX_DEPTH: usize = 300;

/// Read a query.
pub(super) fn parse(text: &str, cancel: &CancellationToken) -> Result<Rc<Query>, QueryError> {
    let source = Source::new(text);
    if source.len() > MAX_LENGTH {
        return Err(QueryError::Long(source.len()));
    }
    let mut parser =
        Parser { source, memory: HashMap::new(), regexps: HashSet::new(), depth: 0, furthest: 0, error: None };
    let query = parser.query();
    if let Some(error) = parser.error {
        return Err(error);
    }
    let query = query.ok_or_else(|| {
        let rest = parser.source.word(parser.furthest);
        if rest.is_empty() { QueryError::End } else { QueryError::Syntax(rest) }
    })?;
    // Also those that only looked like one: the original makes an expression of each.
    for regexp in &parser.regexps {
        search::check(regexp, cancel)?;
    }
    Ok(query)
}

/// Rules whose outcome is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    Negation,
    Group,
    Logic,
    Term,
    FieldTerm,
}

pub(super) type Parsed = Read<Rc<Query>>;

pub(super) struct Parser {
    pub source: Source,
    memory: HashMap<(Rule, usize), Parsed>,
    /// Everything that was read as a regular expression.
    pub regexps: HashSet<Regexp>,
    pub depth: usize,
    /// The last position where a part was looked for.
    furthest: usize,
    /// Ends the whole, whatever else might be tried.
    pub error: Option<QueryError>,
}

pub(super) fn term(field: Option<String>, test: Test) -> Rc<Query> {
    Rc::new(Query::Term(Term { field, test }))
}

impl Parser {
    pub(super) fn query(&mut self) -> Option<Rc<Query>> {
        let start = self.source.spaces(0);
        let ways: [fn(&mut Parser, usize) -> Parsed; 5] =
            [Parser::negation, Parser::logic, Parser::term, Parser::text_term, Parser::group];
        for way in ways {
            if let Some((query, end)) = way(self, start)
                && self.source.ends(self.source.spaces(end))
            {
                return Some(query);
            }
        }
        self.source.ends(start).then(|| Rc::new(Query::All))
    }

    pub(super) fn remembered(&mut self, rule: Rule, at: usize, read: fn(&mut Parser, usize) -> Parsed) -> Parsed {
        if self.error.is_some() {
            return None;
        }
        if let Some(known) = self.memory.get(&(rule, at)) {
            return known.clone();
        }
        self.furthest = self.furthest.max(at);
        if !self.deeper() {
            return None;
        }
        let parsed = read(self, at);
        self.depth -= 1;
        self.memory.insert((rule, at), parsed.clone());
        parsed
    }

    pub(super) fn deeper(&mut self) -> bool {
        if self.depth == MAX_DEPTH {
            self.error.get_or_insert(QueryError::Deep);
            return false;
        }
        self.depth += 1;
        true
    }

    pub(super) fn text_term(&mut self, at: usize) -> Parsed {
        let (text, end) = self.source.loose_text(at)?;
        Some((term(None, Test::Holds(text)), end))
    }

    /// What `read` finds between parentheses.
    pub(super) fn in_parentheses(&mut self, at: usize, read: fn(&mut Parser, usize) -> Parsed) -> Parsed {
        let start = self.source.literal(at, "(")?;
        let (query, end) = read(self, self.source.spaces(start))?;
        Some((query, self.source.literal(self.source.spaces(end), ")")?))
    }

    pub(super) fn negation(&mut self, at: usize) -> Parsed {
        self.remembered(Rule::Negation, at, |parser, at| {
            let word = parser.source.literal(at, "NOT").and_then(|end| parser.source.some_spaces(end));
            let sign = || parser.source.literal(at, "!").map(|end| parser.source.spaces(end));
            if let Some(start) = word.or_else(sign)
                && let Some((query, end)) = parser.group(start).or_else(|| parser.term(start))
            {
                return Some((Rc::new(Query::Not(query)), end));
            }
            parser.in_parentheses(at, Parser::negation)
        })
    }

    pub(super) fn group(&mut self, at: usize) -> Parsed {
        self.remembered(Rule::Group, at, |parser, at| {
            let nested = parser.in_parentheses(at, Parser::group);
            nested.or_else(|| parser.in_parentheses(at, Parser::logic))
        })
    }

    /// At least two parts with words between them.
    pub(super) fn logic(&mut self, at: usize) -> Parsed {
        self.remembered(Rule::Logic, at, |parser, at| {
            if ["AND", "&&", "OR", "||"].iter().any(|word| parser.source.literal(at, word).is_some()) {
                return None;
            }
            let (mut parts, mut end) = (Vec::new(), at);
            while let Some((more, after)) = parser.every_parts(end).or_else(|| parser.any_parts(end)) {
                parts.extend(more);
                end = after;
            }
            (!parts.is_empty()).then(|| (Rc::new(Query::Any(parts)), end))
        })
    }

    pub(super) fn part(&mut self, at: usize) -> Parsed {
        if let Some(found) = self.negation(at).or_else(|| self.group(at)) {
            return Some(found);
        }
        match self.variable(at) {
            Some((name, end)) => Some((term(None, Test::Holds(name)), end)),
            None => self.term(at),
        }
    }

    pub(super) fn variable(&mut self, at: usize) -> Read<String> {
        match self.source.variable(at)? {
            (Ok(name), end) => Some((name, end)),
            (Err(name), _) => {
                self.error.get_or_insert(QueryError::VariableName(name));
                None
            }
        }
    }

    /// `a AND b AND c`, as often as it comes: one part that all of them make.
    pub(super) fn every_parts(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
        let (mut parts, mut end) = (Vec::new(), at);
        loop {
            let first = self.part(end);
            let Some((first, after)) = first else { break };
            let Some(more) = self.source.some_spaces(after).and_then(|start| self.and_parts(start)) else { break };
            parts.push(first);
            parts.extend(more.0);
            end = more.1;
        }
        (!parts.is_empty()).then(|| (vec![Rc::new(Query::Every(parts))], end))
    }

    /// `AND b AND NOT c NOT d`, at least one of them.
    pub(super) fn and_parts(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
        let (mut parts, mut end) = (Vec::new(), at);
        loop {
            let start = self.source.spaces(end);
            let operand = match self.source.literal(start, "NOT") {
                Some(_) => self.part(start), // the word belongs to the part
                None => None,
            };
            let operand = operand.or_else(|| {
                let word = self.source.literal(start, "AND").or_else(|| self.source.literal(start, "&&"))?;
                let start = self.source.some_spaces(word)?;
                self.part(start)
            });
            let Some((part, after)) = operand else { break };
            parts.push(part);
            end = after;
        }
        (!parts.is_empty()).then_some((parts, end))
    }

    /// `a OR b`, `OR c AND d`, or just `a b`.
    pub(super) fn any_parts(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
        let (mut parts, mut end) = (Vec::new(), at);
        while let Some((more, after)) = self.or_pair(end) {
            parts.extend(more);
            end = after;
        }
        (!parts.is_empty()).then_some((parts, end))
    }

    pub(super) fn or_pair(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
        let alone = |part| Rc::new(Query::Every(vec![part]));
        let first = self.part(at);
        if let Some((first, end)) = &first
            && let Some((second, end)) = self.or_operand(*end)
        {
            return Some((vec![alone(first.clone()), second], end));
        }
        if let Some((operand, end)) = self.or_operand(at) {
            return Some((vec![operand], end));
        }
        let (first, end) = first?;
        let (second, end) = self.part(self.source.some_spaces(end)?)?;
        Some((vec![alone(first), alone(second)], end))
    }

    /// ` OR b`, and what `b` is tied to by AND.
    pub(super) fn or_operand(&mut self, at: usize) -> Parsed {
        let start = self.source.some_spaces(at)?;
        let word = self.source.literal(start, "OR").or_else(|| self.source.literal(start, "||"))?;
        let (part, end) = self.part(self.source.some_spaces(word)?)?;
        let mut parts = vec![part];
        let mut last = end;
        if let Some((more, end)) = self.and_parts(end) {
            parts.extend(more);
            last = end;
        }
        Some((Rc::new(Query::Every(parts)), last))
    }
}
