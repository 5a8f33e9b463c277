//! A response: its head, and a body that is read in pieces, within limits of size and time, and without secrets.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName};
use tokio::time::{Instant, timeout_at};

use super::OutboundError;
use crate::nodes::secrets::{Redactor, Scrubber};

/// How much, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub body: u64,
    pub headers: u64,
    pub time: Duration,
    pub until: Instant,
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    response: reqwest::Response,
    host: String,
    limits: Limits,
    taken: u64,
    redactor: Redactor,
    scrubber: Scrubber,
    ended: bool,
}

impl Reply {
    pub(super) fn new(
        response: reqwest::Response,
        host: String,
        limits: Limits,
        redactor: Redactor,
    ) -> Result<Reply, OutboundError> {
        let headers = response.headers();
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size as u64 > limits.headers {
            return Err(OutboundError::HeadersTooLarge { host, limit: limits.headers });
        }
        let scrubber = redactor.stream();
        Ok(Reply { response, host, limits, taken: 0, redactor, scrubber, ended: false })
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header's text without secrets; none when the header isn't there or is no text.
    pub fn header(&self, name: &HeaderName) -> Option<String> {
        let value = self.response.headers().get(name)?.to_str().ok()?;
        Some(self.redactor.text(value).into_owned())
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The body's next piece without secrets; none at its end.
    ///
    /// # Errors
    /// The body grows beyond the limit, the attempt's time is over, or the network fails.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, OutboundError> {
        let read = self.read().await;
        read.map_err(|error| error.without_secrets(&self.redactor))
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, OutboundError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            // A server that says beforehand how much it will be isn't listened to.
            let announced = self.response.content_length().unwrap_or(0);
            if announced > self.limits.body {
                return Err(self.too_large());
            }
            let Ok(chunk) = timeout_at(self.limits.until, self.response.chunk()).await else {
                return Err(OutboundError::TimedOut { host: self.host.clone(), limit: self.limits.time });
            };
            let chunk = chunk.map_err(|error| OutboundError::of(&error, &self.host))?;
            let clean = match chunk {
                Some(chunk) => {
                    self.taken += chunk.len() as u64;
                    if self.taken > self.limits.body {
                        return Err(self.too_large());
                    }
                    self.scrubber.push(&chunk)
                }
                None => {
                    self.ended = true;
                    self.scrubber.finish()
                }
            };
            if !clean.is_empty() {
                return Ok(Some(clean));
            }
        }
    }

    fn too_large(&self) -> OutboundError {
        OutboundError::ResponseTooLarge { host: self.host.clone(), limit: self.limits.body }
    }
}
