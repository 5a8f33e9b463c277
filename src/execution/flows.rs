//! Stored flows, and the parsed ones kept in memory.
//!
//! The cache ([`super::cache`]) is never stale: each load asks the database whether the row is still the one that was parsed (its version
//! and the transaction that wrote it), and gets the document only when it isn't. One round trip either way.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value as Json, json};

use super::cache::{FlowCache, Key};
use super::gather::Gather;
use super::versions::FlowVersions;
use crate::{
    flow::{Flow, LoadError},
    nodes::Registry,
    postgres::{Pool, Statements},
    sysdb::{SysdbError, schema::Prefix},
};

/// A flow that can be run, and the version of its row.
#[derive(Clone)]
pub struct StoredFlow {
    /// The parsed flow.
    pub flow: Arc<Flow>,
    /// The row's id.
    pub id: Arc<str>,
    /// The row's version.
    pub version: i32,
    /// SHA-256 of id, version and document.
    pub hash: Arc<str>,
    /// The document as JSON text.
    pub document: Arc<str>,
}

/// One line of `flow list`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FlowSummary {
    /// Id.
    pub id: String,
    /// Name, from the document.
    pub name: String,
    /// Version of the row.
    pub version: i32,
    /// Number of nodes.
    pub nodes: i64,
    /// Owner.
    pub owner: Option<String>,
    /// When it was created, ISO 8601 in UTC.
    pub created_at: String,
}

/// A flow's row, for who wants to replace it.
#[derive(Clone, Debug)]
pub struct FlowRow {
    /// The stored document.
    pub data: Json,
    /// The row's version.
    pub version: i32,
    /// Owner.
    pub owner: Option<String>,
}

/// A flow can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowsError {
    /// There is none of that id.
    #[error("there is no flow \"{0}\"; `fireflow-worker flow list` shows the ones there are")]
    Unknown(String),
    /// It can't be loaded.
    #[error("flow \"{id}\" can't be loaded: {error}")]
    Unusable {
        /// Which.
        id: String,
        /// Why.
        error: LoadError,
    },
    /// Its document can't even be read: it nests deeper than any editor makes.
    #[error("flow \"{id}\" can't be loaded: {text}")]
    Unreadable {
        /// Which.
        id: String,
        /// Why.
        text: String,
    },
    /// The database.
    #[error(transparent)]
    Database(#[from] SysdbError),
}

/// The flows table.
#[derive(Clone)]
pub struct FlowStore {
    pool: Pool,
    registry: Arc<Registry>,
    table: String,
    cache: Arc<FlowCache>,
    asked: Arc<Gather<String, Option<Newest>>>,
}

/// A flow's row as it is now.
#[derive(Clone)]
struct Newest {
    tag: String,
    version: i32,
    hash: Option<String>,
    /// Unless it is in memory.
    document: Option<Arc<str>>,
}

impl FlowStore {
    /// `<prefix>flows` in this database; at most `capacity` parsed flows are kept.
    pub fn new(pool: Pool, prefix: &Prefix, registry: Arc<Registry>, capacity: usize) -> FlowStore {
        FlowStore {
            pool,
            registry,
            table: prefix.table("flows"),
            cache: Arc::new(FlowCache::new(capacity)),
            asked: Arc::default(),
        }
    }

    /// The contents that executions began with, in the executions' database. They share what is kept in memory.
    pub fn versions(&self, pool: Pool, prefix: &Prefix) -> FlowVersions {
        FlowVersions::new(pool, prefix, self.registry.clone(), self.cache.clone())
    }

