//! Secrets by reference: a text `secret://NAME` in a flow stands for a value of the worker's environment or of a file.
//!
//! The reference travels through the flow as the text that it is. Only where a node sends it out it becomes the value
//! ([`Secrets::text`]), if `[secrets]` allows the name and the host; and what comes back is searched for values
//! ([`Redactor`]), so that none gets into events, rows, results or the log.

mod files;
mod redact;
mod reference;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percent_encoding::utf8_percent_encode;
use url::{Host, Url};

pub use self::redact::{Redactor, Scrubber};
pub use self::reference::{count, first, is_name, refers};

use self::files::Files;
use self::reference::{Piece, pieces};
use crate::config::{HostRule, Secrets as Settings};

/// A value of fewer bytes is no secret: it could be guessed, and would be found everywhere.
const LEAST: usize = 8;
/// Largest value, in bytes.
const MOST: usize = 8 * 1024;
/// All values together, in bytes: they are searched for in everything that comes in.
const MOST_TOGETHER: usize = 64 * 1024;
/// Values that were replaced and are searched for all the same: they may still come back.
const FORMER: usize = 32;
/// What the worker itself is configured by is no flow's business, whatever `secrets.environment` says.
const RESERVED: [&str; 4] = ["DATABASE_URL", "FIREFLOW__", "PGPASSWORD", "PGPASSFILE"];

/// A reference can't be followed. Texts name the secret, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No such secret.
    #[error("there is no secret {0}; [secrets] in the worker's configuration says which there may be")]
    Unknown(String),
    /// There is one, and it can't be used.
    #[error("the secret {name} can't be used: {why}")]
    Unusable {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// It may not be sent there.
    #[error("the secret {name} may not be sent to {host}; secrets.hosts says where it may")]
    Forbidden {
        /// Which.
        name: String,
        /// Where it was to go.
        host: String,
    },
}

/// How a value is written where its reference stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// With all that has a meaning in URLs and forms percent-encoded.
    Encoded,
}

/// The secrets of a worker. Clones are the same.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    redactor: Redactor,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    folder: Option<PathBuf>,
    /// Files that the worker itself is configured by.
    own: Arc<[PathBuf]>,
    hosts: BTreeMap<String, Vec<HostRule>>,
    environment: BTreeMap<String, Held>,
    files: Files,
    former: VecDeque<(String, Arc<str>)>,
}

/// A value, or why it can't be used.
type Held = Result<Arc<str>, String>;

impl Secrets {
    /// As the settings say, from these variables and the folder's files as they are now.
    pub fn new(settings: &Settings, environment: impl IntoIterator<Item = (String, String)>) -> Secrets {
        let secrets = Secrets::default();
        secrets.change(settings, environment);
        secrets
    }

    /// These files are no flow's business, should they be in the folder: what the worker itself is configured by. Takes
    /// effect with the next look at the folder.
    pub fn reserve(&self, own: Vec<PathBuf>) {
        self.0.state().own = own.into();
    }

    /// From now on as these settings say. Values that are secrets no more are still taken out of what comes back: they may
    /// be on their way.
    pub fn change(&self, settings: &Settings, environment: impl IntoIterator<Item = (String, String)>) {
        let chosen = |name: &str| {
            is_name(name)
                && !RESERVED.iter().any(|reserved| name.starts_with(reserved))
                && settings.environment.iter().any(|known| match known.strip_suffix('*') {
                    Some(beginning) => name.starts_with(beginning),
                    None => name == known,
                })
        };
        let environment = environment.into_iter().filter(|(name, _)| chosen(name));
        let environment: BTreeMap<String, Held> =
            environment.map(|(name, value)| (name, usable(value.as_bytes()))).collect();
        // Not under the lock: a slow folder holds up nobody who resolves.
        let (known, own) = {
            let state = self.0.state();
            (state.files.clone(), state.own.clone())
        };
        let files = settings.folder.as_deref().map(|folder| known.again(folder, &own)).unwrap_or_default();
        {
            let mut state = self.0.state();
            let before: Vec<_> = std::mem::replace(&mut state.environment, environment).into_iter().collect();
            state.folder.clone_from(&settings.folder);
            state.hosts.clone_from(&settings.hosts);
            for (name, held) in before {
                if let Ok(value) = held
                    && state.environment.get(&name) != Some(&Ok(value.clone()))
                {
                    state.bury(name, value);
                }
            }
            state.replace(files);
        }
        self.0.learn();
        self.0.complain();
    }

