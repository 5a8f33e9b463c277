//! Templates filled with values. Text is not escaped; unknown names give nothing.

use std::sync::Arc;

use super::helpers;
use super::tree::{Block, Call, Operand, Path, Program, Statement};
use crate::flow::Value;
use crate::flow::number::number_text;
use crate::flow::text::{ordered_fields, text_or_empty};

/// The longest text that a template may give, in bytes.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// How many parts of a template may be filled, those in loops each time. Ends loops in loops in loops.
const MAX_STEPS: usize = 1_000_000;

/// Why a template could not be filled.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenderError {
    /// Only these helpers exist.
    #[error("there is no helper `{0}`; use if, unless, each, with, lookup, log, json, yaml, uppercase or lowercase")]
    MissingHelper(String),
    /// A block helper wants one argument.
    #[error("{{{{#{0}}}}} takes exactly one argument")]
    OneArgument(&'static str),
    /// `lookup` wants two.
    #[error("lookup takes exactly two arguments")]
    TwoArguments,
    /// There are none.
    #[error("partials are not available; write the text itself")]
    Partial,
    /// A value can't be written.
    #[error("{0}")]
    Value(#[from] crate::flow::text::TooDeep),
    /// Too long.
    #[error("the text grows beyond {MAX_OUTPUT} bytes")]
    TooLong,
    /// Too much work.
    #[error("the loops go through more than {MAX_STEPS} parts")]
    TooMuch,
}

/// The values that `../` leads to, from the innermost out.
struct Context<'s> {
    value: Value,
    outer: Option<&'s Context<'s>>,
}

/// What a loop knows of its position.
struct Position {
    key: Value,
    index: usize,
    last: bool,
}

/// Positions of the loops around, from the innermost out.
struct Frame<'s> {
    position: Position,
    outer: Option<&'s Frame<'s>>,
}

/// Names that blocks gave to values: `as |item index|`.
struct Names<'s> {
    names: &'s [String],
    values: [Value; 2],
    outer: Option<&'s Names<'s>>,
}

/// All that a path can reach.
#[derive(Clone, Copy)]
struct Scope<'s> {
    context: &'s Context<'s>,
    frame: Option<&'s Frame<'s>>,
    names: Option<&'s Names<'s>>,
}

/// A template being filled.
pub(super) struct Renderer {
    root: Value,
    steps: usize,
    /// What the log helper was given.
    pub logged: Vec<String>,
}

impl Renderer {
    pub fn new(variables: Value) -> Renderer {
        Renderer { root: variables, steps: 0, logged: Vec::new() }
    }

    pub fn render(&mut self, program: &Program) -> Result<String, RenderError> {
        let context = Context { value: self.root.clone(), outer: None };
        Ok(self.program(program, Scope { context: &context, frame: None, names: None })?.into_text())
    }

    /// Fill a program. Parts are added as the compiled original adds them, see [`Sum`]: all in turn, but those before
    /// a block over a plain name first with each other.
    fn program(&mut self, program: &Program, scope: Scope<'_>) -> Result<Sum, RenderError> {
        let mut total: Option<Sum> = None;
        let mut pending: Vec<Sum> = Vec::new();
        for statement in &program.body {
            self.step()?;
            let part = match statement {
                Statement::Content(content) if content.value.is_empty() => continue, // what touches it then touches
                Statement::Content(content) => Sum::Text(content.value.clone()),
                Statement::Comment(_) => continue,
                Statement::Mustache(call, _) => Sum::from(self.call(call, false, scope)?),
                Statement::Partial(..) => return Err(RenderError::Partial),
                Statement::Block(block) => self.block(block, scope)?,
            };
            if stands_apart(statement, scope) {
                let before = sum(None, pending.drain(..))?;
                total = match (total, before) {
                    (None, before) => Some(before.unwrap_or_default()),
                    (Some(total), Some(before)) => Some(total.plus(before)?),
                    (total, None) => total,
                };
                total = sum(total, [part])?;
            } else {
                pending.push(part);
            }
        }
        Ok(sum(total, pending)?.unwrap_or_default())
    }

