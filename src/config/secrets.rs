//! `[secrets]`: which values of the worker's surroundings a flow may refer to.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::HostRule;

/// `[secrets]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// Environment variables that may be referred to: names, or beginnings of names with a `*`.
    pub environment: Vec<String>,
    /// Folder whose files may be referred to by their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// By a secret's name, the only hosts that it is sent to. One that isn't listed goes to all that `[outbound]` allows.
    pub hosts: BTreeMap<String, Vec<HostRule>>,
}

impl Secrets {
    /// Whether anything may be referred to.
    pub fn any(&self) -> bool {
        !self.environment.is_empty() || self.folder.is_some()
    }
}
