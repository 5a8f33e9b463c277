//! TLS to PostgreSQL: each mode of libpq against a real server, with the right certificates and with wrong ones.

use fireflow_worker::postgres::{self, Error, Settings};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::pki::{Authority, PrivateServer, inner_key, named, outer_key, parameter, pem, self_signed};
use super::support::worker::program;

/// Connections that are asked for a certificate, that are only taken with TLS, and that are only taken without.
const HBA: &str = "
local     all postgres  scram-sha-256
hostssl   all certified all cert
hostssl   all both      all scram-sha-256 clientcert=verify-full
hostssl   all crypted   all scram-sha-256
hostnossl all plain     all scram-sha-256
host      all old       all md5
host      all trusted   all trust
host      all postgres  all scram-sha-256
";

const ROLES: &str = "
CREATE ROLE certified LOGIN;
CREATE ROLE \"both\" LOGIN PASSWORD 'hush';
CREATE ROLE crypted LOGIN PASSWORD 'hush';
CREATE ROLE plain LOGIN PASSWORD 'hush';
CREATE ROLE trusted LOGIN;
SET password_encryption = 'md5';
CREATE ROLE old LOGIN PASSWORD 'hush'";

/// A server with a certificate for localhost, of an authority whose certificate is in `root.pem`.
async fn tls_server() -> (PrivateServer, Authority) {
    let server = PrivateServer::start().await;
    let authority = Authority::new("servers");
    server.admin().await.batch_execute(ROLES).await.unwrap();
    server.give("pg_hba.conf", HBA);
    server.keep("root.pem", &authority.pem);
    server.keep("stranger.pem", &Authority::new("strangers").pem);
    server.show("localhost", &authority.sign(&named("localhost", &["localhost"]))).await;
    (server, authority)
}

/// Whether the connection that this URL leads to is encrypted.
async fn encrypted(url: &str) -> Result<bool, Error> {
    let pool = postgres::connect(&Settings::new(url.parse().unwrap())).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(pool.get().await.unwrap().query_one(sql, &[]).await.unwrap().get(0))
}

