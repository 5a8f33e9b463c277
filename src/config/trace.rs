//! `[trace]`: whether traces are recorded, and where they go.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::duration;

/// `[trace]`
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trace {
    /// Where the collector takes OTLP over HTTP; `/v1/traces` is added. Without one, nothing is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// File with headers for the collector, one `name: value` a line; for those that hold a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    /// Variable of the environment with headers: `name=value,name=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_variable: Option<String>,
    /// Share of the executions that are recorded, of those that nobody has decided about.
    pub sample_ratio: f64,
    /// How the worker is called there.
    pub service_name: String,
    /// Longest time for one batch of spans, and for the last ones at the end.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace {
            endpoint: None,
            headers_file: None,
            headers_variable: None,
            sample_ratio: 1.0,
            service_name: env!("CARGO_PKG_NAME").into(),
            timeout: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The endpoint may hold a token.
        f.debug_struct("Trace")
            .field("sample_ratio", &self.sample_ratio)
            .field("service_name", &self.service_name)
            .finish_non_exhaustive()
    }
}
