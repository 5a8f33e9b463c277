//! Certificates, and a PostgreSQL server of one's own that has some.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use tokio_postgres::{Client, NoTls};

/// A key that signs, and its certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, as PEM.
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub fn sign(&self, params: &CertificateParams) -> Signed {
        let key = KeyPair::generate().unwrap();
        Signed { certificate: self.sign_key(params, &key), key: key.serialize_pem() }
    }

    pub fn sign_key(&self, params: &CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.issuer).unwrap().pem()
    }
}

/// A certificate of this common name, for these hosts.
pub fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// What OpenSSL makes of `req -x509`: a server that is its own authority.
pub fn self_signed(mut params: CertificateParams) -> Signed {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Signed { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// One element of DER: its tag, its content, and what follows.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, head) = match der[1] {
        short @ ..=0x80 => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
    };
    (der[0], &der[head..head + length], &der[head + length..])
}

/// The key inside of PKCS#8, in the older form of its kind (SEC1 for elliptic curves).
pub fn inner_key(pkcs8: &[u8]) -> Vec<u8> {
    let (_, content, _) = element(pkcs8);
    let (_, _, rest) = element(content); // version
    let (_, _, rest) = element(rest); // algorithm
    let (tag, key, _) = element(rest);
    assert_eq!(tag, 0x04, "an octet string");
    key.to_vec()
}

/// An RSA key (PKCS#1) as PKCS#8.
pub fn outer_key(pkcs1: &[u8]) -> Vec<u8> {
    const VERSION_AND_ALGORITHM: [u8; 18] =
        *b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let long = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, content].concat()
    };
    long(0x30, &[&VERSION_AND_ALGORITHM[..], &long(0x04, pkcs1)].concat())
}

/// PEM of this label.
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A server of one's own, and a folder for files.
pub struct PrivateServer {
    pub server: Server,
    pub folder: tempfile::TempDir,
}

impl PrivateServer {
    pub async fn start() -> PrivateServer {
        let options = Options { programs: locate(None).unwrap(), data: Data::Temporary, port: None };
        let server = Server::start(options).await.unwrap();
        PrivateServer { server, folder: tempfile::tempdir().unwrap() }
    }

    /// An administrator's session, by the socket.
    pub async fn admin(&self) -> Client {
        let url = self.server.socket_url("postgres");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection); // ends with its client
        client
    }

    /// Write a file for the server, into its data.
    pub fn give(&self, name: &str, text: &str) {
        let cluster = self.server.folder().join("cluster");
        let owner = cluster.metadata().unwrap();
        let path = cluster.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    /// Write a file for the client, for nobody else to read.
    pub fn keep(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Have the server show this certificate from now on.
    pub async fn show(&self, name: &str, signed: &Signed) {
        self.give(&format!("{name}.crt"), &signed.certificate);
        self.give(&format!("{name}.key"), &signed.key);
        self.set(&[("ssl_cert_file", &format!("{name}.crt")), ("ssl_key_file", &format!("{name}.key")), ("ssl", "on")])
            .await;
    }

    /// Change settings, and wait until new sessions have them.
    pub async fn set(&self, settings: &[(&str, &str)]) {
        let admin = self.admin().await;
        for (name, value) in settings {
            admin.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await.unwrap();
        }
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        for (name, value) in settings {
            while self.admin().await.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get::<_, &str>(0) != *value
            {
                tokio::task::yield_now().await;
            }
        }
    }

    /// `user`'s URL of the database `postgres` at `host`, with parameters.
    pub fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        format!("postgresql://{user}@{host}:{}/postgres?{parameters}", self.server.port())
    }
}

/// A parameter that names a file.
pub fn parameter(name: &str, file: &Path) -> String {
    format!("{name}={}", file.display())
}
