//! Log lines: text or JSON on stderr, or entries in the system's journal. What is logged can be changed while the program runs.
//!
//! Secrets are taken out at the last moment, in each of the forms. That is why the journal's protocol is spoken here
//! (`journal.rs`) and not by a library: those send what they are given.

mod fields;
mod journal;
mod lines;
mod record;

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt,
    layer::{Context, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use self::{journal::Journal, lines::Lines, record::Structured};
use crate::{
    config::{Log, LogFormat},
    nodes::secrets::Redactor,
};

/// What stays out of the log, whatever is asked: targets that begin so say no more than this. At debug, the database driver
/// logs the parameters of every statement, and the HTTP libraries the headers of requests: inputs, results, secrets. The
/// pool complains of each connection that an outage broke; we say once that the database is away.
const QUIET: [(&str, LevelFilter); 5] = [
    ("tokio_postgres", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO), // and hyper_util
    ("reqwest", LevelFilter::INFO),
    ("deadpool", LevelFilter::ERROR),
];

/// Keeps them out. Not by directives of the filter that is asked for: there, longer targets and spans win over these.
struct Ceiling;

impl Ceiling {
    fn allows(about: &Metadata<'_>) -> bool {
        let most = QUIET.iter().find(|(target, _)| about.target().starts_with(target));
        most.is_none_or(|(_, most)| about.level() <= most)
    }
}

impl<S: Subscriber> Layer<S> for Ceiling {
    fn register_callsite(&self, about: &'static Metadata<'static>) -> Interest {
        if Ceiling::allows(about) { Interest::always() } else { Interest::never() }
    }

    // Also for lines of libraries that log by another interface, which have no place of their own.
    fn enabled(&self, about: &Metadata<'_>, _: Context<'_, S>) -> bool {
        Ceiling::allows(about)
    }
}

/// Changes what is logged. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Handle(reload::Handle<EnvFilter, Registry>);

/// The level can't be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LevelError {
    /// It is none.
    #[error("log.level \"{level}\": {why}; expected error, warn, info, debug, trace or directives")]
    Unknown {
        /// What was asked for.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else's log is in use.
    #[error("the log isn't this program's own: {0}")]
    NotOurs(String),
}

impl Handle {
    /// From now on, log what `level` says: a level, or directives as in `log.level`.
    ///
    /// # Errors
    /// [`LevelError`]; then everything stays as it was.
    pub(super) fn set_level(&self, level: &str) -> Result<(), LevelError> {
        let filter =
            filter(level).map_err(|error| LevelError::Unknown { level: level.to_owned(), why: error.to_string() })?;
        self.0.reload(filter).map_err(|error| LevelError::NotOurs(error.to_string()))
    }
}

/// Begin to log. A second call does nothing, and neither does its handle.
pub(super) fn start(log: &Log) -> Handle {
    let level = filter(&log.level).unwrap_or_else(|_| EnvFilter::new("info")); // validated with the settings
    let (level, handle) = reload::Layer::new(level);
    let log_to_journal = lines::is_the_journal(&io::stderr());
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = || fmt::layer().with_target(false).with_ansi(colour);
    let layer = match log.format {
        // The journal has the time, and takes the level from the line's beginning.
        LogFormat::Text if log_to_journal => {
            text().without_time().with_ansi(false).with_writer(Lines::with_priorities()).boxed()
        }
        LogFormat::Text => text().with_writer(Lines::plain(colour)).boxed(),
        LogFormat::Json => Structured::json().boxed(),
        LogFormat::Journald => Structured::journal(Journal::open(journal::SOCKET, log_to_journal)).boxed(),
    };
    let _ = tracing_subscriber::registry().with(level).with(Ceiling).with(layer).try_init();
    Handle(handle)
}

fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(level)
}

/// What takes secrets out of lines, once it is known.
static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// From now on, take secrets out of the log's lines. A second call does nothing.
pub(super) fn without_secrets(redactor: Redactor) {
    let _ = REDACTOR.set(redactor);
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Kept {
        type Writer = Kept;

        fn make_writer(&self) -> Kept {
            self.clone()
        }
    }

    #[test]
    fn the_level_changes_while_it_is_logged_and_a_bad_one_changes_nothing() {
        let kept = Kept::default();
        let (level, handle) = reload::Layer::new(filter("warn").unwrap());
        let handle = Handle(handle);
        let subscriber =
            tracing_subscriber::registry().with(level).with(Ceiling).with(fmt::layer().with_writer(kept.clone()));
        let said = || String::from_utf8(std::mem::take(&mut *kept.0.lock().unwrap())).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let say = || {
                tracing::info!("one");
                tracing::debug!(target: "tokio_postgres", "two");
            };
            say();
            assert_eq!(said(), "");
            handle.set_level("debug").unwrap();
            say();
            let text = said();
            assert!(text.contains("one") && !text.contains("two"), "the driver tells parameters at debug: {text}");
            let error = handle.set_level("fireflow=loud").unwrap_err().to_string();
            assert!(error.contains("\"fireflow=loud\""), "{error}");
            say();
            assert!(said().contains("one"));
            // Neither a longer target nor a span lets through what has values in it.
            for level in ["info,tokio_postgres::query=debug", "info,[execution]=trace", "trace,deadpool.postgres=warn"]
            {
                handle.set_level(level).unwrap();
                tracing::error_span!("execution").in_scope(|| {
                    tracing::debug!(target: "tokio_postgres::query", "two");
                    tracing::trace!(target: "hyper_util::client", "two");
                    tracing::warn!(target: "deadpool.postgres", "two");
                    tracing::info!(target: "tokio_postgres::query", "three");
                });
                let text = said();
                assert!(text.contains("three") && !text.contains("two"), "{level}: {text}");
            }
            handle.set_level("error").unwrap();
            say();
            assert_eq!(said(), "");
        });
        let error = handle.set_level("info").unwrap_err();
        assert!(matches!(error, LevelError::NotOurs(_)), "the subscriber is gone: {error}");
    }
}
