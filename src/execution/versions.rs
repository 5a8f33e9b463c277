//! The content that each unfinished execution began with, so that an edit of its flow changes nothing for it.
//!
//! The flows table holds only the newest document, and is shared with Fireflow's server. So an execution's first checkpoint
//! writes which content it runs (`<prefix>flow_pins`), and the content itself (`<prefix>flow_versions`) unless it is known
//! to be there. The pin goes with the record of the end; the content goes when it is neither pinned nor was used for a day.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use super::cache::{FlowCache, Key};
use super::flows::{FlowsError, StoredFlow, parsed};
use crate::{
    nodes::Registry,
    postgres::{Pool, Statements},
    sysdb::{ApplicationWrite, SysdbError, SystemDatabase, WorkflowId, schema::Prefix},
};

/// A content that was stored is not sent again for so long. Far below the day after which an unused one may go, so that no
/// pin points to one that is gone.
const TRUST: Duration = Duration::from_secs(600);
/// Contents that are remembered as stored.
const REMEMBERED: usize = 1024;
/// Rows that one sweep looks at.
const SWEEP: i64 = 500;

/// Contents of flows, and who began with which. Cheap to clone.
#[derive(Clone)]
pub struct FlowVersions {
    pool: Pool,
    registry: Arc<Registry>,
    cache: Arc<FlowCache>,
    contents: String,
    pins: String,
    insert_content: Arc<str>,
    pin: Arc<str>,
    /// Contents that are stored, and since when that is known.
    stored: Arc<Mutex<HashMap<Arc<str>, Instant>>>,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Pins of executions that have ended.
    pub pins: u64,
    /// Contents.
    pub contents: u64,
}

impl FlowVersions {
    pub(super) fn new(pool: Pool, prefix: &Prefix, registry: Arc<Registry>, cache: Arc<FlowCache>) -> FlowVersions {
        let (contents, pins) = (prefix.table("flow_versions"), prefix.table("flow_pins"));
        FlowVersions {
            // In the order of the hashes, so that two workers can't deadlock.
            insert_content: format!(
                "INSERT INTO {contents} AS c (hash, flow_id, version, data)
                 SELECT DISTINCT ON (r.hash) r.hash, r.flow_id, r.version, r.data::jsonb
                   FROM jsonb_to_recordset($1) AS r(hash text, flow_id text, version integer, data text)
                  ORDER BY r.hash
                 ON CONFLICT (hash) DO UPDATE SET used_at = now() WHERE c.used_at < now() - interval '1 minute'"
            )
            .into(),
            // A workflow that begins and ends in one transaction needs no pin.
            pin: format!(
                "WITH r AS (SELECT * FROM jsonb_to_recordset($1) AS r(id text, hash text)),
                 gone AS (DELETE FROM {pins} WHERE workflow_id = ANY (ARRAY(SELECT id FROM r WHERE hash IS NULL)))
                 INSERT INTO {pins} (workflow_id, hash) SELECT r.id, r.hash FROM r WHERE r.hash IS NOT NULL ORDER BY r.id
                 ON CONFLICT (workflow_id) DO UPDATE SET hash = EXCLUDED.hash, pinned_at = now()"
            )
            .into(),
            pool,
            registry,
            cache,
            contents,
            pins,
            stored: Arc::default(),
        }
    }

    /// What the first checkpoint of a workflow that runs this flow writes, besides all else.
    pub fn pin(&self, workflow: &str, flow: &StoredFlow) -> Vec<ApplicationWrite> {
        let mut writes = vec![self.pin_stored(workflow, flow)];
        if !self.is_stored(&flow.hash) {
            let row = json!({
                "hash": &*flow.hash, "flow_id": &*flow.id, "version": flow.version, "data": &*flow.document,
            });
            writes.push(ApplicationWrite { statement: self.insert_content.clone(), row, merges: false });
        }
        writes
    }

    /// As [`pin`](FlowVersions::pin), where the content is stored for certain: its parent has a pin.
    pub fn pin_stored(&self, workflow: &str, flow: &StoredFlow) -> ApplicationWrite {
        self.pinned(json!({"id": workflow, "hash": &*flow.hash}))
    }

    /// The checkpoint that was begun at `began` is durable.
    pub fn has_stored(&self, flow: &StoredFlow, began: Instant) {
        let mut stored = self.lock();
        if stored.len() >= REMEMBERED {
            stored.retain(|_, since| since.elapsed() < TRUST);
        }
        if stored.len() >= REMEMBERED {
            stored.clear(); // they are sent once more, which does no harm
        }
        stored.entry(flow.hash.clone()).or_insert(began);
    }