    fn step(&mut self) -> Result<(), RenderError> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err(RenderError::TooMuch) } else { Ok(()) }
    }

    fn optional(&mut self, program: Option<&Program>, scope: Scope<'_>) -> Result<Sum, RenderError> {
        let Some(program) = program else { return Ok(Sum::default()) };
        if !scope.context.value.is_nullish() {
            return self.program(program, scope);
        }
        // A helper works on an object even where there is none, and hands that one in.
        let context = Context { value: Value::empty_object(), outer: scope.context.outer };
        self.program(program, Scope { context: &context, ..scope })
    }

    /// A program with another value as its context. The same value again makes no step for `../`.
    fn within(
        &mut self,
        program: Option<&Program>,
        value: &Value,
        frame: Option<&Frame<'_>>,
        second_name: Value,
        scope: Scope<'_>,
    ) -> Result<Sum, RenderError> {
        let Some(program) = program else { return Ok(Sum::default()) };
        let inner = Context { value: value.clone(), outer: Some(scope.context) };
        let context = if same(value, &scope.context.value) { scope.context } else { &inner };
        let named = Names { names: &program.names, values: [value.clone(), second_name], outer: scope.names };
        let names = if program.names.is_empty() { scope.names } else { Some(&named) };
        self.program(program, Scope { context, frame: frame.or(scope.frame), names })
    }

    fn block(&mut self, block: &Block, scope: Scope<'_>) -> Result<Sum, RenderError> {
        let (program, inverse) = (block.program.as_ref(), block.inverse.as_ref());
        let name = block.call.target.simple().filter(|name| named(scope.names, name).is_none());
        match name {
            Some("if") => {
                let chosen = self.condition(&block.call, "if", scope)?;
                self.optional(if chosen { program } else { inverse }, scope)
            }
            Some("unless") => {
                let chosen = self.condition(&block.call, "unless", scope)?;
                self.optional(if chosen { inverse } else { program }, scope)
            }
            Some("each") => {
                let value = self.one_argument(&block.call, "each", scope)?;
                self.each(&value, program, inverse, scope)
            }
            Some("with") => {
                let value = self.one_argument(&block.call, "with", scope)?;
                if is_empty(&value) {
                    self.optional(inverse, scope)
                } else {
                    self.within(program, &value, None, Value::Undefined, scope)
                }
            }
            Some(name) if helpers::is_helper(name) => Ok(Sum::from(self.call(&block.call, false, scope)?)),
            _ => {
                let value = self.call(&block.call, false, scope)?;
                match &value {
                    Value::Bool(true) => self.optional(program, scope),
                    Value::Bool(false) | Value::Null | Value::Undefined => self.optional(inverse, scope),
                    Value::Array(items) if items.is_empty() => self.optional(inverse, scope),
                    Value::Array(_) => self.each(&value, program, inverse, scope),
                    _ => self.within(program, &value, None, Value::Undefined, scope),
                }
            }
        }
    }

    fn one_argument(&mut self, call: &Call, name: &'static str, scope: Scope<'_>) -> Result<Value, RenderError> {
        match call.arguments.as_slice() {
            [argument] => self.operand(argument, scope),
            [] if name == "each" => Err(RenderError::OneArgument(name)),
            [argument, ..] if name == "each" => self.operand(argument, scope),
            _ => Err(RenderError::OneArgument(name)),
        }
    }

    fn condition(&mut self, call: &Call, name: &'static str, scope: Scope<'_>) -> Result<bool, RenderError> {
        let value = self.one_argument(call, name, scope)?;
        let zero_counts = match call.options.iter().find(|(key, _)| key == "includeZero") {
            Some((_, option)) => self.operand(option, scope)?.is_truthy(),
            None => false,
        };
        Ok(if zero_counts { !is_empty(&value) } else { value.is_truthy() && !is_empty(&value) })
    }

    fn each(
        &mut self,
        value: &Value,
        program: Option<&Program>,
        inverse: Option<&Program>,
        scope: Scope<'_>,
    ) -> Result<Sum, RenderError> {
        let entries: Vec<(Value, Value)> = match value {
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (Value::Number(index as f64), item.clone())).collect()
            }
            Value::Object(fields) => ordered_fields(fields)
                .into_iter()
                .map(|(key, field)| (Value::String(Arc::clone(key)), field.clone()))
                .collect(),
            _ => Vec::new(),
        };
        if entries.is_empty() {
            return self.optional(inverse, scope);
        }
        let count = entries.len();
        let mut result = Sum::default();
        for (index, (key, item)) in entries.into_iter().enumerate() {
            self.step()?; // a loop with nothing in it takes its time as well
            let position = Position { key: key.clone(), index, last: index + 1 == count };
            let frame = Frame { position, outer: scope.frame };
            result = result.plus(self.within(program, &item, Some(&frame), key, scope)?)?;
        }
        Ok(result)
    }

    /// A tag's or subexpression's value. Recursion is bounded by the nesting that the parser lets through.
    fn call(&mut self, call: &Call, is_inner: bool, scope: Scope<'_>) -> Result<Value, RenderError> {
        self.step()?;
        let name = call.target.simple().filter(|name| named(scope.names, name).is_none());
        match name {
            Some(name) if helpers::is_helper(name) => {
                let arguments: Result<Vec<_>, _> =
                    call.arguments.iter().map(|argument| self.operand(argument, scope)).collect();
                helpers::call(name, &arguments?, &mut self.logged)
            }
            Some("if") => Err(RenderError::OneArgument("if")),
            Some("unless") => Err(RenderError::OneArgument("unless")),
            Some("each") => Err(RenderError::OneArgument("each")),
            Some("with") => Err(RenderError::OneArgument("with")),
            _ => {
                let value = self.path(&call.target, scope);
                let asks_for_helper = is_inner || !call.options.is_empty() || !call.arguments.is_empty();
                let is_named = name.is_none() && call.target.simple().is_some();
                match (call.arguments.is_empty(), asks_for_helper, value.is_truthy()) {
                    // What a block gave a name is never a helper, whatever stands behind it.
                    (_, false, _) => Ok(value),
                    _ if is_named => Ok(value),
                    // A helper that isn't there gives nothing when it has nothing to work on.
                    (true, true, false) => Ok(Value::Undefined),
                    _ => Err(RenderError::MissingHelper(call.target.original.clone())),
                }
            }
        }
    }

    fn operand(&mut self, operand: &Operand, scope: Scope<'_>) -> Result<Value, RenderError> {
        match operand {
            Operand::Path(path) => Ok(self.path(path, scope)),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Call(call) => self.call(call, true, scope),
        }
    }

    fn path(&self, path: &Path, scope: Scope<'_>) -> Value {
        let mut parts = path.parts.as_slice();
        let start = if path.data {
            let Some((name, rest)) = parts.split_first() else { return Value::Undefined };
            parts = rest;
            self.data(name, path.depth, scope.frame)
        } else if let Some(value) =
            path.parts.first().filter(|_| !path.scoped).and_then(|name| named(scope.names, name))
        {
            parts = &parts[1..];
            value
        } else {
            let mut context = scope.context;
            for _ in 0..path.depth {
                match context.outer {
                    Some(outer) => context = outer,
                    None => return Value::Undefined,
                }
            }
            context.value.clone()
        };
        parts.iter().fold(start, |value, part| helpers::property(&value, part))
    }

    fn data(&self, name: &str, depth: usize, frame: Option<&Frame<'_>>) -> Value {
        if name == "root" {
            return self.root.clone();
        }
        let mut frame = frame;
        for _ in 0..depth {
            frame = frame.and_then(|frame| frame.outer);
        }
        let Some(Frame { position, .. }) = frame else { return Value::Undefined };
        match name {
            "key" => position.key.clone(),
            "index" => Value::Number(position.index as f64),
            "first" => Value::Bool(position.index == 0),
            "last" => Value::Bool(position.last),
            _ => Value::Undefined,
        }
    }
}