/// The error of a TLS that can't be agreed on.
async fn refused(url: &str) -> String {
    let error = encrypted(url).await.expect_err(url);
    assert!(matches!(error, Error::Tls { .. }) && !error.is_transient(), "{url}: {error}");
    assert!(!error.to_string().contains("hush"), "{error}");
    error.to_string()
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    let (server, authority) = tls_server().await;
    let root = parameter("sslrootcert", &server.folder.path().join("root.pem"));
    let stranger = parameter("sslrootcert", &server.folder.path().join("stranger.pem"));
    let user = "crypted:hush";
    let url = |host: &str, parameters: &str| server.url(user, host, parameters);
    for (host, parameters) in [
        ("localhost", "sslmode=prefer".to_owned()),
        ("localhost", "sslmode=allow".to_owned()), // the server has no rule for this role without TLS
        ("localhost", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=require&{root}")),
        ("127.0.0.1", format!("sslmode=verify-ca&{root}")),
        ("localhost", format!("sslmode=verify-full&{root}")),
        ("localhost", root.clone()),
    ] {
        assert!(encrypted(&url(host, &parameters)).await.unwrap(), "{host} {parameters}");
    }
    for (host, parameters, why) in [
        ("127.0.0.1", format!("sslmode=verify-full&{root}"), "for another host"),
        ("localhost", format!("sslmode=verify-full&{stranger}"), "an authority that sslrootcert doesn't have"),
        ("localhost", format!("sslmode=verify-ca&{stranger}"), "an authority that sslrootcert doesn't have"),
        ("localhost", format!("sslmode=require&{stranger}"), "an authority that sslrootcert doesn't have"),
        ("localhost", "sslmode=verify-full".to_owned(), ""),
        ("localhost", "sslmode=verify-full&sslrootcert=system".to_owned(), ""),
        // Without TLS it isn't taken either; what is said is why there was none.
        ("localhost", format!("sslmode=prefer&{stranger}"), "an authority that sslrootcert doesn't have"),
    ] {
        let error = refused(&url(host, &parameters)).await;
        assert!(error.contains(why), "{host} {parameters}: {error}");
    }
    let error = encrypted(&url("localhost", "sslmode=disable")).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }) && error.to_string().contains("no encryption"), "{error}");

    // The system's authorities, where ours is the only one.
    let by_system = server.server.url("postgres").replace("127.0.0.1", "localhost");
    for (file, code) in [("root.pem", 0), ("stranger.pem", 69)] {
        let mut command = program(&format!("{by_system}?sslmode=verify-full&sslrootcert=system"));
        command.arg("check").env("SSL_CERT_FILE", server.folder.path().join(file)).env("SSL_CERT_DIR", "/nowhere");
        let output = command.output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }

    // A certificate that has expired.
    let mut params = named("localhost", &["localhost"]);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    server.show("expired", &authority.sign(&params)).await;
    for mode in ["verify-ca", "verify-full"] {
        let error = refused(&url("localhost", &format!("sslmode={mode}&{root}"))).await;
        assert!(error.contains("has expired"), "{error}");
    }
    assert!(encrypted(&url("localhost", "sslmode=require")).await.unwrap());

    // One that signed itself, as OpenSSL makes them: it is its own root.
    let own = self_signed(named("localhost", &["localhost"]));
    server.show("own", &own).await;
    let root = parameter("sslrootcert", &server.keep("own.pem", &own.certificate));
    assert!(encrypted(&url("localhost", &format!("sslmode=verify-full&{root}"))).await.unwrap());
    assert!(encrypted(&url("127.0.0.1", &format!("sslmode=verify-ca&{root}"))).await.unwrap());
    refused(&url("127.0.0.1", &format!("sslmode=verify-full&{root}"))).await;
    refused(&url("localhost", &format!("sslmode=verify-full&{stranger}"))).await;
    let old = self_signed(params);
    server.show("old", &old).await;
    let root = parameter("sslrootcert", &server.keep("old.pem", &old.certificate));
    assert!(refused(&url("localhost", &format!("sslmode=verify-ca&{root}"))).await.contains("has expired"));
}

