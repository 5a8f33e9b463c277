//! Log lines on stderr.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::OnceLock,
};

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::{
    config::{Log, LogFormat},
    nodes::secrets::Redactor,
};

/// What stays out of the log, whatever is asked. At debug, the database driver logs the parameters of every statement, and
/// the HTTP libraries the headers of requests: inputs, results, secrets. The pool complains of each connection that an
/// outage broke; we say once that the database is away.
const QUIET: [&str; 6] =
    ["tokio_postgres=info", "h2=info", "hyper=info", "hyper_util=info", "reqwest=info", "deadpool.postgres=error"];

/// What changes the level later.
#[derive(Clone, Debug)]
pub(super) struct Handle(reload::Handle<EnvFilter, Registry>);

/// The level can't be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LevelError {
    /// It is none.
    #[error("log.level \"{0}\": {1}")]
    Unknown(String, tracing_subscriber::filter::ParseError),
    /// This process logs in another way.
    #[error("the log can't be changed: {0}")]
    Log(#[from] reload::Error),
}

impl Handle {
    /// Log so much from now on: a level, or directives.
    ///
    /// # Errors
    /// The level is none.
    pub fn set_level(&self, level: &str) -> Result<(), LevelError> {
        let filter = filter(level).map_err(|error| LevelError::Unknown(level.to_owned(), error))?;
        Ok(self.0.reload(filter)?)
    }
}

/// Begin to log. A second call does nothing, and what it gives changes nothing.
pub(super) fn start(log: &Log) -> Handle {
    let filter = filter(&log.level).unwrap_or_else(|_| EnvFilter::new("info")); // validated with the settings
    let (filter, handle) = reload::Layer::new(filter);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines).with_ansi(colour);
    let subscriber = tracing_subscriber::registry().with(filter);
    let _ = match log.format {
        LogFormat::Text => subscriber.with(lines.with_target(false)).try_init(),
        LogFormat::Json => subscriber.with(lines.json().flatten_event(true)).try_init(),
    };
    Handle(handle)
}

fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let mut filter = EnvFilter::try_new(level)?;
    for quiet in QUIET.iter().filter_map(|directive| directive.parse().ok()) {
        filter = filter.add_directive(quiet);
    }
    Ok(filter)
}

/// What takes secrets out of lines, once it is known.
static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// From now on, take secrets out of the log's lines. A second call does nothing.
pub(super) fn without_secrets(redactor: Redactor) {
    let _ = REDACTOR.set(redactor);
}

/// Lines to stderr. Each comes in one piece. One that can't be written, to a full disk or a closed pipe, is lost without an
/// error: the subscriber would complain of it on stderr, and that would panic in whatever task wrote the line.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = match REDACTOR.get() {
            Some(redactor) => io::stderr().write_all(&redactor.bytes(line)),
            None => io::stderr().write_all(line),
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
