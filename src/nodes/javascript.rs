//! JavaScript's regular expressions, by an engine that can be stopped: patterns and texts come from anywhere, and some
//! pairs of them take longer than the universe has.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rquickjs::{CatchResultExt as _, CaughtError, Context, Ctx, Function, Runtime, context::intrinsic, convert::List};
use tokio_util::sync::CancellationToken;

/// Enough for patterns that people mean. One that backtracks without end would hold a thread for ever.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Text takes up to two bytes a letter there, and a result may be as large again.
const MEMORY_LIMIT: usize = 512 << 20;

const MODES: &str = include_str!("regexp.js");

/// What a regular expression is to do.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub text: String,
    pub pattern: String,
    /// Letters of JavaScript's flags.
    pub flags: String,
    pub mode: String,
    pub replacement: String,
    pub delimiter: String,
}

/// What it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub result: String,
    pub matches: u32,
}

/// Why it gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegexpError {
    #[error("the pattern is not a regular expression: {0}")]
    Pattern(String),
    #[error("mode `{0}` is unknown; it is match, replace, test or extract")]
    Mode(String),
    #[error("no end after {} s: the pattern tries too many ways on this text; make it less ambiguous", TIME_LIMIT.as_secs())]
    Time,
    #[error("stopped")]
    Stopped,
    #[error("the engine failed, or its memory of {} MB is used up: {text}", MEMORY_LIMIT >> 20)]
    Engine { text: String },
}

/// Run a regular expression. Holds the calling thread for up to ten seconds; the token ends it earlier.
///
/// # Errors
/// See [`RegexpError`].
pub(super) fn regexp(task: &Task, cancel: &CancellationToken) -> Result<Answer, RegexpError> {
    let mode = task.mode.clone();
    let answer = in_engine(cancel, |context| {
        let modes: Function = context.eval(MODES)?;
        let (pattern, flags) = (&task.pattern, &task.flags);
        let call = (&task.text, pattern, flags, &task.mode, &task.replacement, &task.delimiter);
        let Some(answer) = modes.call::<_, Option<List<(String, u32)>>>(call)? else { return Ok(None) };
        let List((result, matches)) = answer;
        Ok(Some(Answer { result, matches }))
    })?;
    answer.ok_or(RegexpError::Mode(mode))
}

/// Whether the expression is found in the text; false when it is none, or has no end.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    let task = Task {
        text: text.to_owned(),
        pattern: pattern.to_owned(),
        flags: String::new(),
        mode: "test".to_owned(),
        replacement: String::new(),
        delimiter: String::new(),
    };
    regexp(&task, &CancellationToken::new()).is_ok_and(|answer| answer.matches > 0)
}

/// An engine for each thread that ever needs one: making it takes longer than most expressions.
struct Engine {
    context: Context,
    /// What may end the work that is going on.
    limit: Rc<RefCell<Option<Limit>>>,
    /// Something ended it.
    ended: Rc<Cell<bool>>,
}

struct Limit {
    end: Instant,
    cancel: CancellationToken,
}

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

impl Engine {
    fn new() -> Result<Engine, rquickjs::Error> {
        let runtime = Runtime::new()?;
        runtime.set_memory_limit(MEMORY_LIMIT);
        let limit: Rc<RefCell<Option<Limit>>> = Rc::default();
        let ended: Rc<Cell<bool>> = Rc::default();
        let (limited, mark) = (limit.clone(), ended.clone());
        runtime.set_interrupt_handler(Some(Box::new(move || {
            let over = |limit: &Limit| limit.cancel.is_cancelled() || Instant::now() > limit.end;
            let over = limited.borrow().as_ref().is_some_and(over);
            mark.set(mark.get() || over);
            over
        })));
        type Needed = (intrinsic::Eval, intrinsic::RegExpCompiler, intrinsic::RegExp);
        Ok(Engine { context: Context::custom::<Needed>(&runtime)?, limit, ended })
    }
}

/// Do work in this thread's engine, for up to ten seconds; the token ends it earlier.
pub(super) fn in_engine<T>(
    cancel: &CancellationToken,
    work: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<T>,
) -> Result<T, RegexpError> {
    ENGINE.with_borrow_mut(|slot| {
        let engine = match slot.take() {
            Some(engine) => engine,
            None => Engine::new().map_err(|error| RegexpError::Engine { text: error.to_string() })?,
        };
        *engine.limit.borrow_mut() = Some(Limit { end: Instant::now() + TIME_LIMIT, cancel: cancel.clone() });
        let outcome = engine.context.with(|context| work(&context).catch(&context).map_err(explain));
        *engine.limit.borrow_mut() = None;
        match outcome {
            Ok(value) => {
                *slot = Some(engine);
                Ok(value)
            }
            Err(_) if engine.ended.get() && cancel.is_cancelled() => Err(RegexpError::Stopped),
            Err(_) if engine.ended.get() => Err(RegexpError::Time),
            Err(error) => Err(error), // the engine goes: its heap may be full
        }
    })
}

fn explain(error: CaughtError<'_>) -> RegexpError {
    match error {
        CaughtError::Exception(exception) => {
            let text = exception.message().unwrap_or_default();
            let name = exception.get::<_, String>("name").unwrap_or_default();
            if name == "SyntaxError" {
                RegexpError::Pattern(text)
            } else {
                RegexpError::Engine { text: format!("{name}: {text}") }
            }
        }
        other => RegexpError::Engine { text: other.to_string() },
    }
}
