//! The event stream: the engine's events, written in order; those that are ready together go in one checkpoint.

use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::{
    durable::{Appender, DurableError},
    flow::Event,
};

/// Key of the stream.
pub(super) const STREAM: &str = "events";
/// Events that the engine may be ahead of the database; beyond it, the engine waits.
pub(super) const AHEAD: usize = 256;
/// Bytes in one checkpoint, so that events with large values don't make huge transactions.
const BATCH_BYTES: usize = 4 << 20;

/// Write events until the engine has ended. On return all of them are durable, but for the last ones, which go with the
/// step's end: what a short run has to say is written once, with its outcome.
pub(super) async fn publish(
    mut events: mpsc::Receiver<Event>,
    execution: Arc<str>,
    appender: &mut Appender,
) -> Result<(), DurableError> {
    while let Some(first) = events.recv().await {
        let since = first.timestamp;
        let mut bytes = 0;
        let mut values = Vec::new();
        let mut next = Ok(first);
        while let Ok(event) = next {
            let value = row(&event, &execution);
            bytes += value.len();
            values.push(value);
            next = if bytes < BATCH_BYTES { events.try_recv() } else { Err(TryRecvError::Empty) };
        }
        if next.is_err_and(|error| error == TryRecvError::Disconnected) {
            appender.append_later(values, since);
        } else {
            appender.append(values, since).await?;
        }
    }
    Ok(())
}

/// An event as a value of the stream.
pub(super) fn row(event: &Event, execution: &str) -> String {
    event.stream_value(execution, jiff::Timestamp::now().as_millisecond())
}
