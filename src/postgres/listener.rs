//! One connection that LISTENs, and comes back when it is lost.
//!
//! Notifications are hints: what was notified while the connection was away is gone. So each (re)connection is an
//! event too, upon which a reader looks for itself; and a reader that lagged does the same.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::connect::single;
use super::dial::Driver;
use super::settings::Settings;
use super::telling::Telling;

/// Events that a slow reader may fall behind by before it loses some.
const CAPACITY: usize = 4096;
/// A connection is asked this often whether it still lives, and has as long to answer: a half-open one is just as silent as one
/// on which nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(15);

/// What somebody notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel.
    pub channel: Arc<str>,
    /// The text sent with it; may be empty.
    pub payload: Arc<str>,
}

/// What a reader hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The channels are listened on, since now: anything before may have been missed.
    Listening,
    /// Somebody notified.
    Notified(Notification),
    /// The connection is lost; [`Event::Listening`] follows when it is back.
    Lost,
}

/// Why nothing more will be heard on a connection.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("{1}")]
    Refused(SqlState, String),
    #[error("{0}")]
    Broken(String),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    NoAnswer(Duration),
}

/// Listens on some channels for as long as [`run`](Listener::run) runs.
pub struct Listener {
    settings: Settings,
    listen: String,
    heartbeat: Duration,
    events: broadcast::Sender<Event>,
}

impl Listener {
    /// For these channels; nothing happens before [`run`](Listener::run).
    pub fn new(settings: Settings, channels: &[&str]) -> Listener {
        let listen = channels.iter().map(|channel| format!("LISTEN \"{}\";", channel.replace('"', "\"\""))).collect();
        Listener { settings, listen, heartbeat: HEARTBEAT, events: broadcast::channel(CAPACITY).0 }
    }

    /// Ask the connection this often whether it still lives, in place of every 15 seconds. A dead one is noticed within twice
    /// that time.
    pub fn heartbeat(self, heartbeat: Duration) -> Listener {
        Listener { heartbeat, ..self }
    }

    /// A reader of all events from now on. One that gets `Lagged` must look for itself, as after
    /// [`Event::Listening`].
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Listen until cancelled; reconnects for ever, with growing pauses.
    pub async fn run(self, cancel: CancellationToken) {
        let mut delay = FIRST_DELAY;
        let mut told = Telling::default();
        loop {
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                outcome = single(&self.settings) => outcome,
            };
            match outcome {
                Ok((client, driver)) => {
                    let (listened, why) = self.session(client, driver, &cancel).await;
                    if cancel.is_cancelled() {
                        return;
                    }
                    if listened {
                        delay = FIRST_DELAY;
                        self.send(Event::Lost);
                    }
                    if told.is_due() {
                        tracing::warn!(reason = why, "the listening connection is lost, connecting again");
                    }
                }
                Err(error) if told.is_due() => log_failure(&error),
                Err(error) => tracing::debug!(%error, "can't listen yet, trying again"),
            }
            let pause = delay.mul_f64(rand::random_range(0.5..1.5));
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep(pause) => {}
            }
            delay = (delay * 2).min(LAST_DELAY);
        }
    }

    /// One connection's life: whether it came to listen, and why it ended.
    async fn session(
        &self,
        client: tokio_postgres::Client,
        driver: Driver,
        cancel: &CancellationToken,
    ) -> (bool, String) {
        let mut listened = false;
        let mut driver = pin!(self.drive(driver));
        let work = async {
            // A pooler's or server's limit on statements must not end a session that is meant to be idle.
            let listen = format!("{}; {}", self.settings.peer_setup(), self.listen);
            let setup = format!("SET idle_session_timeout = 0; {listen}");
            match self.ask(&client, &setup).await {
                // Before PostgreSQL 14 there is no such setting.
                Err(Silence::Refused(SqlState::UNDEFINED_OBJECT, _)) => {
                    if let Err(silence) = self.ask(&client, &listen).await {
                        return silence.to_string();
                    }
                }
                Err(silence) => return silence.to_string(),
                Ok(()) => {}
            }
            listened = true;
            self.send(Event::Listening);
            loop {
                sleep(self.heartbeat).await;
                if let Err(silence) = self.ask(&client, "SELECT 1").await {
                    return silence.to_string();
                }
            }
        };
        let why = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            why = &mut driver => Some(why),
            why = work => Some(why),
        };
        drop(client);
        let why = match why {
            Some(why) => why,
            // With its client gone the driver says goodbye to the server and ends.
            None => timeout(Duration::from_secs(1), driver).await.unwrap_or_default(),
        };
        (listened, why)
    }

    /// Have statements run, in the time of a heartbeat. The answer is read by [`drive`](Listener::drive), which is polled besides.
    async fn ask(&self, client: &tokio_postgres::Client, sql: &str) -> Result<(), Silence> {
        match timeout(self.heartbeat, client.batch_execute(sql)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match error.code() {
                Some(code) => Silence::Refused(code.clone(), error.to_string()),
                None => Silence::Broken(error.to_string()),
            }),
            Err(_) => Err(Silence::NoAnswer(self.heartbeat)),
        }
    }

    /// Read what the server sends until the connection ends; why it ended.
    async fn drive(&self, mut driver: Driver) -> String {
        loop {
            match poll_fn(|context| driver.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => self.send(Event::Notified(Notification {
                    channel: notification.channel().into(),
                    payload: notification.payload().into(),
                })),
                Some(Ok(_)) => {} // notices
                Some(Err(error)) => return error.to_string(),
                None => return "closed by the server".to_owned(),
            }
        }
    }

    fn send(&self, event: Event) {
        let _ = self.events.send(event); // nobody listens at the moment
    }
}

fn log_failure(error: &Error) {
    if error.is_transient() {
        tracing::warn!(%error, "can't listen yet, trying again");
    } else {
        tracing::error!(%error, "can't listen, trying again");
    }
}
