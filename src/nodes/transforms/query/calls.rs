//! Calls of functions. There are none to call; but where a call ends decides how the rest of a query is read.

use super::lexis::Read;
use super::parse::Parser;

impl Parser {
    /// `name(…)`. What stands in the parentheses only matters for where they end.
    pub(super) fn function(&mut self, at: usize) -> Read<String> {
        let (name, end) = self.source.word_of_term(at)?;
        let start = self.source.literal(self.source.spaces(end), "(")?;
        let mut end = self.source.spaces(start);
        while let Some(after) = self.parameter(end) {
            end = after;
        }
        Some((name, self.source.literal(self.source.spaces(end), ")")?))
    }

    pub(super) fn parameter(&mut self, at: usize) -> Option<usize> {
        let end = match self.list_parameter(at) {
            Some(end) => end,
            None => self.variable_parameter(at).or_else(|| self.term(at).map(|(_, end)| end))?,
        };
        Some(self.source.spaces(self.commas(self.source.spaces(end))))
    }

    pub(super) fn variable_parameter(&mut self, at: usize) -> Option<usize> {
        let (_, start) = self.source.field(at)?;
        self.variable(start).map(|(_, end)| end)
    }

    pub(super) fn commas(&self, at: usize) -> usize {
        let mut end = at;
        while let Some(after) = self.source.literal(end, ",") {
            end = after;
        }
        end
    }

    pub(super) fn list_parameter(&mut self, at: usize) -> Option<usize> {
        let (_, start) = self.source.field(at)?;
        self.list(start)
    }

    pub(super) fn list(&mut self, at: usize) -> Option<usize> {
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

    pub(super) fn list_item(&mut self, at: usize) -> Option<usize> {
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
