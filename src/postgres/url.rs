//! Connection strings: a URL or `key=value` pairs, as libpq takes them, whose password never shows.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslNegotiation};

use super::connect::Target;
use super::tls::{Identity, Tls, Use, Verify};

/// A connection string that doesn't parse. The text never repeats the string: a password may be anywhere in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PostgreSQL connection string ({0}); expected postgresql://user:password@host:port/database")]
pub struct UrlError(String);

/// A parsed connection string. Shows host, port, database and user, but no password.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(super) config: Config,
    pub(super) tls: Tls,
    pub(super) passfile: Option<PathBuf>,
}

impl DatabaseUrl {
    /// What is connected to, for messages.
    pub fn target(&self) -> Target {
        Target::of(&self.config)
    }

    /// Whether it has a password in it.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
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
        let config: Config = rest.parse().map_err(describe)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(UrlError("no host".into()));
        }
        let passfile = options.passfile.clone();
        let tls = options.tls(&config)?;
        if config.get_channel_binding() == ChannelBinding::Require && tls.wanted == Use::Never {
            return Err(UrlError("channel_binding=require needs TLS, which is not used here".into()));
        }
        Ok(DatabaseUrl { config, tls, passfile })
    }
}

/// The driver's own text, without what it may quote of the string.
fn describe(error: tokio_postgres::Error) -> UrlError {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let text = source.unwrap_or_else(|| error.to_string());
    // "unexpected character at byte 3: expected `x` but got `y`" and "unknown option `sslcert`": names, no values.
    UrlError(text)
}

/// What the driver doesn't know of: what is verified, who we are, and where passwords are.
#[derive(Default)]
struct Ours {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    passfile: Option<PathBuf>,
}

impl Ours {
    /// Keep `key` here if it is one of ours. An empty value is none.
    fn take(&mut self, key: &str, value: String) -> bool {
        let value = (!value.is_empty()).then_some(value);
        match key {
            "sslmode" => self.mode = value,
            "sslrootcert" => self.root = value,
            "sslcert" => self.certificate = value,
            "sslkey" => self.key = value,
            "passfile" => self.passfile = value.map(PathBuf::from),
            // Not a password that is empty, which the driver would send.
            "password" if value.is_none() => {}
            _ => return false,
        }
        true
    }

    fn tls(self, config: &Config) -> Result<Tls, UrlError> {
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate: certificate.into(), key: key.into() }),
            (None, None) => None,
            (Some(_), None) => return Err(UrlError("sslcert needs sslkey=FILE, the certificate's key".into())),
            (None, Some(_)) => return Err(UrlError("sslkey needs sslcert=FILE, the key's certificate".into())),
        };
        // As in libpq, TLS options don't concern Unix sockets.
        #[cfg(unix)]
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) && config.get_hostaddrs().is_empty() {
            return Ok(Tls::NONE);
        }
        let system = self.root.as_deref() == Some("system");
        // There TLS comes unasked, so that nobody could say that he has none.
        let weak = self.mode.as_deref().is_none_or(|mode| matches!(mode, "disable" | "allow" | "prefer"));
        if config.get_ssl_negotiation() == SslNegotiation::Direct && weak && !(self.mode.is_none() && system) {
            return Err(UrlError(format!(
                "sslnegotiation=direct needs TLS whatever happens: add sslmode=require, or better verify-full, in place of \
                 sslmode={}",
                self.mode.as_deref().unwrap_or("prefer, which is the default")
            )));
        }
        let file = self.root.filter(|_| !system).map(PathBuf::from);
        // libpq: a root certificate is used wherever TLS is, so that it turns `require` into `verify-ca`.
        let authority = |file: Option<PathBuf>| file.map_or(Verify::Nothing, Verify::Authority);
        let (wanted, verify) = match (self.mode.as_deref(), file) {
            (Some("disable"), _) => return Ok(Tls::NONE),
            (Some("verify-full"), Some(file)) => (Use::Always, Verify::Full(file)),
            (Some("verify-full"), None) => (Use::Always, Verify::FullSystem),
            (None, _) if system => (Use::Always, Verify::FullSystem),
            (_, _) if system => return Err(UrlError("sslrootcert=system needs sslmode=verify-full".into())),
            (Some("verify-ca"), None) => {
                return Err(UrlError("sslmode=verify-ca needs sslrootcert=FILE; or use sslmode=verify-full".into()));
            }
            (Some("verify-ca" | "require"), file) => (Use::Always, authority(file)),
            (None | Some("prefer"), file) => (Use::Prefer, authority(file)),
            (Some("allow"), file) => (Use::Allow, authority(file)),
            (Some(_), _) => {
                return Err(UrlError(
                    "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".into(),
                ));
            }
        };
        Ok(Tls { wanted, verify, identity })
    }
}

/// The URL without our options, and our options. Hosts may be a list, which no general URL parser takes.
fn split_url(text: &str) -> Result<(String, Ours), UrlError> {
    let mut options = Ours::default();
    let credentials_end = text.find('@').unwrap_or(0);
    let Some(query_start) = text[credentials_end..].find('?').map(|at| at + credentials_end) else {
        return Ok((without_empty_password(text), options));
    };
    let mut kept = Vec::new();
    for pair in text[query_start + 1..].split('&').filter(|pair| !pair.is_empty()) {
        let decoded = ::url::form_urlencoded::parse(pair.as_bytes()).next();
        let ours = decoded.is_some_and(|(key, value)| options.take(&key, value.into_owned()));
        if !ours {
            kept.push(pair);
        }
    }
    let mut rest = without_empty_password(&text[..query_start]);
    if !kept.is_empty() {
        rest = format!("{rest}?{}", kept.join("&"));
    }
    Ok((rest, options))
}