#[tokio::test]
async fn what_tls_is_not_needed_for_goes_without_it_and_where_it_is_it_does_not() {
    let (server, _) = tls_server().await;
    let url = |user: &str, parameters: &str| server.url(&format!("{user}:hush"), "localhost", parameters);
    for (user, parameters, crypted) in [
        ("plain", "sslmode=disable", false),
        ("plain", "sslmode=allow", false),
        ("plain", "sslmode=prefer", false), // the server has no rule for this role with TLS
        ("trusted", "sslmode=allow", false),
        ("trusted", "sslmode=prefer", true),
    ] {
        assert_eq!(encrypted(&url(user, parameters)).await.unwrap(), crypted, "{user} {parameters}");
    }
    let error = encrypted(&url("plain", "sslmode=require")).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    // A wrong password is not tried again without TLS.
    let error = encrypted(&server.url("trusted:x", "localhost", "sslmode=prefer")).await;
    assert!(error.unwrap());
    let error = encrypted(&server.url("crypted:guess", "localhost", "sslmode=prefer")).await.unwrap_err();
    assert!(error.to_string().contains("password authentication failed"), "{error}");

    // A server without TLS.
    server.set(&[("ssl", "off")]).await;
    for parameters in ["", "sslmode=prefer", "sslmode=allow", "sslmode=disable"] {
        assert!(!encrypted(&url("plain", parameters)).await.unwrap(), "{parameters}");
    }
    let root = parameter("sslrootcert", &server.folder.path().join("root.pem"));
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = refused(&url("plain", &format!("sslmode={mode}&{root}"))).await;
        assert!(error.contains("does not support TLS"), "{error}");
    }
    let error = refused(&url("plain", "channel_binding=require")).await;
    assert!(error.contains("does not support TLS"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_wanted() {
    let (server, _) = tls_server().await;
    let clients = Authority::new("clients");
    server.give("clients.pem", &clients.pem);
    server.set(&[("ssl_ca_file", "clients.pem")]).await;
    let keep = |name: &str, text: &str| server.keep(name, text);
    let with = |user: &str, certificate: &str, key: &str| {
        let path = |name: &str| server.folder.path().join(name);
        let files = [parameter("sslcert", &path(certificate)), parameter("sslkey", &path(key))].join("&");
        server.url(user, "localhost", &format!("sslmode=require&{files}"))
    };
    let signed = clients.sign(&named("certified", &[]));
    keep("certified.crt", &signed.certificate);
    keep("pkcs8.key", &signed.key);
    let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap() else { panic!() };
    keep("sec1.key", &pem("EC PRIVATE KEY", &inner_key(der.secret_pkcs8_der())));
    for key in ["pkcs8.key", "sec1.key"] {
        assert!(encrypted(&with("certified", "certified.crt", key)).await.unwrap(), "{key}");
    }
    let text = include_str!("rsa.pem");
    let PrivateKeyDer::Pkcs1(der) = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap() else { panic!() };
    let key =
        KeyPair::from_pkcs8_der_and_sign_algo(&outer_key(der.secret_pkcs1_der()).into(), &PKCS_RSA_SHA256).unwrap();
    keep("rsa.crt", &clients.sign_key(&named("certified", &[]), &key));
    keep("pkcs1.key", text);
    assert!(encrypted(&with("certified", "rsa.crt", "pkcs1.key")).await.unwrap());

    // With a password besides; and of another name, of another authority, or none at all.
    let other = clients.sign(&named("both", &[]));
    keep("both.crt", &other.certificate);
    keep("both.key", &other.key);
    assert!(encrypted(&with("both:hush", "both.crt", "both.key")).await.unwrap());
    let stranger = Authority::new("strangers").sign(&named("certified", &[]));
    keep("stranger.crt", &stranger.certificate);
    keep("stranger.key", &stranger.key);
    let error = encrypted(&with("certified", "both.crt", "both.key")).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    let error = encrypted(&server.url("certified", "localhost", "sslmode=require")).await.unwrap_err();
    assert!(error.to_string().contains("valid client certificate"), "{error}");
    let error = encrypted(&with("certified", "stranger.crt", "stranger.key")).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. } | Error::Login { .. }) && !error.is_transient(), "{error}");

    // Files that can't be used.
    keep("garbage.key", "-----BEGIN PRIVATE KEY-----\nhush hush\n-----END PRIVATE KEY-----\n");
    keep("text.key", "-----BEGIN PRIVATE KEY-----\n!hush!\n-----END PRIVATE KEY-----\n");
    keep("empty.key", "");
    keep("encrypted.key", &pem("ENCRYPTED PRIVATE KEY", b"hush"));
    keep("open.key", &signed.key);
    let open = server.folder.path().join("open.key");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    for (certificate, key, why) in [
        ("certified.crt", "both.key", "it is not the key of the certificate in sslcert"),
        ("certified.crt", "garbage.key", "failed to parse private key"),
        ("certified.crt", "text.key", "no valid PEM"),
        ("certified.crt", "empty.key", "no key in PEM"),
        ("certified.crt", "encrypted.key", "it is encrypted"),
        ("certified.crt", "open.key", "others may use it (mode 0644); chmod 0600"),
        ("certified.crt", "none.key", "No such file"),
        ("none.crt", "pkcs8.key", "No such file"),
        ("pkcs8.key", "pkcs8.key", "no certificate in PEM"),
    ] {
        let error = encrypted(&with("certified", certificate, key)).await.unwrap_err();
        assert!(matches!(error, Error::TlsSettings(_)) && error.is_configuration(), "{error}");
        let text = error.to_string();
        assert!(text.contains(why) && (text.contains("sslcert") || text.contains("sslkey")), "{key}: {text}");
        assert!(!text.contains("hush"), "{text}");
    }
    // Root's own key may be its group's as well, as libpq has it.
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let owned_by_root = std::os::unix::fs::MetadataExt::uid(&open.metadata().unwrap()) == 0;
    assert_eq!(encrypted(&with("certified", "certified.crt", "open.key")).await.is_ok(), owned_by_root);
    for (name, text) in [("empty.pem", ""), ("text.pem", "hush"), ("bad.pem", &pem("CERTIFICATE", b"hush"))] {
        let root = parameter("sslrootcert", &keep(name, text));
        let error =
            encrypted(&server.url("trusted", "localhost", &format!("sslmode=verify-ca&{root}"))).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains(name), "{error}");
    }
}