    /// Whether it is known to be stored, and will be for a while.
    pub fn is_stored(&self, hash: &str) -> bool {
        let mut stored = self.lock();
        let known = stored.get(hash).is_some_and(|since| since.elapsed() < TRUST);
        if !known {
            stored.remove(hash);
        }
        known
    }

    /// What the last checkpoint of a workflow writes.
    pub fn unpin(&self, workflow: &str) -> ApplicationWrite {
        self.pinned(json!({"id": workflow, "hash": null}))
    }

    fn pinned(&self, row: serde_json::Value) -> ApplicationWrite {
        ApplicationWrite { statement: self.pin.clone(), row, merges: true }
    }

    /// A content by its hash; `None` when it is gone.
    ///
    /// # Errors
    /// [`FlowsError`]: not loadable, or the database.
    pub async fn content(&self, hash: &str) -> Result<Option<StoredFlow>, FlowsError> {
        let key = Key::Content(hash.to_owned());
        if let Some((_, flow)) = self.cache.get(&key) {
            return Ok(Some(flow));
        }
        let row = {
            let client = self.pool.get().await.map_err(SysdbError::from)?;
            let sql = format!("SELECT flow_id, version, data::text FROM {} WHERE hash = $1", self.contents);
            client.query_opt(&sql, &[&hash]).await.map_err(SysdbError::from)?
        };
        let Some(row) = row else { return Ok(None) };
        let id: String = row.try_get(0).map_err(SysdbError::from)?;
        let document: String = row.try_get(2).map_err(SysdbError::from)?;
        let version = row.try_get(1).map_err(SysdbError::from)?;
        let flow = parsed(&id, version, hash.into(), document.into(), &self.registry)?;
        self.cache.put(key, String::new(), &flow);
        Ok(Some(flow))
    }

    /// The content that a version of a flow had, if it is still there: the one used last.
    ///
    /// # Errors
    /// [`FlowsError`]: not loadable, or the database.
    pub async fn version(&self, flow: &str, version: i64) -> Result<Option<StoredFlow>, FlowsError> {
        let hash: Option<String> = {
            let client = self.pool.get().await.map_err(SysdbError::from)?;
            let sql = format!(
                "SELECT hash FROM {} WHERE flow_id = $1 AND version = $2::bigint ORDER BY used_at DESC LIMIT 1",
                self.contents
            );
            let row = client.query_opt(&sql, &[&flow, &version]).await.map_err(SysdbError::from)?;
            row.map(|row| row.try_get(0)).transpose().map_err(SysdbError::from)?
        };
        match hash {
            Some(hash) => self.content(&hash).await,
            None => Ok(None),
        }
    }

    /// Remove what nobody needs: pins older than a day whose workflow has succeeded, failed or is gone (one that was cancelled
    /// or parked may be resumed, however late), and contents without a pin that were not used for a day. A few hundred rows a call; `after` is
    /// where the next one goes on.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep(&self, sysdb: &SystemDatabase, after: &mut String) -> Result<Swept, SysdbError> {
        let client = self.pool.get().await?;
        let sql = format!(
            "SELECT workflow_id FROM {} WHERE workflow_id > $1 AND pinned_at < now() - interval '1 day'
              ORDER BY workflow_id LIMIT $2",
            self.pins
        );
        let rows = client.query(&sql, &[after, &SWEEP]).await?;
        let old = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let full = i64::try_from(old.len()).unwrap_or(SWEEP) >= SWEEP;
        *after = old.last().filter(|_| full).cloned().unwrap_or_default();
        drop(client); // the next question needs a connection as well
        let old: Vec<WorkflowId> = old.into_iter().map(WorkflowId::new).collect();
        let ended = if old.is_empty() { Vec::new() } else { sysdb.ended_for_good(&old).await? };
        let ended: Vec<&str> = ended.iter().map(WorkflowId::as_str).collect();

        let client = self.pool.get().await?;
        let mut swept = Swept::default();
        if !ended.is_empty() {
            let sql = format!(
                "DELETE FROM {} WHERE workflow_id = ANY($1) AND pinned_at < now() - interval '1 day'",
                self.pins
            );
            swept.pins = client.execute(&sql, &[&ended]).await?;
        }
        let sql = format!(
            "DELETE FROM {contents} WHERE hash IN (
                 SELECT hash FROM {contents} c
                  WHERE used_at < now() - interval '1 day' AND NOT EXISTS (SELECT FROM {pins} p WHERE p.hash = c.hash)
                  ORDER BY used_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
            contents = self.contents,
            pins = self.pins
        );
        swept.contents = client.execute(&sql, &[&SWEEP]).await?;
        Ok(swept)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Instant>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner) // whole after each change
    }
}
