//! Connection strings: a URL or `key=value` pairs, as libpq takes them, whose password never shows.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::connect::Target;
use super::tls::Verify;

/// A connection string that doesn't parse. The text never repeats the string: a password may be anywhere in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PostgreSQL connection string ({0}); expected postgresql://user:password@host:port/database")]
pub struct UrlError(String);

/// A parsed connection string. Shows host, port, database and user, but no password.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(super) config: Config,
    pub(super) verify: Verify,
}

impl DatabaseUrl {
    /// What is connected to, for messages.
    pub fn target(&self) -> Target {
        Target::of(&self.config)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target().fmt(f)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.target())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<DatabaseUrl, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<DatabaseUrl, UrlError> {
        let text = text.trim();
        let (rest, options) = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            split_url(text)?
        } else if text.contains('=') {
            split_pairs(text)?
        } else {
            return Err(UrlError("neither a URL nor key=value pairs".into()));
        };
        let mut config: Config = rest.parse().map_err(describe)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(UrlError("no host".into()));
        }
        let verify = options.verify(&config)?;
        config.ssl_mode(match verify {
            Verify::NoTls => SslMode::Disable,
            Verify::PreferUnverified => SslMode::Prefer,
            _ => SslMode::Require,
        });
        Ok(DatabaseUrl { config, verify })
    }
}

/// The driver's own text, without what it may quote of the string.
fn describe(error: tokio_postgres::Error) -> UrlError {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let text = source.unwrap_or_else(|| error.to_string());
    // "unexpected character at byte 3: expected `x` but got `y`" and "unknown option `sslcert`": names, no values.
    UrlError(text)
}

/// What the driver doesn't know of: how to verify the server's certificate.
#[derive(Default)]
struct TlsOptions {
    mode: Option<String>,
    root: Option<String>,
}

impl TlsOptions {
    /// Keep `key` here if it is one of ours.
    fn take(&mut self, key: &str, value: String) -> bool {
        match key {
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root = Some(value),
            _ => return false,
        }
        true
    }

    fn verify(self, config: &Config) -> Result<Verify, UrlError> {
        // As in libpq, TLS options don't concern Unix sockets.
        #[cfg(unix)]
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) && config.get_hostaddrs().is_empty() {
            return Ok(Verify::NoTls);
        }
        let root = self.root.filter(|root| !root.is_empty());
        let system = root.as_deref() == Some("system");
        let file = root.filter(|_| !system).map(PathBuf::from);
        match (self.mode.as_deref(), file) {
            (Some("disable"), _) => Ok(Verify::NoTls),
            (Some("verify-full"), Some(file)) => Ok(Verify::Full(file)),
            (Some("verify-full"), None) => Ok(Verify::FullSystem),
            (None, _) if system => Ok(Verify::FullSystem),
            (_, _) if system => Err(UrlError("sslrootcert=system needs sslmode=verify-full".into())),
            // libpq: a root certificate turns `require` into `verify-ca`.
            (Some("verify-ca" | "require"), Some(file)) => Ok(Verify::Authority(file)),
            (Some("verify-ca"), None) => {
                Err(UrlError("sslmode=verify-ca needs sslrootcert=FILE; or use sslmode=verify-full".into()))
            }
            (Some("require"), None) => Ok(Verify::Unverified),
            (None | Some("prefer" | "allow"), _) => Ok(Verify::PreferUnverified),
            (Some(_), _) => Err(UrlError("sslmode is none of disable, prefer, require, verify-ca, verify-full".into())),
        }
    }
}

/// The URL without our options, and our options. Hosts may be a list, which no general URL parser takes.
fn split_url(text: &str) -> Result<(String, TlsOptions), UrlError> {
    let mut options = TlsOptions::default();
    let credentials_end = text.find('@').unwrap_or(0);
    let Some(query_start) = text[credentials_end..].find('?').map(|at| at + credentials_end) else {
        return Ok((text.to_owned(), options));
    };
    let mut kept = Vec::new();
    for pair in text[query_start + 1..].split('&').filter(|pair| !pair.is_empty()) {
        let decoded = ::url::form_urlencoded::parse(pair.as_bytes()).next();
        let ours = decoded.is_some_and(|(key, value)| options.take(&key, value.into_owned()));
        if !ours {
            kept.push(pair);
        }
    }
    let mut rest = text[..query_start].to_owned();
    if !kept.is_empty() {
        rest = format!("{rest}?{}", kept.join("&"));
    }
    Ok((rest, options))
}

