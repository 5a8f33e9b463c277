//! Where the schema stands: looked at when it is first used, and again once a second, since others bring it forward.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use super::{SysdbError, SystemDatabase, layout::Layout, schema};
use crate::postgres::{Session, Statements};

/// The level of a system schema, and what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The recorded level.
    pub level: i64,
    layout: Layout,
}

impl Standing {
    pub(super) fn layout(self) -> Layout {
        self.layout
    }

    /// Whether inputs and results have tables of their own. Where they have none, all clients are of the earlier generation.
    pub fn has_payload_tables(self) -> bool {
        self.layout.has_payload_tables()
    }

    /// Who can't work on a schema like this, and what helps; `None` for one that all can work on.
    pub fn shortfall(self) -> Option<String> {
        if self.layout == Layout::NEWEST {
            return None;
        }
        let whom = if self.has_payload_tables() {
            "clients of TypeScript SDK 5.2, Python 3.2 and later fail there, since columns are missing"
        } else {
            "it is served as clients and workers of TypeScript SDK 4, Python 2 and Rust 0.5 know it; clients of TypeScript \
             SDK 5 and Python 3 fail there, since tables and columns are missing, and workers of theirs bring it forward \
             when they start"
        };
        Some(format!(
            "the system schema is at level {}: {whom}. Bring it to level {} with fireflow-worker migrate, once no worker of an \
             older SDK needs it (docs/schema.md)",
            self.level,
            schema::BASELINE_LEVEL
        ))
    }
}

/// What is known of it, shared by all that use the schema.
#[derive(Default)]
pub(super) struct Known {
    standing: RwLock<Option<Standing>>,
    told_of_rights: AtomicBool,
}

impl Known {
    pub fn get(&self) -> Option<Standing> {
        *self.standing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, standing: Standing) {
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }
}

/// What statements do with the tables that level 109 adds.
const RIGHTS: &str = "
SELECT bool_and(has_table_privilege('{s}.' || needed.name, needed.wanted))
  FROM (VALUES ('workflow_input', 'SELECT'), ('workflow_input', 'INSERT'), ('workflow_output', 'SELECT'),
               ('workflow_output', 'INSERT'), ('workflow_output', 'UPDATE')) AS needed(name, wanted)";

impl SystemDatabase {
    /// Where the schema stands, as far as is known; `None` while there is no schema.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn standing(&self) -> Result<Option<Standing>, SysdbError> {
        let client = self.client().await?;
        drop(client); // it was only asked where the schema stands
        Ok(self.standing.get())
    }

    /// Look at the schema again. Whether its layout has changed; then statements are composed anew.
    ///
    /// While its level is the known one this is a look at one row.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn look_again(&self) -> Result<bool, SysdbError> {
        let client = self.pool.get().await?;
        if let Some(known) = self.standing.get() {
            let level = self.schema.quoted();
            let level = format!("SELECT max(version)::bigint FROM {level}.dbos_migrations");
            if client.query_one(&level, &[]).await?.try_get::<_, Option<i64>>(0)? == Some(known.level) {
                return Ok(false);
            }
        }
        self.look_by(&client).await
    }

    pub(super) async fn look_by(&self, client: &Session) -> Result<bool, SysdbError> {
        let Some((level, tables)) = schema::columns_at(&**client, &self.schema).await? else { return Ok(false) };
        let layout = Layout::of(|table, column| tables.get(table).is_some_and(|columns| columns.contains(column)));
        let before = self.standing.get();
        // Whoever made the tables has yet to grant them. The earlier layout does until then: results are found there, too.
        let has_come = layout.has_payload_tables() && before.is_some_and(|before| !before.has_payload_tables());
        if has_come && !self.may_use_payload_tables(client).await? {
            if !self.standing.told_of_rights.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    schema = self.schema.name(),
                    "the schema has got the tables workflow_input and workflow_output, which this worker's role may not use: \
                     grant it the same rights as on workflow_status. Until then, what newer clients enqueue waits"
                );
            }
            return Ok(false);
        }
        self.standing.set(Standing { level, layout });
        let Some(before) = before.filter(|before| before.layout != layout) else { return Ok(false) };
        tracing::info!(from = before.level, to = level, "the system schema was brought forward; statements follow it");
        // On all connections; those of the earlier layout are never asked for again.
        self.pool.forget_statements();
        Ok(true)
    }

    async fn may_use_payload_tables(&self, client: &Session) -> Result<bool, SysdbError> {
        // A name in quotes, inside of a text.
        let rights = RIGHTS.replace("{s}", &self.schema.quoted().replace('\'', "''"));
        Ok(client.query_one(&rights, &[]).await?.try_get::<_, Option<bool>>(0)?.unwrap_or(false))
    }
}
