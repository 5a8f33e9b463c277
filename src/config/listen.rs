//! Where the HTTP listener listens: an address, or a Unix socket.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What a Unix socket's path begins with.
const UNIX: &str = "unix:";

/// Longest path of a socket, in bytes. The system's own limit is 107, and the socket is made under a longer name first.
const LONGEST: usize = 90;

/// Address and port, or the path of a socket: `127.0.0.1:7420`, `unix:/run/fireflow/admin.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Address and port.
    Tcp(SocketAddr),
    /// Absolute path.
    Unix(PathBuf),
}

impl Listen {
    /// The port; none for a socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Listen::Tcp(address) => Some(address.port()),
            Listen::Unix(_) => None,
        }
    }

    /// The same address with another port; a socket stays as it is.
    pub fn set_port(&mut self, port: u16) {
        if let Listen::Tcp(address) = self {
            address.set_port(port);
        }
    }

    /// Whether only this machine can connect: to its loopback, or to a socket.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix(_) => true,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Listen::Tcp).map_err(|_| {
                format!(
                    "\"{text}\" is not allowed; an address and port (\"127.0.0.1:7420\", \"[::1]:7420\"), or a socket \
                     (\"unix:/run/fireflow/admin.sock\")"
                )
            });
        };
        if !path.starts_with('/') || path.ends_with('/') || path.len() > LONGEST || path.contains('\0') {
            return Err(format!(
                "\"{text}\" is not allowed; an absolute path of at most {LONGEST} bytes after \"unix:\""
            ));
        }
        Ok(Listen::Unix(path.into()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Listen, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sockets_are_told_apart_and_know_who_reaches_them() {
        for (text, local) in [
            ("127.0.0.1:7420", true),
            ("127.9.9.9:0", true),
            ("[::1]:7420", true),
            ("[::ffff:127.0.0.1]:7420", true),
            ("0.0.0.0:7420", false),
            ("[::]:7420", false),
            ("10.0.0.7:7420", false),
            ("unix:/run/fireflow/admin.sock", true),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.is_local(), listen.to_string().as_str()), (local, text));
        }
        let long = format!("unix:/{}", "a".repeat(LONGEST));
        for text in ["localhost:7420", "127.0.0.1", "7420", "unix:admin.sock", "unix:", "unix:/run/", &long] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.contains("unix:/") || error.contains("absolute path"), "{error}");
        }
    }
}
