//! Servers that tell what they were asked, send elsewhere, or send too much.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use futures_util::stream;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// Answers with what it was asked; `/to?URL` redirects, and some other paths misbehave.
pub struct Echo {
    pub base: String,
    pub port: u16,
    seen: Arc<AtomicUsize>,
    closed: Arc<Notify>,
}

impl Echo {
    pub async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, end) = (seen.clone(), closed.clone());
        let app = Router::new().fallback(move |request: Request| {
            count.fetch_add(1, Ordering::SeqCst);
            answer(request, end.clone())
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Echo { base: format!("http://127.0.0.1:{port}"), port, seen, closed }
    }

    /// How often it was asked.
    pub fn count(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Wait until somebody has turned away from `/endless`.
    pub async fn closed(&self) {
        tokio::time::timeout(Duration::from_secs(30), self.closed.notified()).await.expect("nobody turned away");
    }
}

struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn answer(request: Request, closed: Arc<Notify>) -> Response {
    let (head, body) = request.into_parts();
    match head.uri.path() {
        "/to" => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, head.uri.query().unwrap().to_owned())]).into_response()
        }
        "/endless" => {
            let told = Told(closed);
            let chunks = stream::repeat_with(move || {
                let _ = &told;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1024]))
            });
            Body::from_stream(chunks).into_response()
        }
        "/announced" => {
            ([(header::CONTENT_LENGTH, "1000000")], Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()))
                .into_response()
        }
        "/headers" => ([("x-large", "x".repeat(1100))], "small").into_response(),
        "/drip" => {
            let drops = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b".")), ()))
            });
            Body::from_stream(drops).into_response()
        }
        // In pieces of three bytes, with a pause in between, so that they arrive apart.
        "/pieces" => {
            let text = echo(&head, &axum::body::to_bytes(body, 1 << 20).await.unwrap());
            let pieces: Vec<_> = text.as_bytes().chunks(3).map(Bytes::copy_from_slice).collect();
            let pieces = stream::unfold(pieces.into_iter(), |mut pieces| async {
                tokio::task::yield_now().await;
                Some((Ok::<_, Infallible>(pieces.next()?), pieces))
            });
            Body::from_stream(pieces).into_response()
        }
        "/json" => {
            let text = echo(&head, &axum::body::to_bytes(body, 1 << 20).await.unwrap());
            axum::Json(serde_json::json!({"asked": text})).into_response()
        }
        _ => {
            let text = echo(&head, &axum::body::to_bytes(body, 1 << 20).await.unwrap());
            let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
            format!("{text}\n{encoded}").into_response()
        }
    }
}

/// The request as text: method and URI, headers, body.
fn echo(head: &axum::http::request::Parts, body: &[u8]) -> String {
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text.push_str(&String::from_utf8_lossy(body));
    text
}

/// A server for `localhost` with a certificate of an authority of its own. `/down` redirects to a given URL.
pub struct TlsServer {
    pub base: String,
    pub authority: tempfile::NamedTempFile,
}

impl TlsServer {
    pub async fn start(down: &str) -> TlsServer {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &issuer).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), root.pem()).unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let down = down.to_owned();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, down) = (acceptor.clone(), down.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut asked = [0; 1024];
                    let length = stream.read(&mut asked).await.unwrap_or(0);
                    let answer = if asked[..length].starts_with(b"GET /down") {
                        format!(
                            "HTTP/1.1 302 Found\r\nlocation: {down}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                        )
                    } else {
                        "HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nover TLS".to_owned()
                    };
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        TlsServer { base, authority: file }
    }
}