    /// Look at the folder, and read what has changed in it.
    pub async fn refresh(&self) {
        if self.0.state().folder.is_none() {
            return;
        }
        let inner = self.0.clone();
        let looked = tokio::task::spawn_blocking(move || inner.refresh()).await;
        if let Err(error) = looked {
            tracing::error!(%error, "can't look at the folder of secrets");
        }
    }

    /// The text with values in place of its references, for this host; borrowed when it has none.
    ///
    /// # Errors
    /// A secret is unknown, can't be used, or may not be sent there.
    pub fn text<'a>(&self, text: &'a str, form: Form, to: &Url) -> Result<Cow<'a, str>, SecretError> {
        if !refers(text) {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Reference(name) => {
                    let value = self.value(name, to)?;
                    match form {
                        Form::Plain => out.push_str(&value),
                        Form::Encoded => out.extend(utf8_percent_encode(&value, redact::COMPONENT)),
                    }
                }
            }
        }
        Ok(Cow::Owned(out))
    }

    /// Put values in place of the references in the texts of a JSON value; the name of one of them, if there is any.
    /// The value must not nest deeply.
    ///
    /// # Errors
    /// As [`Secrets::text`].
    pub fn json(&self, value: &mut serde_json::Value, to: &Url) -> Result<Option<String>, SecretError> {
        let mut found = None;
        let put = |inner: &mut serde_json::Value| -> Result<(), SecretError> {
            found = self.json(inner, to)?.or(found.take());
            Ok(())
        };
        match value {
            serde_json::Value::String(text) => {
                let name = first(text).map(str::to_owned);
                if let Cow::Owned(resolved) = self.text(text, Form::Plain, to)? {
                    *text = resolved;
                }
                return Ok(name);
            }
            serde_json::Value::Array(items) => items.iter_mut().try_for_each(put)?,
            serde_json::Value::Object(fields) => fields.values_mut().try_for_each(put)?,
            _ => {}
        }
        Ok(found)
    }

    /// The URL with values in place of the references in its path and query.
    ///
    /// # Errors
    /// As [`Secrets::text`].
    pub fn url(&self, url: &Url) -> Result<Url, SecretError> {
        let mut resolved = url.clone();
        if let Cow::Owned(path) = self.text(url.path(), Form::Encoded, url)? {
            resolved.set_path(&path);
        }
        if let Some(Cow::Owned(query)) = url.query().map(|query| self.text(query, Form::Encoded, url)).transpose()? {
            resolved.set_query(Some(&query));
        }
        Ok(resolved)
    }

    /// What takes them out of what comes back.
    pub fn redactor(&self) -> Redactor {
        self.0.redactor.clone()
    }

    fn value(&self, name: &str, to: &Url) -> Result<Arc<str>, SecretError> {
        let shown = || name.chars().take(128).collect::<String>();
        let state = self.0.state();
        let held = match (state.files.get(name), state.environment.get(name), state.files.trouble()) {
            (Some(held), _, _) | (None, Some(held), _) => held,
            (None, None, None) => return Err(SecretError::Unknown(shown())),
            (None, None, Some(why)) => {
                return Err(SecretError::Unusable { name: shown(), why: format!("the folder can't be read: {why}") });
            }
        };
        if let Some(rules) = state.hosts.get(name)
            && !rules.iter().any(|rule| covers(rule, to))
        {
            let host = to.host_str().unwrap_or_default().to_owned();
            return Err(SecretError::Forbidden { name: name.to_owned(), host });
        }
        held.clone().map_err(|why| SecretError::Unusable { name: name.to_owned(), why })
    }
}

