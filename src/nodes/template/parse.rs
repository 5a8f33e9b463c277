//! Templates in Handlebars' language, read into a tree.

use super::tree::{Block, Call, Content, Operand, Path, Program, Statement, Strip};
use super::whitespace;
use crate::flow::Value;
use crate::flow::number::read_number;

/// How deep blocks and subexpressions may nest.
const MAX_DEPTH: usize = 100;

/// Why a template could not be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct ParseError {
    line: usize,
    problem: String,
}

/// Read a template.
pub(super) fn parse(source: &str) -> Result<Program, ParseError> {
    let mut parser = Parser { source, at: 0, depth: 0 };
    let (mut program, end) = parser.program()?;
    match end {
        End::Template => {}
        End::Close(name, _) => return Err(parser.error(format!("{{{{/{name}}}}} closes nothing"))),
        End::Else(_) | End::Chain(..) => return Err(parser.error("{{else}} stands outside a block")),
    }
    whitespace::control(&mut program);
    Ok(program)
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
    depth: usize,
}

/// What a run of statements ended with.
enum End {
    Template,
    Close(String, Strip),
    Else(Strip),
    Chain(Call, Vec<String>, Strip),
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn error(&self, problem: impl Into<String>) -> ParseError {
        let line = self.source[..self.at].matches('\n').count() + 1;
        ParseError { line, problem: problem.into() }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn program(&mut self) -> Result<(Program, End), ParseError> {
        let mut program = Program::default();
        loop {
            self.content(&mut program.body);
            if self.rest().is_empty() {
                return Ok((program, End::Template));
            }
            if let Some(end) = self.tag(&mut program.body)? {
                return Ok((program, end));
            }
        }
    }

    /// Text up to the next tag. A backslash makes a tag text; two are a backslash before a tag.
    fn content(&mut self, body: &mut Vec<Statement>) {
        let open = self.rest().find("{{");
        let text = &self.rest()[..open.unwrap_or(self.rest().len())];
        self.at += text.len();
        if open.is_none() {
            push_content(body, text);
        } else if text.ends_with("\\\\") {
            push_content(body, &text[..text.len() - 1]);
        } else if let Some(before) = text.strip_suffix('\\') {
            push_content(body, before);
            let tag = self.rest();
            let next = tag[2..].find("{{").map_or(tag.len(), |next| next + 2);
            // The backslashes before the next tag are that tag's.
            let literal = tag[..next].len() - if next < tag.len() { trailing_backslashes(&tag[2..next]) } else { 0 };
            push_content(body, &tag[..literal]);
            self.at += literal;
            self.content(body);
        } else {
            push_content(body, text);
        }
    }

    fn tag(&mut self, body: &mut Vec<Statement>) -> Result<Option<End>, ParseError> {
        if self.take("{{{{") {
            body.push(self.raw_block()?);
            return Ok(None);
        }
        let start = self.at;
        self.at += 2;
        let left = self.take("~");
        if self.take("!") {
            body.push(self.comment(left)?);
            return Ok(None);
        }
        if self.take("#") {
            self.refuse_partials()?;
            let (call, names) = self.opening()?;
            let right = self.close_tag()?;
            body.push(self.block(call, names, Strip { left, right }, false)?);
            return Ok(None);
        }
        if self.take("/") {
            self.space();
            let name = self.operand_text()?;
            self.space();
            let right = self.close_tag()?;
            return Ok(Some(End::Close(name, Strip { left, right })));
        }
        if self.take("^") {
            self.space();
            if let Some(right) = self.take_close() {
                return Ok(Some(End::Else(Strip { left, right })));
            }
            let (call, names) = self.opening()?;
            let right = self.close_tag()?;
            body.push(self.block(call, names, Strip { left, right }, true)?);
            return Ok(None);
        }
        if self.take(">") {
            self.space();
            if self.rest().starts_with('(') {
                self.operand()?;
                self.arguments(Path::default())?;
            } else {
                self.call()?;
            }
            let right = self.close_tag()?;
            body.push(Statement::Partial(Strip { left, right }));
            return Ok(None);
        }
        self.refuse_partials()?;
        if let Some(end) = self.try_else(left)? {
            return Ok(Some(end));
        }
        let unescaped = self.take("{");
        if !unescaped {
            self.take("&");
        }
        let call = self.call()?;
        if unescaped && !self.take("}") {
            return Err(self.error("a tag that opens with {{{ must close with }}}"));
        }
        let right = self.close_tag().map_err(|error| match self.rest().is_empty() {
            true => {
                self.at = start;
                self.error("a tag is never closed by }}")
            }
            false => error,
        })?;
        body.push(Statement::Mustache(call, Strip { left, right }));
        Ok(None)
    }

    fn refuse_partials(&self) -> Result<(), ParseError> {
        if self.rest().starts_with(['>', '*']) {
            return Err(self.error("partials and decorators are not available; write the text itself"));
        }
        Ok(())
    }

    fn try_else(&mut self, left: bool) -> Result<Option<End>, ParseError> {
        let start = self.at;
        self.space();
        if !self.take("else") || self.rest().starts_with(is_name) {
            self.at = start;
            return Ok(None);
        }
        self.space();
        if let Some(right) = self.take_close() {
            return Ok(Some(End::Else(Strip { left, right })));
        }
        if self.rest().starts_with(['.', '/', '=']) {
            self.at = start; // a path that begins with `else`
            return Ok(None);
        }
        let (call, names) = self.opening()?;
        let right = self.close_tag()?;
        Ok(Some(End::Chain(call, names, Strip { left, right })))
    }

    fn comment(&mut self, left: bool) -> Result<Statement, ParseError> {
        let (dashes, ends) = if self.rest().starts_with("--") { (2, ["--}}", "--~}}"]) } else { (0, ["}}", "}}"]) };
        let text = &self.rest()[dashes..];
        let found = ends.iter().filter_map(|end| Some((text.find(end)?, end.len()))).min();
        let Some((length, end)) = found else {
            return Err(self.error("a comment is never closed"));
        };
        self.at += dashes + length + end;
        let right = self.source[..self.at].ends_with("~}}");
        Ok(Statement::Comment(Strip { left, right }))
    }

    /// After the opening tag: what is in the block, up to its closing tag.
    fn block(&mut self, call: Call, names: Vec<String>, open: Strip, inverted: bool) -> Result<Statement, ParseError> {
        let name = call.target.original.clone();
        let start = self.at;
        self.enter()?;
        let (mut program, mut end) = self.program()?;
        program.names = names;
        // The branches by `{{else if}}`, put into each other from the last one on.
        let mut branches = vec![(call, program, open)];
        let mut last: Option<(Program, Strip)> = None;
        let close = loop {
            end = match end {
                End::Close(closed, strip) if closed == name => break strip,
                End::Close(closed, _) => {
                    return Err(self.error(format!("{{{{/{closed}}}}} closes nothing; {{{{#{name}}}}} is open")));
                }
                End::Template => {
                    self.at = start;
                    return Err(self.error(format!("{{{{#{name}}}}} is never closed")));
                }
                End::Else(_) | End::Chain(..) if last.is_some() => {
                    return Err(self.error("{{else}} stands twice in one block"));
                }
                End::Chain(..) if inverted => {
                    return Err(self.error("{{^…}} takes a plain {{else}} only"));
                }
                End::Else(strip) => {
                    let (program, end) = self.program()?;
                    last = Some((program, strip));
                    end
                }
                End::Chain(call, names, strip) => {
                    self.enter()?;
                    let (mut program, end) = self.program()?;
                    program.names = names;
                    branches.push((call, program, strip));
                    end
                }
            };
        };
        self.depth -= branches.len();
        Ok(nested(branches, last, close, inverted))
    }

    fn enter(&mut self) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("blocks or subexpressions nest deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn raw_block(&mut self) -> Result<Statement, ParseError> {
        let call = self.call()?;
        if !self.take("}}}}") {
            return Err(self.error("a raw block opens with {{{{name}}}}"));
        }
        let end = format!("{{{{{{{{/{}}}}}}}}}", call.target.original);
        let Some(length) = self.rest().find(&end) else {
            return Err(self.error(format!("{end} is missing")));
        };
        let mut program = Program::default();
        push_content(&mut program.body, &self.rest()[..length]);
        self.at += length + end.len();
        let strip = Strip::default();
        Ok(Statement::Block(Box::new(Block {
            call,
            program: Some(program),
            inverse: None,
            open: strip,
            middle: strip,
            close: strip,
        })))
    }

    fn close_tag(&mut self) -> Result<bool, ParseError> {
        self.try_close().ok_or_else(|| self.unclosed())
    }

    fn unclosed(&self) -> ParseError {
        if self.rest().starts_with("}}}") {
            return self
                .error("a tag closes with as many braces as it opens with; put a space before a } that follows");
        }
        let found: String = self.rest().chars().take(10).collect();
        self.error(format!("expected }}}} but found `{found}`"))
    }

    /// `}}` or `~}}`, and no third brace; whether it was the latter.
    fn try_close(&mut self) -> Option<bool> {
        if self.rest().starts_with("}}}") { None } else { self.take_close() }
    }

    fn take_close(&mut self) -> Option<bool> {
        if self.take("~}}") { Some(true) } else { self.take("}}").then_some(false) }
    }

    /// A block's head, with the names for what it hands in.
    fn opening(&mut self) -> Result<(Call, Vec<String>), ParseError> {
        let call = self.call()?;
        let mut names = Vec::new();
        if self.at_block_names() {
            self.at += 2;
            self.space();
            self.at += 1;
            loop {
                self.space();
                if self.take("|") {
                    break;
                }
                let name = self.name()?;
                names.push(name);
            }
            self.space();
        }
        Ok((call, names))
    }

    fn at_block_names(&self) -> bool {
        self.rest().strip_prefix("as").is_some_and(|rest| {
            let bar = rest.trim_start();
            bar.len() < rest.len() && bar.starts_with('|')
        })
    }

    /// A value or a helper with its arguments, up to where the tag or the parenthesis closes.
    fn call(&mut self) -> Result<Call, ParseError> {
        self.space();
        let start = self.at;
        let target = match self.operand()? {
            Operand::Path(path) => path,
            Operand::Literal(_) => {
                // A literal in a helper's place is the name of a field.
                let original = self.source[start..self.at].trim_matches(['"', '\'']).to_owned();
                Path { parts: vec![original.clone()], original, ..Path::default() }
            }
            Operand::Call(_) => return Err(self.error("a subexpression can't be called")),
        };
        self.arguments(target)
    }

    /// The arguments of a call, up to where the tag or the parenthesis closes.
    fn arguments(&mut self, target: Path) -> Result<Call, ParseError> {
        let mut call = Call { target, arguments: Vec::new(), options: Vec::new() };
        loop {
            self.space();
            if self.rest().is_empty() || self.rest().starts_with(['}', '~', ')']) || self.at_block_names() {
                return Ok(call);
            }
            if let Some(key) = self.option_key() {
                call.options.push((key, self.operand()?));
            } else if call.options.is_empty() {
                call.arguments.push(self.operand()?);
            } else {
                return Err(self.error("arguments must stand before options"));
            }
        }
    }

    fn option_key(&mut self) -> Option<String> {
        let rest = self.rest();
        let length = rest.find(|character| !is_name(character)).unwrap_or(rest.len());
        if length == 0 || !rest[length..].starts_with('=') {
            return None;
        }
        self.at += length + 1;
        self.space();
        Some(rest[..length].to_owned())
    }

    fn operand(&mut self) -> Result<Operand, ParseError> {
        let rest = self.rest();
        if self.take("(") {
            self.enter()?;
            let call = self.call()?;
            if !self.take(")") {
                return Err(self.error("a parenthesis is never closed"));
            }
            self.depth -= 1;
            return Ok(Operand::Call(Box::new(call)));
        }
        if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            let Some(length) = closing_quote(&rest[1..], quote) else {
                return Err(self.error("a text in quotes is never closed"));
            };
            self.at += length + 2;
            let text = rest[1..=length].replace(&format!("\\{quote}"), &quote.to_string());
            return Ok(Operand::Literal(text.into()));
        }
        let word = &rest[..rest.find(ends_word).unwrap_or(rest.len())];
        let literal = match word {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            "undefined" => Some(Value::Undefined),
            _ if is_number(word) => read_number(word).map(Value::Number),
            _ => None,
        };
        if let Some(literal) = literal {
            self.at += word.len();
            return Ok(Operand::Literal(literal));
        }
        self.path().map(Operand::Path)
    }

