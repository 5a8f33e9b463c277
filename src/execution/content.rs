//! Which content of its flow an execution runs.

use super::{ExecutionRow, Executor, Failed, FlowsError, StoredFlow, Task, patience::patiently};
use crate::{config::FlowVersion, durable::Control};

impl Executor {
    /// The flow that an execution runs: the content that it began with; else, where it begins now, the version that its
    /// task names, or the newest, which may have been asked for already.
    pub(super) async fn flow(
        &self,
        control: &Control,
        id: &str,
        task: &Task,
        row: Option<&ExecutionRow>,
        newest: Option<StoredFlow>,
    ) -> Result<StoredFlow, Failed> {
        let failed = |error: FlowsError| match error {
            FlowsError::Unknown(_) => Failed::error("UnknownFlow", error.to_string()),
            error => Failed::error("FlowError", error.to_string()),
        };
        if let Some(hash) = row.and_then(|row| row.pinned.as_deref()) {
            match patiently(control, || self.versions.content(hash)).await?.map_err(failed)? {
                Some(flow) => return Ok(flow),
                None if self.flow_version == FlowVersion::Strict => {
                    let text = format!(
                        "the content of flow \"{id}\" that this execution began with is gone; enqueue it again"
                    );
                    return Err(Failed::error("FlowVersionGone", text));
                }
                None => tracing::warn!(flow = id, hash, "the content that this execution began with is gone"),
            }
        }
        let newest = match newest {
            Some(newest) => newest,
            None => patiently(control, || self.flows.get(id)).await?.map_err(failed)?,
        };
        let Some(named) = task.flow_version.filter(|_| self.flow_version != FlowVersion::Newest) else {
            return Ok(newest);
        };
        // A child's task names the version in the document, which lags behind the row's.
        let is_child = row.is_some_and(|row| row.parent_execution_id.is_some());
        let in_document = newest.flow.version().and_then(|version| i64::try_from(version).ok());
        if named == i64::from(newest.version) || (is_child && in_document == Some(named)) {
            return Ok(newest);
        }
        if let Some(kept) = patiently(control, || self.versions.version(id, named)).await?.map_err(failed)? {
            tracing::info!(flow = id, version = named, newest = newest.version, "an earlier version of the flow runs");
            return Ok(kept);
        }
        let newest_version = newest.version;
        if self.flow_version == FlowVersion::Strict {
            let text = format!(
                "the task names version {named} of flow \"{id}\", which is at {newest_version}, and no copy of {named} is \
                 kept; enqueue it again, or set execution.flow_version to \"kept\" or \"newest\""
            );
            return Err(Failed::error("FlowVersionGone", text));
        }
        tracing::warn!(
            flow = id,
            version = named,
            newest = newest_version,
            "no copy of the version that the task names is kept; the newest runs"
        );
        Ok(newest)
    }
}