/// Whether a rule is about a URL's host, by what the URL says: where a name leads is the policy's matter.
fn covers(rule: &HostRule, url: &Url) -> bool {
    let port = url.port_or_known_default().unwrap_or_default();
    match url.host() {
        Some(Host::Domain(name)) => rule.covers_name(name.trim_end_matches('.'), port),
        Some(Host::Ipv4(address)) => rule.covers_address(address.into(), port) || rule.covers_name("", port),
        Some(Host::Ipv6(address)) => rule.covers_address(address.to_canonical(), port) || rule.covers_name("", port),
        None => false,
    }
}

/// The value that these bytes are.
fn usable(bytes: &[u8]) -> Held {
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |bytes| bytes.strip_suffix(b"\r").unwrap_or(bytes));
    if bytes.len() < LEAST {
        return Err(format!("it has {} bytes; at least {LEAST} are needed", bytes.len()));
    }
    if bytes.len() > MOST {
        return Err(format!("it is larger than {MOST} bytes"));
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.map(Arc::from).ok_or_else(|| "it is no text".into())
}

impl State {
    /// These are the folder's files now.
    fn replace(&mut self, files: Files) {
        let before = std::mem::replace(&mut self.files, files);
        for (name, value) in before.values() {
            if self.files.get(name) != Some(&Ok(value.clone())) {
                self.bury(name.to_owned(), value.clone());
            }
        }
    }

    /// Remember a value that is a secret no more.
    fn bury(&mut self, name: String, value: Arc<str>) {
        self.former.push_back((name, value));
        while self.former.len() > FORMER {
            self.former.pop_front();
        }
    }
}

impl Inner {
    /// Read what has changed in the folder.
    fn refresh(&self) {
        // Not under the lock: a slow folder holds up nobody who resolves.
        let (folder, known, own) = {
            let state = self.state();
            let Some(folder) = state.folder.clone() else { return };
            (folder, state.files.clone(), state.own.clone())
        };
        let found = known.again(&folder, &own);
        if found == known {
            return;
        }
        {
            let mut state = self.state();
            if state.folder.as_ref() != Some(&folder) {
                return; // it was configured anew meanwhile
            }
            state.replace(found);
        }
        self.learn();
        self.complain();
    }

    /// Bring the redactor up to date, and refuse what goes beyond the limit of all together.
    fn learn(&self) {
        let mut state = self.state();
        let State { environment, files, .. } = &mut *state;
        let mut together = 0;
        for held in environment.values_mut().chain(files.held_mut()) {
            together += held.as_ref().map_or(0, |value| value.len());
            if together > MOST_TOGETHER && held.is_ok() {
                *held = Err(format!("all secrets together are larger than {MOST_TOGETHER} bytes"));
            }
        }
        let environment =
            state.environment.iter().filter_map(|(name, held)| Some((name.as_str(), &**held.as_ref().ok()?)));
        let files = state.files.values().map(|(name, value)| (name, &**value));
        let former = state.former.iter().map(|(name, value)| (name.as_str(), &**value));
        self.redactor.know(files.chain(environment).chain(former));
    }

    fn complain(&self) {
        let state = self.state();
        if let Some(why) = state.files.trouble() {
            tracing::warn!(why, "secrets.folder can't be read");
        }
        let environment = state.environment.iter().map(|(name, held)| (name.as_str(), held));
        for (name, held) in environment.chain(state.files.iter()) {
            if let Err(why) = held {
                tracing::warn!(name, why, "a secret can't be used");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

#[cfg(test)]
mod tests;
