//! How statements are sent. The one way for all of them: nothing outside of this folder prepares statements.
//!
//! On a connection of its own a statement is prepared once and kept. Behind a pooler in transaction mode there is no such
//! connection: between two transactions the server's end changes, and with it all that was prepared under a name. There a statement
//! goes out whole each time, without a name, in one message. The types of its parameters are stated in both, so that both
//! say the same to the server, and nothing has to be asked first.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use deadpool_postgres::{ClientWrapper, Object, PoolError};
use futures_util::{
    FutureExt as _,
    future::{join_all, try_join_all},
    poll,
};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, Error, IsolationLevel, Row};

use super::pooler::Pooling;
use crate::metrics::{Connections, PoolUse};

/// A Rust type that stands for one SQL type.
pub trait SqlType {
    /// The SQL type.
    const TYPE: Type;
}

/// A type that arrays are made of.
pub trait Element {
    /// The type of such an array.
    const ARRAY: Type;
}

macro_rules! types {
    ($($rust:ty: $one:ident, $many:ident;)*) => {$(
        impl SqlType for $rust {
            const TYPE: Type = Type::$one;
        }
        impl Element for $rust {
            const ARRAY: Type = Type::$many;
        }
    )*};
}

types! {
    bool: BOOL, BOOL_ARRAY;
    i32: INT4, INT4_ARRAY;
    i64: INT8, INT8_ARRAY;
    f64: FLOAT8, FLOAT8_ARRAY;
    str: TEXT, TEXT_ARRAY;
    String: TEXT, TEXT_ARRAY;
    uuid::Uuid: UUID, UUID_ARRAY;
    serde_json::Value: JSONB, JSONB_ARRAY;
}

impl<T> SqlType for Json<T> {
    const TYPE: Type = Type::JSONB;
}

impl<T: SqlType + ?Sized> SqlType for &T {
    const TYPE: Type = T::TYPE;
}

impl<T: Element + ?Sized> Element for &T {
    const ARRAY: Type = T::ARRAY;
}

impl<T: SqlType> SqlType for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: Element> Element for Option<T> {
    const ARRAY: Type = T::ARRAY;
}

impl<T: Element> SqlType for [T] {
    const TYPE: Type = T::ARRAY;
}

impl<T: Element> SqlType for Vec<T> {
    const TYPE: Type = T::ARRAY;
}

/// A value for a statement: one that knows its type.
pub trait Parameter: ToSql + Sync {
    /// Its type.
    fn sql_type(&self) -> Type;
    /// As the driver takes it.
    fn as_sql(&self) -> &(dyn ToSql + Sync);
}

impl<T: SqlType + ToSql + Sync> Parameter for T {
    fn sql_type(&self) -> Type {
        T::TYPE
    }

    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        self
    }
}

/// Values for `$1`, `$2` and so on.
pub type Parameters<'a> = [&'a dyn Parameter];

fn types(parameters: &Parameters<'_>) -> Vec<Type> {
    parameters.iter().map(|parameter| parameter.sql_type()).collect()
}

fn values<'a>(parameters: &Parameters<'a>) -> Vec<&'a (dyn ToSql + Sync)> {
    parameters.iter().map(|parameter| parameter.as_sql()).collect()
}

fn typed<'a>(parameters: &Parameters<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|parameter| (parameter.as_sql(), parameter.sql_type())).collect()
}

/// What statements are sent on: a connection or a transaction.
///
/// The driver's own connections and transactions send them without a name, whatever stands in between: that is for what is
/// sent seldom, and for what has to work before it is known whether there is a pooler.
pub trait Statements: Sync {
    /// All rows of a statement.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    fn query(&self, sql: &str, parameters: &Parameters<'_>) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;

