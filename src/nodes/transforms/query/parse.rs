//! Reading a query. The language is one of ordered choices: the first way to read a part wins, whatever follows.
//! What was read at a position is remembered, so that trying another way costs nothing twice.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::QueryError;
use super::lexis::{Read, Source};
use super::search;
use super::tree::{Bound, Limit, Query, Regexp, Relation, Term, Test};

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
enum Rule {
    Negation,
    Group,
    Logic,
    Term,
    FieldTerm,
}

type Parsed = Read<Rc<Query>>;

struct Parser {
    source: Source,
    memory: HashMap<(Rule, usize), Parsed>,
    /// Everything that was read as a regular expression.
    regexps: HashSet<Regexp>,
    depth: usize,
    /// The last position where a part was looked for.
    furthest: usize,
    /// Ends the whole, whatever else might be tried.
    error: Option<QueryError>,
}

fn term(field: Option<String>, test: Test) -> Rc<Query> {
    Rc::new(Query::Term(Term { field, test }))
}

impl Parser {
    fn query(&mut self) -> Option<Rc<Query>> {
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

    fn remembered(&mut self, rule: Rule, at: usize, read: fn(&mut Parser, usize) -> Parsed) -> Parsed {
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

    fn deeper(&mut self) -> bool {
        if self.depth == MAX_DEPTH {
            self.error.get_or_insert(QueryError::Deep);
            return false;
        }
        self.depth += 1;
        true
    }

    fn text_term(&mut self, at: usize) -> Parsed {
        let (text, end) = self.source.loose_text(at)?;
        Some((term(None, Test::Holds(text)), end))
    }

    /// What `read` finds between parentheses.
    fn in_parentheses(&mut self, at: usize, read: fn(&mut Parser, usize) -> Parsed) -> Parsed {
        let start = self.source.literal(at, "(")?;
        let (query, end) = read(self, self.source.spaces(start))?;
        Some((query, self.source.literal(self.source.spaces(end), ")")?))
    }

    fn negation(&mut self, at: usize) -> Parsed {
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

    fn group(&mut self, at: usize) -> Parsed {
        self.remembered(Rule::Group, at, |parser, at| {
            let nested = parser.in_parentheses(at, Parser::group);
            nested.or_else(|| parser.in_parentheses(at, Parser::logic))
        })
    }

    /// At least two parts with words between them.
    fn logic(&mut self, at: usize) -> Parsed {
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

    fn part(&mut self, at: usize) -> Parsed {
        if let Some(found) = self.negation(at).or_else(|| self.group(at)) {
            return Some(found);
        }
        match self.variable(at) {
            Some((name, end)) => Some((term(None, Test::Holds(name)), end)),
            None => self.term(at),
        }
    }

    fn variable(&mut self, at: usize) -> Read<String> {
        match self.source.variable(at)? {
            (Ok(name), end) => Some((name, end)),
            (Err(name), _) => {
                self.error.get_or_insert(QueryError::VariableName(name));
                None
            }
        }
    }

    /// `a AND b AND c`, as often as it comes: one part that all of them make.
    fn every_parts(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
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
    fn and_parts(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
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
    fn any_parts(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
        let (mut parts, mut end) = (Vec::new(), at);
        while let Some((more, after)) = self.or_pair(end) {
            parts.extend(more);
            end = after;
        }
        (!parts.is_empty()).then_some((parts, end))
    }

    fn or_pair(&mut self, at: usize) -> Read<Vec<Rc<Query>>> {
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
    fn or_operand(&mut self, at: usize) -> Parsed {
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

    fn term(&mut self, at: usize) -> Parsed {
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

    fn field_term(&mut self, at: usize) -> Parsed {
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

    fn exists(&self, at: usize) -> Read<String> {
        let end = self.source.literal(at, "_exists_")?;
        let colon = self.source.literal(self.source.spaces(end), ":")?;
        self.source.field_name(self.source.spaces(colon))
    }

    fn value(&mut self, at: usize) -> Read<Test> {
        if let Some((name, end)) = self.variable(at) {
            return Some((Test::Holds(name), end));
        }
        let marked = self.regexp(at).or_else(|| self.quoted(at));
        marked.or_else(|| self.text_in_parentheses(at)).or_else(|| self.wildcard(at)).or_else(|| self.plain(at))
    }

    fn regexp(&mut self, at: usize) -> Read<Test> {
        let (regexp, end) = self.source.regexp(at)?;
        self.regexps.insert(regexp.clone());
        Some((Test::Regexp(regexp), end))
    }

    fn quoted(&self, at: usize) -> Read<Test> {
        let (text, end) = self.source.quoted(at)?;
        Some((Test::Is(text), end))
    }

    fn text_in_parentheses(&self, at: usize) -> Read<Test> {
        let start = self.source.spaces(self.source.literal(at, "(")?);
        let loose = || self.source.loose_text(start).map(|(text, end)| (Test::Holds(text), end));
        let (test, end) = self.quoted(start).or_else(loose)?;
        Some((test, self.source.literal(self.source.spaces(end), ")")?))
    }

    fn wildcard(&self, at: usize) -> Read<Test> {
        let (pattern, end) = self.source.wildcard(at)?;
        Some((Test::Fits(pattern), end))
    }

    /// A flag, a number or a word: each finds texts that hold it.
    fn plain(&self, at: usize) -> Read<Test> {
        use crate::flow::number::number_text;
        let flag = self.source.flag(at).map(|(flag, end)| (flag.to_string(), end));
        let number = || self.source.number(at).map(|(number, end)| (number_text(number), end));
        let (text, end) = flag.or_else(number).or_else(|| self.source.word_of_term(at))?;
        Some((Test::Holds(text), end))
    }

    fn range(&mut self, at: usize) -> Read<Test> {
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

    fn lower_bound(&mut self, at: usize) -> Read<Bound> {
        let (relation, start) = match self.source.char(at)? {
            '[' => (Relation::AtLeast, at + 1),
            '{' => (Relation::Above, at + 1),
            _ => return None,
        };
        let (limit, end) = self.limit(self.source.spaces(start), f64::NEG_INFINITY)?;
        Some((Bound { relation, limit }, end))
    }

    fn upper_bound(&mut self, at: usize) -> Read<Bound> {
        let (limit, end) = self.limit(self.source.spaces(at), f64::INFINITY)?;
        let relation = match self.source.char(end)? {
            ']' => Relation::AtMost,
            '}' => Relation::Below,
            _ => return None,
        };
        Some((Bound { relation, limit }, end + 1))
    }

    /// One side of a range with `TO`; `*` is no limit.
    fn limit(&mut self, at: usize, open: f64) -> Read<Limit> {
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
    fn compared(&mut self, at: usize) -> Read<Limit> {
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

    /// `name(…)`. What stands in the parentheses only matters for where they end.
    fn function(&mut self, at: usize) -> Read<String> {
        let (name, end) = self.source.word_of_term(at)?;
        let start = self.source.literal(self.source.spaces(end), "(")?;
        let mut end = self.source.spaces(start);
        while let Some(after) = self.parameter(end) {
            end = after;
        }
        Some((name, self.source.literal(self.source.spaces(end), ")")?))
    }

    fn parameter(&mut self, at: usize) -> Option<usize> {
        let end = match self.list_parameter(at) {
            Some(end) => end,
            None => self.variable_parameter(at).or_else(|| self.term(at).map(|(_, end)| end))?,
        };
        Some(self.source.spaces(self.commas(self.source.spaces(end))))
    }

    fn variable_parameter(&mut self, at: usize) -> Option<usize> {
        let (_, start) = self.source.field(at)?;
        self.variable(start).map(|(_, end)| end)
    }

    fn commas(&self, at: usize) -> usize {
        let mut end = at;
        while let Some(after) = self.source.literal(end, ",") {
            end = after;
        }
        end
    }

    fn list_parameter(&mut self, at: usize) -> Option<usize> {
        let (_, start) = self.source.field(at)?;
        self.list(start)
    }

    fn list(&mut self, at: usize) -> Option<usize> {
        let start = self.source.literal(at, "[")?;
        if !self.deeper() {
            return None;
        }
        let mut end = self.source.spaces(start);
        while let Some(after) = self.list_item(end) {
            end = after;
        }
        self.depth -= 1;
        self.source.literal(self.source.spaces(end), "]")
    }

    fn list_item(&mut self, at: usize) -> Option<usize> {
        let start = self.commas(self.source.spaces(at));
        let value = self.source.spaces(start);
        let end = match self.variable(value) {
            Some((_, end)) => Some(end),
            None => {
                let marked = self.regexp(value).or_else(|| self.quoted(value));
                marked.or_else(|| self.plain(value)).map(|(_, end)| end)
            }
        };
        let end = end.or_else(|| self.list(start))?;
        Some(self.source.spaces(self.commas(self.source.spaces(end))))
    }
}