/// `key=value` pairs without ours, and ours. Values may be quoted, with backslash as escape.
fn split_pairs(text: &str) -> Result<(String, TlsOptions), UrlError> {
    let mut options = TlsOptions::default();
    let mut kept = String::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| UrlError("a key without a value".into()))?;
        let after = after.trim_start();
        let (value, length) = pair_value(after)?;
        if !options.take(key.trim(), value) {
            kept.push_str(&format!("{}={} ", key.trim(), &after[..length]));
        }
        rest = after[length..].trim_start();
    }
    Ok((kept, options))
}

/// The value at the start of `text`, and how many bytes of `text` it takes.
fn pair_value(text: &str) -> Result<(String, usize), UrlError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, at + 1)),
            c if !quoted && c.is_whitespace() => return Ok((value, at)),
            c => value.push(c),
        }
    }
    if quoted { Err(UrlError("an unclosed quote".into())) } else { Ok((value, text.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(text: &str) -> Verify {
        text.parse::<DatabaseUrl>().unwrap().verify
    }

    #[test]
    fn sslmode_decides_what_is_verified() {
        let url = |query: &str| verify(&format!("postgresql://u:p@db.example/x{query}"));
        assert_eq!(url(""), Verify::PreferUnverified);
        assert_eq!(url("?sslmode=disable"), Verify::NoTls);
        assert_eq!(url("?sslmode=require"), Verify::Unverified);
        assert_eq!(url("?sslmode=require&sslrootcert=%2Fa%20b.pem"), Verify::Authority("/a b.pem".into()));
        assert_eq!(url("?connect_timeout=3&sslmode=verify-full"), Verify::FullSystem);
        assert_eq!(url("?sslmode=verify-full&sslrootcert=/ca.pem"), Verify::Full("/ca.pem".into()));
        assert_eq!(url("?sslrootcert=system"), Verify::FullSystem);
        assert_eq!(
            verify("host=db sslmode = verify-ca sslrootcert='/it\\'s.pem'"),
            Verify::Authority("/it's.pem".into())
        );
    }

    #[test]
    fn tls_options_that_would_verify_less_than_they_say_are_refused() {
        for query in ["sslmode=verify-ca", "sslmode=always", "sslmode=require&sslrootcert=system"] {
            assert!(format!("postgresql://u@h/x?{query}").parse::<DatabaseUrl>().is_err(), "{query}");
        }
        let error = "postgresql://u:secret@h/x?sslcert=/c.pem".parse::<DatabaseUrl>().unwrap_err().to_string();
        assert!(error.contains("sslcert") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn other_options_and_several_hosts_reach_the_driver() {
        let url = "postgresql://u:p%40ss@a:1,b:2/x?sslmode=disable&application_name=me".parse::<DatabaseUrl>().unwrap();
        assert_eq!(url.config.get_application_name(), Some("me"));
        assert_eq!(url.config.get_ports(), [1, 2]);
        assert_eq!(url.config.get_password(), Some(&b"p@ss"[..]));
        let url = r"host=h password='a b\'c' dbname=x sslmode=disable".parse::<DatabaseUrl>().unwrap();
        assert_eq!(url.config.get_password(), Some(&b"a b'c"[..]));
    }

    #[test]
    fn unix_sockets_never_use_tls() {
        assert_eq!(verify("postgresql://u@%2Frun%2Fpostgresql/x?sslmode=verify-full"), Verify::NoTls);
        assert_eq!(verify("host=/run/postgresql user=u sslmode=require"), Verify::NoTls);
    }

    #[test]
    fn a_password_never_shows() {
        for text in ["postgresql://u:hunter2@h:5433/x", "host=h user=u password=hunter2 dbname=x port=5433"] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "database \"x\" at h:5433 as user u");
            assert!(!format!("{url:?}").contains("hunter2"));
        }
        for text in ["postgresql://u:hunter2@h:port/x", "mysql://u:hunter2@h/x", "host=h password='hunter2", "hunter2"]
        {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