    /// The text of a path or literal, as closing tags repeat it.
    fn operand_text(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        match self.operand()? {
            Operand::Path(path) => Ok(path.original),
            _ => Ok(self.source[start..self.at].trim_matches(['"', '\'']).to_owned()),
        }
    }

    fn path(&mut self) -> Result<Path, ParseError> {
        let start = self.at;
        let mut path = Path { data: self.take("@"), ..Path::default() };
        let mut at_start = true;
        loop {
            let rest = self.rest();
            let dot = rest.starts_with('.') && rest[1..].chars().next().is_none_or(follows_word);
            if rest.starts_with("..") || dot {
                let parent = rest.starts_with("..");
                if !path.parts.is_empty() {
                    return Err(self.error("../ and ./ must stand at a path's start"));
                }
                self.at += if parent { 2 } else { 1 };
                path.depth += usize::from(parent);
                path.scoped = true;
            } else if self.take("[") {
                let Some(length) = self.rest().find(']') else {
                    return Err(self.error("a [ in a path is never closed"));
                };
                path.parts.push(self.rest()[..length].to_owned());
                self.at += length + 1;
            } else if !at_start && self.at_literal() {
                let word: String = rest.chars().take_while(|character| !ends_word(*character)).collect();
                return Err(self.error(format!("`{word}` in a path is read as a value; write [{word}]")));
            } else {
                match self.name()? {
                    name if name == "this" && path.parts.is_empty() => path.scoped = true,
                    name if name == "this" => return Err(self.error("`this` must stand at a path's start")),
                    name => path.parts.push(name),
                }
            }
            at_start = false;
            let mut rest = self.rest().chars();
            match rest.next() {
                // A dot before the end of a word is a word of its own.
                Some('.') if !rest.next().is_none_or(follows_word) => {}
                Some('/') if rest.next().is_none_or(ends_word) => {
                    return Err(self.error("a path ends in a separator"));
                }
                Some('/') => {}
                _ => break,
            }
            self.at += 1;
        }
        path.scoped |= path.depth > 0;
        path.original = self.source[start..self.at].replace(['[', ']'], "");
        Ok(path)
    }

