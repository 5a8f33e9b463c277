//! Names to addresses, of which only those are given to the connector that may be connected to: what is judged and what
//! is connected to are the same, however often a name changes where it leads.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use super::policy::{Policy, Rule};

/// For connections to one port, of which the library tells nothing.
pub(super) struct Resolver {
    pub policy: Arc<Policy>,
    pub port: u16,
}

/// A host that may not be connected to.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the host {host} is not allowed: {rule}")]
pub struct Refused {
    /// The host, as the URL has it.
    pub host: String,
    /// Which rule it is that refuses it.
    pub rule: Rule,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, port) = (self.policy.clone(), self.port);
        Box::pin(async move {
            let refused = |rule| Refused { host: name.as_str().to_owned(), rule };
            let standing = policy.host(&Host::Domain(name.as_str()), port).map_err(refused)?;
            let found = tokio::net::lookup_host((name.as_str(), port)).await?;
            let (mut allowed, mut refusal): (Vec<SocketAddr>, _) = (Vec::new(), None);
            for address in found {
                match policy.address(address.ip(), port, standing) {
                    Ok(()) => allowed.push(address),
                    Err(rule) => refusal = Some(rule),
                }
            }
            match refusal {
                Some(rule) if allowed.is_empty() => Err(refused(rule).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
