//! Reads that wait for a database that is away, until the workflow has to stop.

use std::time::Duration;

use crate::{
    durable::{Control, DurableError},
    sysdb::SysdbError,
};

/// Pause before trying again: doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Errors that may go away by waiting.
pub(super) trait Transient {
    /// Whether this one may.
    fn is_transient(&self) -> bool;
}

impl Transient for SysdbError {
    fn is_transient(&self) -> bool {
        SysdbError::is_transient(self)
    }
}

impl Transient for super::FlowsError {
    fn is_transient(&self) -> bool {
        matches!(self, super::FlowsError::Database(error) if error.is_transient())
    }
}

/// Try until it works, fails for good, or the workflow has to stop.
pub(super) async fn patiently<T, E, F>(
    control: &Control,
    mut attempt: impl FnMut() -> F,
) -> Result<Result<T, E>, DurableError>
where
    E: Transient + std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = BACKOFF.0;
    loop {
        // Also out of a question that nobody answers: a lost lease doesn't wait for it.
        let answer = tokio::select! {
            biased;
            answer = attempt() => answer,
            stop = control.stopped() => return Err(DurableError::Stopped(stop)),
        };
        let error = match answer {
            Err(error) if error.is_transient() => error,
            answer => return Ok(answer),
        };
        tracing::debug!(%error, "the database is away; trying again");
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))) => {}
            stop = control.stopped() => return Err(DurableError::Stopped(stop)),
        }
        pause = (pause * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::Stop;

    #[tokio::test]
    async fn a_question_that_nobody_answers_ends_with_the_stop() {
        let control = Control::default();
        let unanswered = patiently(&control, std::future::pending::<Result<(), SysdbError>>);
        let stop = async { control.stop(Stop::HandBack) };
        let (answer, ()) = tokio::join!(unanswered, stop);
        assert!(matches!(answer, Err(DurableError::Stopped(Stop::HandBack))));
    }
}
