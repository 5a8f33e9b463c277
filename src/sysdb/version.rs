//! Registering our application version, so that unversioned rows have someone to run them.

use super::{SysdbError, SystemDatabase};
use crate::postgres::Statements;

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The version belongs to our application.
    Ours,
    /// Another application has registered that name; version names are unique over all applications. Rows that name the
    /// version are run all the same.
    OwnedBy(String),
}

impl SystemDatabase {
    /// Register `version` for `application`: claim an unowned row of that name, else insert one. Where versions have no
    /// owners yet, it is there for all.
    pub async fn register_version(&self, version: &str, application: &str) -> Result<Registration, SysdbError> {
        let client = self.client().await?;
        // One statement; a name registered at the same moment by someone else is kept, and shows as the owner.
        let row = client
            .query_one(
                &self.sql(
                    "INSERT INTO {s}.application_versions AS v (version_id, version_name{version_owner})
                     VALUES ($1, $2{version_owner_value})
                     ON CONFLICT (version_name) DO UPDATE SET {claim_version}
                     RETURNING {version_owned_by}",
                ),
                &[&uuid::Uuid::new_v4().to_string(), &version, &application],
            )
            .await?;
        let owner: Option<String> = row.try_get(0)?;
        Ok(match owner {
            Some(owner) if owner != application => Registration::OwnedBy(owner),
            _ => Registration::Ours,
        })
    }
}
