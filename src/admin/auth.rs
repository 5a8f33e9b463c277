//! Who may ask the listener for what. Probes are for everybody: they say yes or no, and who runs probes has no secrets to send.
//! The rest tells of the work, and is for those with the token, where there is one; without one, for this machine alone. So are
//! the reasons that a probe gives: they may name hosts, users and queues.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use ring::{hmac, rand::SystemRandom};

use super::ListenError;
use crate::{
    config::{self, secret_file},
    postgres::Telling,
};

/// What everybody may ask.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// On a request of somebody who isn't told more than yes or no.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger;

/// Fewest bytes of a token: it must not be found by trying.
const SHORTEST: usize = 16;

/// Who may ask for more than probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody who can connect.
    Everybody,
    /// Nobody.
    Nobody,
    /// Those who send the token in this file.
    Token(PathBuf),
}

impl Access {
    /// As the settings say. The token must be usable now.
    ///
    /// # Errors
    /// [`ListenError::Token`].
    pub fn of(settings: &config::Admin) -> Result<Access, ListenError> {
        if let Some(file) = &settings.token_file {
            let failed = |why| ListenError::Token { file: file.clone(), why };
            token(file).map_err(failed)?;
            secret_file::warn_if_open("admin.token_file", file);
            return Ok(Access::Token(file.clone()));
        }
        if settings.listen.is_local() || settings.allow_unauthenticated {
            return Ok(Access::Everybody);
        }
        tracing::warn!(
            listen = %settings.listen,
            "others than this machine can reach the admin listener, and there is no admin.token_file: it answers probes \
             (/livez, /readyz) and nothing else. Set admin.token_file, or admin.allow_unauthenticated = true"
        );
        Ok(Access::Nobody)
    }

    /// The router, for those who may.
    pub fn guard(self, router: Router) -> Router {
        match self {
            Access::Everybody => router,
            access => {
                let guard = Guard { access, told: Mutex::default() };
                router.layer(middleware::from_fn_with_state(Arc::new(guard), judge))
            }
        }
    }
}

/// The token, read again each time: it may be replaced.
fn token(file: &std::path::Path) -> Result<Vec<u8>, String> {
    let token = secret_file::read(file).map_err(|error| error.to_string())?;
    if token.len() < SHORTEST {
        return Err(format!("it has {} bytes; a token has at least {SHORTEST} (openssl rand -hex 32)", token.len()));
    }
    Ok(token)
}

/// Lets in who may.
struct Guard {
    access: Access,
    /// That the token can't be read is told once a minute, however often somebody asks.
    told: Mutex<Telling>,
}

async fn judge(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    match guard.refusal(bearer(&request).map(<[u8]>::to_vec)).await {
        Some(_) if PROBES.contains(&request.uri().path()) => {
            request.extensions_mut().insert(Stranger);
            next.run(request).await
        }
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

impl Guard {
    /// Why a request with this token isn't answered; `None` for who may ask.
    async fn refusal(&self, given: Option<Vec<u8>>) -> Option<Response> {
        let Access::Token(file) = &self.access else {
            let text = "not for everybody: set admin.token_file, or admin.allow_unauthenticated = true\n";
            return Some((StatusCode::FORBIDDEN, text).into_response());
        };
        let unknown =
            |text| Some((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response());
        let Some(given) = given else {
            return unknown("a token is needed: Authorization: Bearer TOKEN\n");
        };
        let file = file.clone();
        let known = tokio::task::spawn_blocking(move || token(&file)).await;
        match known.map_err(|panicked| panicked.to_string()).and_then(|read| read) {
            Ok(known) if are_equal(&given, &known) => None,
            Ok(_) => unknown("this is not the token\n"),
            Err(why) => {
                if self.told.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
                    tracing::error!(why, "admin.token_file can't be used; nobody is let in");
                }
                let text = "the token can't be read; see the worker's log\n";
                Some((StatusCode::SERVICE_UNAVAILABLE, text).into_response())
            }
        }
    }
}

/// The token that a request has.
fn bearer(request: &Request) -> Option<&[u8]> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether two texts are the same, in a time that doesn't tell where they differ: by keyed hashes, with a key that is new each time.
fn are_equal(given: &[u8], known: &[u8]) -> bool {
    let Ok(key) = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()) else { return false };
    hmac::verify(&key, given, hmac::sign(&key, known).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_is_equal() {
        for (given, equal) in
            [("0123456789abcdef", true), ("0123456789abcdeg", false), ("0123456789abcde", false), ("", false)]
        {
            assert_eq!(are_equal(given.as_bytes(), b"0123456789abcdef"), equal, "{given}");
        }
    }

    #[test]
    fn a_bearer_token_is_read_from_its_header() {
        for (value, token) in [
            ("Bearer hush", Some("hush")),
            ("bearer  hush ", Some("hush")),
            ("Basic hush", None),
            ("Bearer", None),
            ("", None),
        ] {
            let request = axum::http::Request::builder().header("authorization", value);
            let request = request.body(axum::body::Body::empty()).unwrap();
            assert_eq!(bearer(&request), token.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn elsewhere_than_here_nobody_is_let_in_without_a_token_or_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "short\n").unwrap();
        let with = |listen: &str, token_file: Option<&PathBuf>, allow_unauthenticated| {
            let listen = listen.parse().unwrap();
            let token_file = token_file.cloned();
            Access::of(&config::Admin { listen, token_file, allow_unauthenticated, ..config::Admin::default() })
        };
        assert_eq!(with("127.0.0.1:1", None, false).unwrap(), Access::Everybody);
        assert_eq!(with("unix:/run/admin.sock", None, false).unwrap(), Access::Everybody);
        assert_eq!(with("0.0.0.0:1", None, false).unwrap(), Access::Nobody);
        assert_eq!(with("0.0.0.0:1", None, true).unwrap(), Access::Everybody);
        let error = with("127.0.0.1:1", Some(&file), false).unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("at least 16"), "{error}");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        assert_eq!(with("0.0.0.0:1", Some(&file), false).unwrap(), Access::Token(file.clone()));
        assert_eq!(with("unix:/run/admin.sock", Some(&file), false).unwrap(), Access::Token(file));
    }
}
