//! `[outbound]`: where nodes may connect to, and how much may pass.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::duration;

/// `[outbound]`
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// Hosts that nodes may connect to; empty: all that aren't denied.
    pub allow: Vec<HostRule>,
    /// Hosts that they may not connect to, whatever `allow` says.
    pub deny: Vec<HostRule>,
    /// Whether addresses of private networks and of this machine are denied as well.
    pub deny_private: bool,
    /// URL of a proxy that all requests go through. The proxies of the environment are never used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// File with certificates (PEM) of authorities that are trusted besides those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Time to resolve a name and establish a connection.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Time for one attempt as a whole: redirects and the response's body included.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Redirects that are followed.
    pub max_redirects: u32,
    /// Whether a redirect may lead from https to http.
    pub allow_downgrade: bool,
    /// Largest request body.
    pub max_request: ByteSize,
    /// Largest response body.
    pub max_response: ByteSize,
    /// Largest head of a response.
    pub max_response_headers: ByteSize,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            allow: Vec::new(),
            deny: Vec::new(),
            deny_private: false,
            proxy: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            max_redirects: 20,
            allow_downgrade: false,
            max_request: ByteSize::mib(64),
            max_response: ByteSize::mib(64),
            max_response_headers: ByteSize::kib(64),
        }
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proxy's URL may hold a password.
        f.debug_struct("Outbound")
            .field("allow", &self.allow)
            .field("deny", &self.deny)
            .field("deny_private", &self.deny_private)
            .finish_non_exhaustive()
    }
}

/// Hosts, and perhaps one port: `api.example.com`, `*.example.com`, `*`, `10.0.0.0/8`, `[fd00::/8]:443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    /// Which hosts.
    pub hosts: Hosts,
    /// Which port; all of them if none.
    pub port: Option<u16>,
}

/// The hosts of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Whatever is asked for.
    Any,
    /// This name.
    Name(String),
    /// Names that end so, after a dot of their own.
    Below(String),
    /// Addresses, also those that a name resolves to.
    Network(IpNet),
}

/// A text that is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" names no hosts; write a name (api.example.com), *.example.com, *, an address or a network (10.0.0.0/8), \
     with :port or without; IPv6 with a port in brackets ([fd00::/8]:443)"
)]
pub struct NoHostRule(String);

impl HostRule {
    /// Whether the rule is about this name. A name is in lower case and has no dot at its end.
    pub fn covers_name(&self, name: &str, port: u16) -> bool {
        let named = match &self.hosts {
            Hosts::Any => true,
            Hosts::Name(known) => known == name,
            Hosts::Below(known) => name.strip_suffix(known.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Hosts::Network(_) => false,
        };
        named && self.covers_port(port)
    }

    /// Whether the rule is about this address.
    pub fn covers_address(&self, address: IpAddr, port: u16) -> bool {
        matches!(&self.hosts, Hosts::Network(network) if network.contains(&address)) && self.covers_port(port)
    }

    fn covers_port(&self, port: u16) -> bool {
        self.port.is_none_or(|known| known == port)
    }
}

impl FromStr for HostRule {
    type Err = NoHostRule;

    fn from_str(text: &str) -> Result<HostRule, NoHostRule> {
        let wrong = || NoHostRule(text.to_owned());
        let trimmed = text.trim();
        let network = |text: &str| {
            let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        // An IPv6 address is full of colons, so the whole is tried before a port is looked for.
        if let Some(network) = network(trimmed) {
            return Ok(HostRule { hosts: Hosts::Network(network.trunc()), port: None });
        }
        let (host, port) = match trimmed.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?)),
            None => (trimmed, None),
        };
        if let Some(network) = network(host) {
            return Ok(HostRule { hosts: Hosts::Network(network.trunc()), port });
        }
        let name = |text: &str| match url::Host::parse(text.trim_end_matches('.')) {
            Ok(url::Host::Domain(name)) if !name.contains('*') => Ok(name),
            _ => Err(wrong()),
        };
        let hosts = match host.strip_prefix("*.") {
            _ if host == "*" => Hosts::Any,
            Some(below) => Hosts::Below(name(below)?),
            None => Hosts::Name(name(host)?),
        };
        Ok(HostRule { hosts, port })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hosts, self.port) {
            (Hosts::Any, _) => f.write_str("*")?,
            (Hosts::Name(name), _) => f.write_str(name)?,
            (Hosts::Below(name), _) => write!(f, "*.{name}")?,
            (Hosts::Network(network), port) => {
                let single = network.prefix_len() == network.max_prefix_len();
                let text = if single { network.addr().to_string() } else { network.to_string() };
                match (network, port) {
                    (IpNet::V6(_), Some(_)) => write!(f, "[{text}]")?,
                    _ => f.write_str(&text)?,
                }
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for HostRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostRule, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for (text, written) in [
            ("API.Example.com.", "api.example.com"),
            ("*.example.com:8443", "*.example.com:8443"),
            ("*", "*"),
            ("*:80", "*:80"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.0/8:443", "10.0.0.0/8:443"),
            ("::1", "::1"),
            ("[::1]:80", "[::1]:80"),
            ("fd00::/8", "fd00::/8"),
            ("[fd00::/8]:443", "[fd00::/8]:443"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<HostRule>().unwrap().to_string(), written, "{text}");
        }
        for text in ["", "a b", "http://x", "x:", "x:0", "x:99999", "*x", "a.*.b", "1.2.3.4/33", "*.*", "*.1.2.3.4"] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn rules_cover_what_they_say() {
        let rule = |text: &str| text.parse::<HostRule>().unwrap();
        for (text, name, port, covered) in [
            ("example.com", "example.com", 443, true),
            ("example.com", "www.example.com", 443, false),
            ("*.example.com", "www.example.com", 443, true),
            ("*.example.com", "a.b.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*.example.com", "badexample.com", 443, false),
            ("example.com:80", "example.com", 443, false),
            ("*", "anything", 1, true),
            ("10.0.0.0/8", "10.example", 1, false),
        ] {
            assert_eq!(rule(text).covers_name(name, port), covered, "{text} {name}");
        }
        assert!(rule("10.0.0.0/8:80").covers_address("10.9.9.9".parse().unwrap(), 80));
        assert!(!rule("10.0.0.0/8:80").covers_address("10.9.9.9".parse().unwrap(), 81));
        assert!(!rule("*").covers_address("10.9.9.9".parse().unwrap(), 80));
    }
}