    /// Whether a number, a flag or nothing stands here, as a word of its own.
    fn at_literal(&self) -> bool {
        let rest = self.rest();
        let word = &rest[..rest.find(|character| ends_word(character) || character == ']').unwrap_or(rest.len())];
        word.len() < rest.len()
            && !rest[word.len()..].starts_with('|')
            && (matches!(word, "true" | "false" | "null" | "undefined") || is_number(word))
    }

    fn name(&mut self) -> Result<String, ParseError> {
        let rest = self.rest();
        let length = rest.find(|character| !is_name(character)).unwrap_or(rest.len());
        if length == 0 {
            let found: String = rest.chars().take(10).collect();
            return Err(self.error(format!("expected a name but found `{found}`")));
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }
}

/// Put branches by `{{else if}}` into each other.
fn nested(
    branches: Vec<(Call, Program, Strip)>,
    last: Option<(Program, Strip)>,
    close: Strip,
    inverted: bool,
) -> Statement {
    let count = branches.len();
    let strips: Vec<Strip> = branches.iter().map(|(_, _, strip)| *strip).collect();
    let (mut inverse, mut middle) = match last {
        Some((program, strip)) => (Some(program), strip),
        None => (None, Strip::default()),
    };
    let mut branches = branches.into_iter().enumerate().rev();
    loop {
        // There is at least one branch, and the loop ends at the first.
        let Some((index, (call, program, open))) = branches.next() else {
            return Statement::Comment(Strip::default());
        };
        // The tag that ends a branch: for the first two the block's own, for deeper ones the tag of their own
        // branch, by the way the original is built.
        let close = if index < 2 || count <= 2 { close } else { strips[index] };
        let (program, inverse_of_block) =
            if inverted { (inverse.take(), Some(program)) } else { (Some(program), inverse.take()) };
        let block = Block { call, program, inverse: inverse_of_block, open, middle, close };
        let statement = Statement::Block(Box::new(block));
        if index == 0 {
            return statement;
        }
        inverse = Some(Program { body: vec![statement], names: Vec::new(), chained: true });
        middle = open;
    }
}

fn push_content(body: &mut Vec<Statement>, text: &str) {
    if !text.is_empty() {
        body.push(Statement::Content(Content {
            original: text.to_owned(),
            value: text.to_owned(),
            ..Content::default()
        }));
    }
}

fn trailing_backslashes(text: &str) -> usize {
    (text.len() - text.trim_end_matches('\\').len()).min(2)
}

fn closing_quote(text: &str, quote: char) -> Option<usize> {
    text.match_indices(quote).map(|(position, _)| position).find(|position| !text[..*position].ends_with('\\'))
}

/// What names are made of.
fn is_name(character: char) -> bool {
    !character.is_whitespace()
        && !matches!(character, '!'..='#' | '%'..=',' | '.' | '/' | ';'..='>' | '@' | '['..='^' | '`' | '{'..='~')
}

fn ends_word(character: char) -> bool {
    character.is_whitespace() || matches!(character, '}' | '~' | ')' | '|')
}

/// What may come after a word, the separators of a path included.
fn follows_word(character: char) -> bool {
    ends_word(character) || matches!(character, '=' | '/' | '.' | ']')
}

fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction)
}