    /// A flow by id. Executions that begin at the same moment ask together.
    ///
    /// # Errors
    /// [`FlowsError`]: unknown, not loadable, or the database.
    pub async fn get(&self, id: &str) -> Result<StoredFlow, FlowsError> {
        let key = Key::Newest(id.to_owned());
        let newest = self.asked.get(id.to_owned(), |ids| self.newest(ids)).await?;
        let Some(Newest { tag, version, hash, document }) = newest else {
            return Err(FlowsError::Unknown(id.to_owned()));
        };
        // Another one may have parsed it meanwhile.
        if let Some((known, flow)) = self.cache.get(&key)
            && known == tag
        {
            return Ok(flow);
        }
        let Some((document, hash)) = document.zip(hash) else {
            // The tag matched when it was asked for; it was put out of memory since.
            return Box::pin(self.get(id)).await;
        };
        let flow = parsed(id, version, hash.as_str().into(), document, &self.registry)?;
        self.cache.put(key, tag, &flow);
        Ok(flow)
    }

    /// What the rows of these flows are now; the document only where it isn't the one in memory.
    async fn newest(&self, ids: Vec<String>) -> Result<Vec<Option<Newest>>, SysdbError> {
        let mut different: Vec<&str> = ids.iter().map(String::as_str).collect();
        different.sort_unstable();
        different.dedup();
        let known = |id: &&str| self.cache.get(&Key::Newest((*id).to_owned())).map(|(tag, _)| tag);
        let tags: Vec<Option<String>> = different.iter().map(known).collect();
        let client = self.pool.get().await?;
        let statement = format!(
            "SELECT f.id, f.tag, f.version, f.data::text,
                        encode(sha256(convert_to(concat_ws(E'\\n', f.id, f.version, f.data::text), 'UTF8')), 'hex')
                   FROM (SELECT r.id, tag, version, CASE WHEN tag IS DISTINCT FROM known.tag_there THEN data END AS data
                           FROM unnest($1::text[], $2::text[]) AS known(id, tag_there)
                           JOIN (SELECT id, concat_ws('/', version, xmin, ctid) AS tag, version, data FROM {}
                                  WHERE id = ANY($1)) r USING (id)) f",
            self.table
        );
        let mut found = HashMap::new();
        for row in client.query(&statement, &[&different, &tags]).await? {
            let document: Option<String> = row.try_get(3)?;
            let newest = Newest {
                tag: row.try_get(1)?,
                version: row.try_get(2)?,
                hash: row.try_get(4)?,
                document: document.map(Into::into),
            };
            found.insert(row.try_get::<_, String>(0)?, newest);
        }
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    /// Store a flow document under its id, whatever is there: a new row at version 1, or the next version of the one
    /// there is. Gives the version. One statement: concurrent pushes all count.
    pub async fn push(&self, id: &str, data: &Json, owner: Option<&str>) -> Result<i32, SysdbError> {
        let client = self.pool.get().await?;
        let row = client
            .query_one(
                &format!(
                    "INSERT INTO {} AS f (id, data, owner_id, created_at, updated_at)
                     VALUES ($1, $2, $3, now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc')
                     ON CONFLICT (id) DO UPDATE SET data = {}, owner_id = COALESCE(EXCLUDED.owner_id, f.owner_id),
                        updated_at = EXCLUDED.updated_at, version = f.version + 1
                     RETURNING version",
                    self.table,
                    numbered("EXCLUDED.data")
                ),
                &[&id, data, &owner],
            )
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Store a flow document where there is none of its id yet. Gives its version; none when another one is there.
    ///
    /// One statement, so of several at once exactly one stores: ON CONFLICT waits for the others' rows.
    pub async fn create(&self, id: &str, data: &Json, owner: Option<&str>) -> Result<Option<i32>, SysdbError> {
        let client = self.pool.get().await?;
        let row = client
            .query_opt(
                &format!(
                    "INSERT INTO {} (id, data, owner_id, created_at, updated_at)
                     VALUES ($1, $2, $3, now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc')
                     ON CONFLICT (id) DO NOTHING RETURNING version",
                    self.table
                ),
                &[&id, data, &owner],
            )
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Store a flow document in the place of this version. Gives the new version; none when there is another one by now.
    ///
    /// One statement, so of several at once exactly one stores: the others wait for its row lock and look at the version
    /// again (READ COMMITTED), or would fail to serialise.
    pub async fn replace(
        &self,
        id: &str,
        data: &Json,
        owner: Option<&str>,
        version: i32,
    ) -> Result<Option<i32>, SysdbError> {
        let client = self.pool.get().await?;
        let row = client
            .query_opt(
                &format!(
                    "UPDATE {} AS f SET data = {}, owner_id = COALESCE($3, f.owner_id),
                        updated_at = now() AT TIME ZONE 'utc', version = f.version + 1
                      WHERE id = $1 AND version = $4 RETURNING version",
                    self.table,
                    numbered("$2::jsonb")
                ),
                &[&id, data, &owner, &version],
            )
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// A flow's row as it is, usable or not.
    pub async fn row(&self, id: &str) -> Result<Option<FlowRow>, SysdbError> {
        let client = self.pool.get().await?;
        let row = client
            .query_opt(&format!("SELECT data, version, owner_id FROM {} WHERE id = $1", self.table), &[&id])
            .await?;
        let read = |row: tokio_postgres::Row| {
            Ok(FlowRow { data: row.try_get(0)?, version: row.try_get(1)?, owner: row.try_get(2)? })
        };
        row.map(read).transpose()
    }

    /// Whether the stored document is this one, so that a push would only count the version up.
    pub async fn holds(&self, id: &str, data: &Json) -> Result<bool, SysdbError> {
        let client = self.pool.get().await?;
        let row =
            client.query_opt(&format!("SELECT data = $2 FROM {} WHERE id = $1", self.table), &[&id, data]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
    }

    /// All flows, by name.
    pub async fn list(&self) -> Result<Vec<FlowSummary>, SysdbError> {
        let client = self.pool.get().await?;
        let rows = client
            .query(
                &format!(
                    "SELECT id, COALESCE(data #>> '{{metadata,name}}', ''), version,
                            CASE WHEN jsonb_typeof(data -> 'nodes') = 'array' THEN jsonb_array_length(data -> 'nodes') ELSE 0 END::bigint,
                            owner_id, to_char(created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
                       FROM {} ORDER BY 2, 1",
                    self.table
                ),
                &[],
            )
            .await?;
        let read = |row: &tokio_postgres::Row| {
            Ok(FlowSummary {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                version: row.try_get(2)?,
                nodes: row.try_get(3)?,
                owner: row.try_get(4)?,
                created_at: row.try_get(5)?,
            })
        };
        rows.iter().map(read).collect()
    }
}

/// A flow of its document.
pub(super) fn parsed(
    id: &str,
    version: i32,
    hash: Arc<str>,
    document: Arc<str>,
    registry: &Registry,
) -> Result<StoredFlow, FlowsError> {
    let data: Json = serde_json::from_str(&document)
        .map_err(|error| FlowsError::Unreadable { id: id.to_owned(), text: error.to_string() })?;
    let loaded = Flow::load(&data, registry).map_err(|error| FlowsError::Unusable { id: id.to_owned(), error })?;
    for problem in &loaded.problems {
        tracing::warn!(flow = id, %problem, "the flow has a problem; the rest of it runs");
    }
    Ok(StoredFlow { flow: loaded.flow, id: id.into(), version, hash, document })
}

/// A document whose note on who pushed it, where it has one, names the version that the row gets.
fn numbered(data: &str) -> String {
    format!(
        "CASE WHEN jsonb_typeof({data} #> '{{metadata,pushed}}') = 'object'
              THEN jsonb_set({data}, '{{metadata,pushed,version}}', to_jsonb(f.version + 1)) ELSE {data} END"
    )
}

/// The metadata that a stored document carries, for events before the flow is loaded.
impl StoredFlow {
    /// Owner of the flow; where there is none, the text that the server's own worker writes.
    pub fn owner(&self) -> String {
        self.flow.owner_id().unwrap_or("undefined").to_owned()
    }
}

impl std::fmt::Debug for StoredFlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&json!({"id": self.flow.id(), "version": self.version}).to_string())
    }
}
