//! What stands between us and the server: nothing that matters, or a pooler that gives out the server's connections by the
//! transaction.
//!
//! A pooler in session mode is as good as none: a client keeps one connection to the server for as long as it is there.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Error;
use super::connect::{Target, single};
use super::dial::Spare;
use super::settings::Settings;

/// What may be relied on between two transactions of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The session stays: no pooler, or one in session mode.
    #[default]
    None,
    /// Nothing stays, and notifications don't arrive: a pooler in transaction mode.
    Transaction,
}

/// The setting: what is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooler {
    /// Find out.
    #[default]
    Auto,
    /// No pooler, or one in session mode.
    None,
    /// A pooler in transaction mode.
    Transaction,
}

impl Pooler {
    /// What there is, by the setting or by looking. What it was looked at with are the first connections of pools.
    ///
    /// # Errors
    /// As [`detect`].
    pub async fn resolve(self, settings: &Settings) -> Result<(Pooling, Vec<Spare>), Error> {
        match self {
            Pooler::Auto => look(settings).await,
            Pooler::None => Ok((Pooling::None, Vec::new())),
            Pooler::Transaction => Ok((Pooling::Transaction, Vec::new())),
        }
    }
}

/// A process of a server: several servers behind one address may have the same numbers.
const PROCESS: &str = "SELECT pg_backend_pid() || ' of ' || pg_postmaster_start_time()";

/// Which of two connections is asked next. Each is asked before and after the other, and twice in a row: a pooler that gives its
/// connections out in turn would else give each of ours the same one each time.
const ORDER: [usize; 6] = [0, 1, 1, 0, 0, 1];

/// Find out what stands between us and the server, by two connections at once that ask for the server's process in turn.
/// Without a pooler, or in session mode, each has one of its own and keeps it. In transaction mode an idle one is at once given
/// to the next who asks.
///
/// # Errors
/// No connection, as [`connect`](super::connect()); or a pooler in statement mode, which nobody can work with who needs
/// transactions.
pub async fn detect(settings: &Settings) -> Result<Pooling, Error> {
    Ok(look(settings).await?.0)
}

async fn look(settings: &Settings) -> Result<(Pooling, Vec<Spare>), Error> {
    let target = settings.url.target();
    let limit = settings.connect_timeout;
    let (first, second) = tokio::try_join!(open(settings), open(settings))?;
    let spares = [first, second];
    let mut seen = [None, None];
    for turn in ORDER {
        let process = ask(&spares[turn].client, PROCESS, &target, limit).await?;
        let known = seen[turn].get_or_insert_with(|| process.clone());
        if *known != process || seen[0] == seen[1] {
            transactions(&spares[turn].client, &target, limit).await?;
            return Ok((Pooling::Transaction, spares.into()));
        }
    }
    Ok((Pooling::None, spares.into()))
}

async fn open(settings: &Settings) -> Result<Spare, Error> {
    let (client, driver) = single(settings).await?;
    Ok(Spare::new(client, driver))
}

/// One value, without a statement that would have to be prepared.
async fn ask(client: &Client, sql: &str, target: &Target, limit: Duration) -> Result<Option<String>, Error> {
    let answer = tokio::time::timeout(limit, client.simple_query(sql)).await;
    let Ok(answer) = answer else {
        return Err(Error::Unreachable { target: target.clone(), why: "no answer in time".into() });
    };
    let messages = answer.map_err(|error| Error::of(target, &error))?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Whether the pooler lets transactions through.
async fn transactions(client: &Client, target: &Target, limit: Duration) -> Result<(), Error> {
    match ask(client, "BEGIN", target, limit).await {
        Ok(_) => ask(client, "ROLLBACK", target, limit).await.map(drop),
        Err(error @ Error::Unreachable { .. }) => Err(error),
        Err(error) => Err(Error::Other {
            target: target.clone(),
            why: format!(
                "the connection pooler allows no transactions ({error}); set pool_mode to transaction or session"
            ),
            transient: false,
        }),
    }
}