    /// Its one row.
    ///
    /// # Errors
    /// As [`query`](Statements::query), and another number of rows.
    fn query_one(&self, sql: &str, parameters: &Parameters<'_>) -> impl Future<Output = Result<Row, Error>> + Send;

    /// Its one row, if there is one.
    ///
    /// # Errors
    /// As [`query`](Statements::query), and more than one row.
    fn query_opt(
        &self,
        sql: &str,
        parameters: &Parameters<'_>,
    ) -> impl Future<Output = Result<Option<Row>, Error>> + Send;

    /// How many rows it changed.
    ///
    /// # Errors
    /// As [`query`](Statements::query).
    fn execute(&self, sql: &str, parameters: &Parameters<'_>) -> impl Future<Output = Result<u64, Error>> + Send;
}

macro_rules! unnamed {
    ($what:ty) => {
        impl Statements for $what {
            async fn query(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>, Error> {
                self.query_typed(sql, &typed(parameters)).await
            }

            async fn query_one(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Row, Error> {
                self.query_typed_one(sql, &typed(parameters)).await
            }

            async fn query_opt(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Option<Row>, Error> {
                self.query_typed_opt(sql, &typed(parameters)).await
            }

            async fn execute(&self, sql: &str, parameters: &Parameters<'_>) -> Result<u64, Error> {
                self.execute_typed(sql, &typed(parameters)).await
            }
        }
    };
}

unnamed!(Client);
unnamed!(tokio_postgres::Transaction<'_>);

/// A prepared statement that is gone, or there already, belongs to another session than we think that we have.
fn suspect(error: &Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let strange = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
    if error.code().is_some_and(|code| strange.contains(code)) && !TOLD.swap(true, Ordering::Relaxed) {
        tracing::error!(
            "a prepared statement got lost: a connection pooler in transaction mode seems to stand before the database, and was \
             not recognised at the start; set database.pooler = \"transaction\", or start again (docs/reliability.md#poolers)"
        );
    }
}

macro_rules! by_pooling {
    ($what:ty, $client:ident) => {
        #[expect(clippy::disallowed_methods, reason = "the one place that prepares statements")]
        impl Statements for $what {
            async fn query(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>, Error> {
                match self.pooling {
                    Pooling::None => {
                        let statement = self.$client.prepare_typed_cached(sql, &types(parameters)).await;
                        let statement = statement.inspect_err(suspect)?;
                        self.$client.query(&statement, &values(parameters)).await.inspect_err(suspect)
                    }
                    Pooling::Transaction => self.$client.query_typed(sql, &typed(parameters)).await,
                }
            }

            async fn query_one(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Row, Error> {
                match self.pooling {
                    Pooling::None => {
                        let statement = self.$client.prepare_typed_cached(sql, &types(parameters)).await;
                        let statement = statement.inspect_err(suspect)?;
                        self.$client.query_one(&statement, &values(parameters)).await.inspect_err(suspect)
                    }
                    Pooling::Transaction => self.$client.query_typed_one(sql, &typed(parameters)).await,
                }
            }

            async fn query_opt(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Option<Row>, Error> {
                match self.pooling {
                    Pooling::None => {
                        let statement = self.$client.prepare_typed_cached(sql, &types(parameters)).await;
                        let statement = statement.inspect_err(suspect)?;
                        self.$client.query_opt(&statement, &values(parameters)).await.inspect_err(suspect)
                    }
                    Pooling::Transaction => self.$client.query_typed_opt(sql, &typed(parameters)).await,
                }
            }

            async fn execute(&self, sql: &str, parameters: &Parameters<'_>) -> Result<u64, Error> {
                match self.pooling {
                    Pooling::None => {
                        let statement = self.$client.prepare_typed_cached(sql, &types(parameters)).await;
                        let statement = statement.inspect_err(suspect)?;
                        self.$client.execute(&statement, &values(parameters)).await.inspect_err(suspect)
                    }
                    Pooling::Transaction => self.$client.execute_typed(sql, &typed(parameters)).await,
                }
            }
        }
    };
}

by_pooling!(Session, client);
by_pooling!(Transaction<'_>, client);

/// A pool of connections to one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
    pooling: Pooling,
    metrics: Arc<Connections>,
}

impl Pool {
    pub(super) fn new(inner: deadpool_postgres::Pool, pooling: Pooling, metrics: Arc<Connections>) -> Pool {
        Pool { inner, pooling, metrics }
    }

    /// A free connection, as soon as there is one.
    ///
    /// # Errors
    /// None became free in time, or none could be made.
    pub async fn get(&self) -> Result<Session, PoolError> {
        let began = Instant::now();
        let client = Held::Pooled(self.inner.get().await?);
        self.metrics.wait.took(began.elapsed());
        Ok(Session { client, pooling: self.pooling })
    }

    /// Begin to open so many connections more than there are, for work that is about to come. Those that can't be had now
    /// are made when they are needed.
    pub async fn open_ahead(&self, count: usize) {
        let Ok(idle) = self.inner.get().await else { return };
        let one = |pool: deadpool_postgres::Pool| async move { drop(pool.get().await) };
        let mut more = Box::pin(join_all(vec![self.inner.clone(); count].into_iter().map(one)));
        // Asked for while nothing is idle, so that all of them are new.
        if poll!(&mut more).is_pending() {
            tokio::spawn(more);
        }
        drop(idle);
    }

    /// Who uses it at this moment.
    pub fn usage(&self, purpose: &'static str) -> PoolUse {
        let now = self.inner.status();
        let in_use = now.size.saturating_sub(now.available);
        PoolUse { purpose, limit: now.max_size, in_use, idle: now.available, waiting: now.waiting }
    }

    /// What stands between this pool and the server.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Forget all prepared statements of all connections: they are prepared anew when they are sent again.
    pub fn forget_statements(&self) {
        self.inner.manager().statement_caches.clear();
    }

    /// Close the connections that nobody uses; new ones are made when they are needed.
    pub fn forget_connections(&self) {
        self.inner.retain(|_, _| false);
    }
}

/// A connection of a [`Pool`]; goes back when it is dropped.
pub struct Session {
    client: Held,
    pooling: Pooling,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one")]
enum Held {
    Pooled(Object),
    Taken(Box<ClientWrapper>),
}

impl Deref for Held {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        match self {
            Held::Pooled(client) => client,
            Held::Taken(client) => client,
        }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        match self {
            Held::Pooled(client) => client,
            Held::Taken(client) => client,
        }
    }
}

impl Session {
    /// Begin a transaction; it is rolled back when it is dropped.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let transaction = self.opened();
        transaction.client.batch_execute(begin(None)).await?;
        Ok(transaction)
    }

    /// Begin a transaction with this isolation, else the session's own, and run its first statement: one round trip for both.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub async fn transaction_with(
        &mut self,
        isolation: Option<IsolationLevel>,
        sql: &str,
        parameters: &Parameters<'_>,
    ) -> Result<(Transaction<'_>, Vec<Row>), Error> {
        let (transaction, mut rows) = self.transaction_of(isolation, &[(sql, parameters)]).await?;
        Ok((transaction, rows.pop().unwrap_or_default()))
    }

    /// The same with several statements, one after the other; the rows of each.
    ///
    /// # Errors
    /// Those of the server and of the connection, of the first statement that fails.
    pub async fn transaction_of(
        &mut self,
        isolation: Option<IsolationLevel>,
        statements: &[(&str, &Parameters<'_>)],
    ) -> Result<(Transaction<'_>, Vec<Vec<Row>>), Error> {
        let transaction = self.opened();
        for (sql, parameters) in statements {
            transaction.prepare(sql, parameters).await?;
        }
        // Polled in order, so they are sent in order.
        let all = async {
            let queries = statements.iter().map(|(sql, parameters)| transaction.query(sql, parameters));
            tokio::try_join!(transaction.client.batch_execute(begin(isolation)), try_join_all(queries))
        };
        let ((), rows) = all.await?;
        Ok((transaction, rows))
    }

    /// Open before BEGIN is sent: whoever gives up waiting for its answer leaves no transaction behind.
    fn opened(&mut self) -> Transaction<'_> {
        Transaction { client: &self.client, pooling: self.pooling, open: true }
    }

    /// Take it from its pool for good: it is closed when it is dropped.
    pub fn take(self) -> Session {
        let client = match self.client {
            Held::Pooled(client) => Held::Taken(Box::new(Object::take(client))),
            taken => taken,
        };
        Session { client, pooling: self.pooling }
    }

    /// What stands between it and the server.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }
}

/// The driver's connection, which sends [`Statements`] without a name.
impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

fn begin(isolation: Option<IsolationLevel>) -> &'static str {
    match isolation {
        None => "BEGIN",
        Some(IsolationLevel::RepeatableRead) => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        Some(IsolationLevel::Serializable) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        Some(_) => "BEGIN ISOLATION LEVEL READ COMMITTED", // as PostgreSQL takes READ UNCOMMITTED
    }
}

/// A transaction of a [`Session`]; it is rolled back when it is dropped.
pub struct Transaction<'a> {
    client: &'a ClientWrapper,
    pooling: Pooling,
    open: bool,
}

impl Transaction<'_> {
    /// Where statements are prepared at all, this one is: then it is sent as soon as it is polled.
    ///
    /// # Errors
    /// As [`Statements::query`].
    #[expect(clippy::disallowed_methods, reason = "the one place that prepares statements")]
    pub async fn prepare(&self, sql: &str, parameters: &Parameters<'_>) -> Result<(), Error> {
        if self.pooling == Pooling::None {
            self.client.prepare_typed_cached(sql, &types(parameters)).await.inspect_err(suspect)?;
        }
        Ok(())
    }

    /// Make it durable.
    ///
    /// # Errors
    /// Those of the server; a lost connection leaves open whether it is.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.open = false;
        self.client.batch_execute("COMMIT").await
    }

    /// Undo it.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.open = false;
        self.client.batch_execute("ROLLBACK").await
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // Sent when it is polled first; nobody waits for the answer, but what is sent next comes after it.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}