/// The same URL, with `user@` for `user:@`: as in libpq, an empty password is none.
fn without_empty_password(url: &str) -> String {
    match url.split_once('@') {
        Some((credentials, rest)) => format!("{}@{rest}", credentials.strip_suffix(':').unwrap_or(credentials)),
        None => url.to_owned(),
    }
}

/// `key=value` pairs without ours, and ours. Values may be quoted, with backslash as escape.
fn split_pairs(text: &str) -> Result<(String, Ours), UrlError> {
    let mut options = Ours::default();
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

    fn tls(text: &str) -> (Use, Verify) {
        let tls = text.parse::<DatabaseUrl>().unwrap().tls;
        (tls.wanted, tls.verify)
    }

    #[test]
    fn sslmode_decides_what_is_verified() {
        use {Use::*, Verify::*};
        let url = |query: &str| tls(&format!("postgresql://u:p@db.example/x{query}"));
        assert_eq!(url(""), (Prefer, Nothing));
        assert_eq!(url("?sslrootcert=/ca.pem"), (Prefer, Authority("/ca.pem".into())));
        assert_eq!(url("?sslmode=disable&sslrootcert=/ca.pem"), (Never, Nothing));
        assert_eq!(url("?sslmode=allow"), (Allow, Nothing));
        assert_eq!(url("?sslmode=require"), (Always, Nothing));
        assert_eq!(url("?sslmode=require&sslrootcert=%2Fa%20b.pem"), (Always, Authority("/a b.pem".into())));
        assert_eq!(url("?connect_timeout=3&sslmode=verify-full"), (Always, FullSystem));
        assert_eq!(url("?sslmode=verify-full&sslrootcert=/ca.pem"), (Always, Full("/ca.pem".into())));
        assert_eq!(url("?sslmode=verify-full&sslrootcert=system"), (Always, FullSystem));
        assert_eq!(url("?sslrootcert=system"), (Always, FullSystem));
        assert_eq!(
            tls("host=db sslmode = verify-ca sslrootcert='/it\\'s.pem'"),
            (Always, Authority("/it's.pem".into()))
        );
    }

    #[test]
    fn a_client_certificate_comes_with_its_key_and_a_password_file_is_kept() {
        let url = "postgresql://u@h/x?sslcert=%2Fc.pem&sslkey=/k.pem&passfile=/p&channel_binding=require";
        let url = url.parse::<DatabaseUrl>().unwrap();
        assert_eq!(url.tls.identity, Some(Identity { certificate: "/c.pem".into(), key: "/k.pem".into() }));
        assert_eq!(url.passfile, Some("/p".into()));
        assert_eq!(url.config.get_channel_binding(), ChannelBinding::Require);
        assert!(!url.has_password() && "host=h password=x".parse::<DatabaseUrl>().unwrap().has_password());
    }

    #[test]
    fn an_empty_password_is_none() {
        for text in [
            "postgresql://u:@h/x",
            "postgresql://u:@h:5433/x?sslmode=disable",
            "postgresql://u@h/x?password=",
            "host=h user=u password=''",
        ] {
            let url: DatabaseUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(!url.has_password(), "{text}");
            assert_eq!((url.config.get_user(), url.config.get_password()), (Some("u"), None), "{text}");
        }
    }

    #[test]
    fn tls_options_that_would_verify_less_than_they_say_are_refused() {
        for query in [
            "sslmode=verify-ca",
            "sslmode=always",
            "sslmode=require&sslrootcert=system",
            "sslcert=/c.pem",
            "sslkey=/k.pem",
            "sslmode=disable&channel_binding=require",
            "sslnegotiation=direct",
            "sslnegotiation=direct&sslmode=",
            "sslnegotiation=direct&sslmode=prefer&channel_binding=require",
            "sslmode=allow&sslnegotiation=direct",
            "sslmode=disable&sslnegotiation=direct",
        ] {
            assert!(format!("postgresql://u@h/x?{query}").parse::<DatabaseUrl>().is_err(), "{query}");
        }
        for query in ["sslmode=require", "sslmode=verify-full", "sslrootcert=system"] {
            let url = format!("postgresql://u@h/x?sslnegotiation=direct&{query}").parse::<DatabaseUrl>().unwrap();
            assert_eq!(url.tls.wanted, Use::Always, "{query}");
        }
        assert!(
            "postgresql://u@%2Frun%2Fpg/x?sslnegotiation=direct".parse::<DatabaseUrl>().is_ok(),
            "no TLS on a socket"
        );
        let error = "host=h user=u sslnegotiation=direct".parse::<DatabaseUrl>().unwrap_err().to_string();
        assert!(error.contains("sslmode=require") && error.contains("prefer"), "{error}");
        let error = "postgresql://u:secret@h/x?sslcrl=/c.pem".parse::<DatabaseUrl>().unwrap_err().to_string();
        assert!(error.contains("sslcrl") && !error.contains("secret"), "{error}");
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
        let none = (Use::Never, Verify::Nothing);
        assert_eq!(tls("postgresql://u@%2Frun%2Fpostgresql/x?sslmode=verify-full"), none);
        assert_eq!(tls("host=/run/postgresql user=u sslmode=require"), none);
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