/// The value that a block gave a name.
fn named(names: Option<&Names<'_>>, name: &str) -> Option<Value> {
    let mut names = names;
    while let Some(inner) = names {
        if let Some(position) = inner.names.iter().position(|known| known == name) {
            return Some(inner.values.get(position).cloned().unwrap_or_default());
        }
        names = inner.outer;
    }
    None
}

/// Whether two values are the same to JavaScript: equal when simple, the same one when composite.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => Arc::ptr_eq(left, right),
        (Value::Object(left), Value::Object(right)) => Arc::ptr_eq(left, right),
        (Value::Stream(left), Value::Stream(right)) => left.same(right),
        (Value::String(left), Value::String(right)) => left == right,
        (Value::Number(left), Value::Number(right)) => left == right,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        _ => left.is_nullish() && right.is_nullish(),
    }
}

/// Falsy but for 0, or a list without items.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Number(number) => number.is_nan(),
        value => !value.is_truthy(),
    }
}

/// Text as it grows. The original adds parts with JavaScript's `+`, so numbers and flags that touch, without text
/// between them, are added up: `{{a}}{{b}}` is 3 for 1 and 2. Stored flows may hold texts that came about so.
enum Sum {
    Text(String),
    Number(f64),
    Flag(bool),
}

impl Default for Sum {
    fn default() -> Sum {
        Sum::Text(String::new())
    }
}

impl From<Value> for Sum {
    fn from(value: Value) -> Sum {
        match value {
            Value::Number(number) => Sum::Number(number),
            Value::Bool(flag) => Sum::Flag(flag),
            value => Sum::Text(text_or_empty(&value)),
        }
    }
}

impl Sum {
    fn plus(self, other: Sum) -> Result<Sum, RenderError> {
        if let (Some(left), Some(right)) = (self.number(), other.number()) {
            return Ok(Sum::Number(left + right));
        }
        let mut text = self.into_text();
        text.push_str(&other.into_text());
        if text.len() > MAX_OUTPUT { Err(RenderError::TooLong) } else { Ok(Sum::Text(text)) }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Sum::Text(_) => None,
            Sum::Number(number) => Some(*number),
            Sum::Flag(flag) => Some(f64::from(u8::from(*flag))),
        }
    }

    fn into_text(self) -> String {
        match self {
            Sum::Text(text) => text,
            Sum::Number(number) => number_text(number),
            Sum::Flag(flag) => flag.to_string(),
        }
    }
}

fn sum(start: Option<Sum>, parts: impl IntoIterator<Item = Sum>) -> Result<Option<Sum>, RenderError> {
    parts.into_iter().try_fold(start, |total, part| match total {
        Some(total) => total.plus(part).map(Some),
        None => Ok(Some(part)),
    })
}

/// Whether a statement is a block over a plain name, `{{#name}}`, which the original can't tell from a helper.
fn stands_apart(statement: &Statement, scope: Scope<'_>) -> bool {
    let Statement::Block(block) = statement else { return false };
    let call = &block.call;
    call.arguments.is_empty()
        && call.options.is_empty()
        && call.target.simple().is_some_and(|name| {
            named(scope.names, name).is_none() && !matches!(name, "if" | "unless" | "each" | "with" | "lookup" | "log")
        })
}
