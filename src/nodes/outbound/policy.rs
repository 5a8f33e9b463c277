//! Which hosts nodes may connect to. A name is judged before it is resolved, and every address before it is connected to.
//!
//! In this order:
//! 1. what `deny` covers is refused;
//! 2. link-local addresses and the metadata services of clouds are refused, and with `deny_private` private addresses,
//!    unless `allow` has the address or its network. A name in `allow` isn't enough: whoever has the name in his hands
//!    decides where it leads;
//! 3. where `allow` has rules, one of them must cover the name or the address.

use std::net::IpAddr;

use url::Host;

use super::address::{is_link_local, is_metadata, is_metadata_name, is_private, meanings};
use crate::config::{HostRule, Hosts, Outbound};

/// The rules.
#[derive(Debug)]
pub(super) struct Policy {
    allow: Vec<HostRule>,
    deny: Vec<HostRule>,
    deny_private: bool,
}

/// Whether a name is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is allowed, if its address isn't refused.
    Allowed,
    /// Only an address that is allowed may be connected to.
    ByAddress,
}

/// Which rule refuses a host, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// A rule of `outbound.deny`.
    #[error("outbound.deny has \"{0}\"")]
    Denied(String),
    /// No rule of `outbound.allow`.
    #[error("outbound.allow doesn't have it")]
    NotAllowed,
    /// A link-local address.
    #[error("its address is link-local; outbound.allow can have the address")]
    LinkLocal,
    /// A metadata service.
    #[error("it is a cloud's metadata service; outbound.allow can have the address")]
    Metadata,
    /// A private address.
    #[error("its address is private, and outbound.deny_private is set; outbound.allow can have the address")]
    Private,
}

impl Policy {
    pub fn new(settings: &Outbound) -> Policy {
        let Outbound { allow, deny, deny_private, .. } = settings.clone();
        Policy { allow, deny, deny_private }
    }

    /// Judge the host of a URL: the whole of it for an address, the name alone for a name.
    pub fn host(&self, host: &Host<&str>, port: u16) -> Result<Standing, Rule> {
        match host {
            Host::Domain(name) => self.name(name, port),
            Host::Ipv4(address) => self.address((*address).into(), port, self.any(port)).map(|()| Standing::Allowed),
            Host::Ipv6(address) => self.address((*address).into(), port, self.any(port)).map(|()| Standing::Allowed),
        }
    }