/// Certificates are renewed while a worker runs.
#[tokio::test]
async fn files_are_read_again_when_they_have_changed() {
    let (server, _) = tls_server().await;
    let root = server.folder.path().join("root.pem");
    let parameters = format!("sslmode=verify-full&{}", parameter("sslrootcert", &root));
    let mut settings = Settings::new(server.url("crypted:hush", "localhost", &parameters).parse().unwrap());
    settings.connect_timeout = std::time::Duration::from_secs(10);
    let pool = postgres::connect(&settings).await.unwrap();
    let held = pool.get().await.unwrap();
    let next = Authority::new("next");
    server.show("next", &next.sign(&named("localhost", &["localhost"]))).await;
    assert!(pool.get().await.is_err(), "it is of another authority");
    std::fs::write(&root, "half writ").unwrap();
    assert!(pool.get().await.is_err(), "nobody has written it to its end");
    std::fs::write(&root, &next.pem).unwrap();
    pool.get().await.unwrap();
    drop(held);
}

#[tokio::test]
async fn channel_binding_is_used_when_it_is_required_or_there_is_no_connection() {
    let (server, authority) = tls_server().await;
    let require = |user: &str| server.url(user, "localhost", "sslmode=require&channel_binding=require");
    assert!(encrypted(&require("crypted:hush")).await.unwrap());
    for parameters in ["channel_binding=require", "sslmode=allow&channel_binding=require"] {
        assert!(encrypted(&server.url("crypted:hush", "localhost", parameters)).await.unwrap(), "{parameters}");
    }
    // A password that is stored in the old way, and a server that asks for none.
    for user in ["old:hush", "trusted"] {
        let error = encrypted(&require(user)).await.unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
        assert!(error.to_string().contains("channel_binding=require demands"), "{error}");
        let preferred = server.url(user, "localhost", "sslmode=require&channel_binding=prefer");
        assert!(encrypted(&preferred).await.unwrap());
    }

    // Somebody in between who ends the TLS with a certificate of the right authority, and looks at what goes by.
    let between = authority.sign(&named("localhost", &["localhost"]));
    let port = between_us(server.server.port(), &between.certificate, &between.key).await;
    let root = parameter("sslrootcert", &server.folder.path().join("root.pem"));
    let url = |user: &str, parameters: &str| {
        server.url(user, "localhost", parameters).replace(&format!(":{}/", server.server.port()), &format!(":{port}/"))
    };
    let full = format!("sslmode=verify-full&{root}");
    assert!(!encrypted(&url("plain:hush", &full)).await.unwrap(), "the way from there on is not encrypted");
    let error = encrypted(&url("plain:hush", &format!("{full}&channel_binding=require"))).await.unwrap_err();
    assert!(error.to_string().contains("channel_binding=require demands"), "{error}");
}

/// Takes TLS, and goes on to the server without.
async fn between_us(server: u16, certificate: &str, key: &str) -> u16 {
    let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                near.read_exact(&mut [0; 8]).await?; // asks for TLS
                near.write_all(b"S").await?;
                let mut near = acceptor.accept(near).await?;
                let mut far = TcpStream::connect(("127.0.0.1", server)).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    port
}