    fn name(&self, name: &str, port: u16) -> Result<Standing, Rule> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(rule) = self.deny.iter().find(|rule| rule.covers_name(&name, port)) {
            return Err(Rule::Denied(rule.to_string()));
        }
        let literally = |rule: &&HostRule| matches!(rule.hosts, Hosts::Name(_)) && rule.covers_name(&name, port);
        if is_metadata_name(&name) && !self.allow.iter().any(|rule| literally(&rule)) {
            return Err(Rule::Metadata);
        }
        let named = self.allow.is_empty() || self.allow.iter().any(|rule| rule.covers_name(&name, port));
        // Refused at once when no address could make up for it.
        let by_address = self.allow.iter().any(|rule| matches!(rule.hosts, Hosts::Network(_)));
        match (named, by_address) {
            (true, _) => Ok(Standing::Allowed),
            (false, true) => Ok(Standing::ByAddress),
            (false, false) => Err(Rule::NotAllowed),
        }
    }

    /// Judge an address that a host of this standing would be connected at.
    pub fn address(&self, address: IpAddr, port: u16, standing: Standing) -> Result<(), Rule> {
        let any = |rule: &HostRule| matches!(rule.hosts, Hosts::Any) && rule.covers_name("", port);
        for meaning in meanings(address) {
            if let Some(rule) = self.deny.iter().find(|rule| rule.covers_address(meaning, port) || any(rule)) {
                return Err(Rule::Denied(rule.to_string()));
            }
        }
        if self.allow.iter().any(|rule| rule.covers_address(address.to_canonical(), port)) {
            return Ok(());
        }
        for meaning in meanings(address) {
            if is_link_local(meaning) {
                return Err(Rule::LinkLocal);
            }
            if is_metadata(meaning) {
                return Err(Rule::Metadata);
            }
            if self.deny_private && is_private(meaning) {
                return Err(Rule::Private);
            }
        }
        if standing == Standing::Allowed { Ok(()) } else { Err(Rule::NotAllowed) }
    }

    /// Where an address stands as long as no rule has it.
    fn any(&self, port: u16) -> Standing {
        let any = |rule: &HostRule| matches!(rule.hosts, Hosts::Any) && rule.covers_name("", port);
        if self.allow.is_empty() || self.allow.iter().any(any) { Standing::Allowed } else { Standing::ByAddress }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str], deny_private: bool) -> Policy {
        let rules = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Policy { allow: rules(allow), deny: rules(deny), deny_private }
    }

    /// The verdict on a URL whose name, if it has one, leads to `leads_to`.
    fn verdict(policy: &Policy, url: &str, leads_to: &str) -> Result<(), Rule> {
        let url = url::Url::parse(url).unwrap();
        let port = url.port_or_known_default().unwrap();
        let host = url.host().unwrap();
        let standing = policy.host(&host, port)?;
        match host {
            Host::Domain(_) => policy.address(leads_to.parse().unwrap(), port, standing),
            _ => Ok(()),
        }
    }

    #[test]
    fn by_default_all_but_link_local_and_metadata_is_allowed() {
        let policy = policy(&[], &[], false);
        for url in ["http://127.0.0.1", "http://10.1.2.3:8080", "https://[fd12::1]", "http://[::1]", "http://8.8.8.8"] {
            assert_eq!(verdict(&policy, url, ""), Ok(()), "{url}");
        }
        assert_eq!(verdict(&policy, "https://example.com", "93.184.216.34"), Ok(()));
        assert_eq!(verdict(&policy, "https://localhost", "127.0.0.1"), Ok(()));
        for url in [
            "http://169.254.169.254/latest",
            "http://2852039166",
            "http://0xa9fea9fe",
            "http://0251.0376.0251.0376",
            "http://0xa9.254.43518",
            "http://169.254.169.254.",
            "http://①⑥⑨.254.169.254",
            "http://%31%36%39.254.169.254",
            "http://[::ffff:169.254.169.254]",
            "http://[::ffff:a9fe:a9fe]",
            "http://[::a9fe:a9fe]",
            "http://[64:ff9b::a9fe:a9fe]",
            "http://[2002:a9fe:a9fe::1]",
            "http://[fe80::a9fe:a9fe]",
        ] {
            assert_eq!(verdict(&policy, url, ""), Err(Rule::LinkLocal), "{url}");
        }
        for url in
            ["http://[fd00:ec2::254]", "http://100.100.100.200", "http://METADATA.google.internal./computeMetadata"]
        {
            assert_eq!(verdict(&policy, url, "8.8.8.8"), Err(Rule::Metadata), "{url}");
        }
        // A name that leads there.
        assert_eq!(verdict(&policy, "http://rebound.example", "169.254.169.254"), Err(Rule::LinkLocal));
        assert_eq!(verdict(&policy, "http://rebound.example", "::ffff:100.100.100.200"), Err(Rule::Metadata));
    }

    #[test]
    fn private_addresses_are_denied_on_request() {
        let strict = policy(&[], &[], true);
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "::",
            "fd12::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert_eq!(verdict(&strict, "http://name.example", address), Err(Rule::Private), "{address}");
        }
        assert_eq!(verdict(&strict, "http://127.1", ""), Err(Rule::Private));
        assert_eq!(verdict(&strict, "http://name.example", "172.32.0.1"), Ok(()));
        assert_eq!(verdict(&strict, "http://name.example", "2606:4700::1111"), Ok(()));
        // An exception has the address; a name is not enough.
        let excepted = policy(&["*", "10.0.0.7", "trusted.example"], &[], true);
        assert_eq!(verdict(&excepted, "http://name.example", "10.0.0.7"), Ok(()));
        assert_eq!(verdict(&excepted, "http://trusted.example", "10.0.0.8"), Err(Rule::Private));
        assert_eq!(verdict(&excepted, "http://8.8.8.8", ""), Ok(()));
    }

    #[test]
    fn only_what_is_listed_is_allowed_where_something_is() {
        let listed = policy(
            &["api.example.com:443", "*.internal.example", "10.0.0.0/8"],
            &["bad.internal.example", "10.6.0.0/16"],
            false,
        );
        assert_eq!(verdict(&listed, "https://API.example.com", "8.8.8.8"), Ok(()));
        assert_eq!(verdict(&listed, "http://api.example.com", "8.8.8.8"), Err(Rule::NotAllowed));
        assert_eq!(verdict(&listed, "http://x.internal.example", "8.8.8.8"), Ok(()));
        assert_eq!(verdict(&listed, "http://other.example", "8.8.8.8"), Err(Rule::NotAllowed));
        assert_eq!(verdict(&listed, "http://other.example", "10.1.1.1"), Ok(()));
        assert_eq!(verdict(&listed, "http://8.8.8.8", ""), Err(Rule::NotAllowed));
        assert_eq!(verdict(&listed, "http://10.1.1.1", ""), Ok(()));
        assert_eq!(verdict(&listed, "http://[::ffff:10.1.1.1]", ""), Ok(()));
        for (url, leads_to) in [
            ("http://bad.internal.example", "8.8.8.8"),
            ("http://x.internal.example", "10.6.1.1"),
            ("http://10.6.1.1", ""),
        ] {
            assert!(matches!(verdict(&listed, url, leads_to), Err(Rule::Denied(_))), "{url}");
        }
        assert_eq!(verdict(&listed, "http://x.internal.example", "169.254.1.1"), Err(Rule::LinkLocal));
        assert_eq!(verdict(&policy(&["169.254.169.254"], &[], false), "http://169.254.169.254", ""), Ok(()));
        assert!(verdict(&policy(&[], &["*"], false), "http://8.8.8.8", "").is_err());
    }
}
