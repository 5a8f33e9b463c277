//! Layering: defaults, file, environment, flags; and where each value came from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{Config, File, FileFormat};
use serde_json::{Map, Value};

use super::{Admin, ConfigError, Problem, Settings, places, secret_file, validate};

/// Prefix of the variables: `FIREFLOW__QUEUE__NAME` sets `queue.name`.
const PREFIX: &str = "FIREFLOW__";

/// Largest configuration file, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// The credentials of a service that hold URLs, as systemd hands them over: they win over the file, and the environment over them.
const CREDENTIALS: [(&str, &str); 2] = [("database-url", "database.url"), ("flows-database-url", "database.flows_url")];

/// The credentials that are named as files, where the configuration names none: the token of the admin listener, the headers for
/// the collector of traces.
const FILES: [(&str, &str); 2] = [("admin-token", "admin.token_file"), ("trace-headers", "trace.headers_file")];

/// Parts of a key, at most: more than any has.
const DEEPEST: usize = 8;

/// Values from the command line, by dotted key.
pub type Overrides = Vec<(&'static str, String)>;

/// Where each value that isn't a default came from, by dotted key.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    known: BTreeMap<String, Source>,
    /// Where keys and sections stand in the file.
    lines: BTreeMap<String, usize>,
}

#[derive(Clone, Debug)]
enum Source {
    /// The file of this name.
    File(String),
    /// Something else.
    Other(String),
}

impl Sources {
    /// The source of a key, for people: a file comes with the key's line.
    pub fn of(&self, key: &str) -> String {
        let exact = self.known.get(key);
        // A wrong section, or a key below a value of the wrong type, is found by its neighbours.
        let near = || self.known.iter().find(|(known, _)| known.starts_with(key) || key.starts_with(known.as_str()));
        match exact.or_else(|| near().map(|(_, source)| source)) {
            None => "default".into(),
            Some(Source::Other(source)) => source.clone(),
            Some(Source::File(name)) => match self.line(key) {
                Some(line) => format!("{name}:{line}"),
                None => name.clone(),
            },
        }
    }

    /// The line of a key, or of what it is in.
    fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }
}

/// Load the settings: `file` (if any), then the variables of `environment`, then `flags`.
///
/// # Errors
/// [`ConfigError`], naming file and key at fault.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: Overrides,
) -> Result<(Settings, Sources), ConfigError> {
    let text = file.map(read).transpose()?;
    load_text(file.zip(text.as_deref()), environment, flags)
}

/// As [`load`], with the file's text.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    file: Option<(&Path, &str)>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: Overrides,
) -> Result<(Settings, Sources), ConfigError> {
    let (file, text) = file.unzip();
    let mut sources = Sources::default();
    let mut builder = Config::builder();
    if let Some(text) = text {
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
    }
    let from_file = builder.build().map_err(|error| syntax(file, &error))?;
    let mut tree: Value = from_file.try_deserialize().map_err(|error| syntax(file, &error))?;
    let name = file.map_or_else(String::new, |path| path.display().to_string());
    leaves(&tree, "", &mut |key| {
        sources.known.insert(key, Source::File(name.clone()));
    });
    sources.lines = text.map(places::lines).unwrap_or_default();

    let shape = serde_json::to_value(Settings::default()).unwrap_or_default();
    let environment = environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let credentials = credentials(&environment)?;
    let variables = variables(&environment);
    let flags = flags.into_iter().map(|(key, value)| (key.to_owned(), value, "command line".to_owned()));
    let several = tree.get("queue").and_then(Value::as_array).map_or(0, Vec::len);
    for (key, text, source) in credentials.into_iter().chain(variables).chain(flags) {
        if several > 0 && key.starts_with("queue.") {
            let text = format!(
                "can't be set here: the file has [[queue]] {several} times, and this doesn't say which one; change it there"
            );
            return Err(ConfigError::Invalid(vec![Problem { source, key, text }]));
        }
        if key.split('.').nth(DEEPEST).is_some() {
            let key = key.split('.').take(DEEPEST).collect::<Vec<_>>().join(".");
            let text = format!("there is more after it; no key has more than {DEEPEST} parts");
            return Err(ConfigError::Invalid(vec![Problem { source: shorter(&source), key, text }]));
        }
        set(&mut tree, &key, typed(&text, lookup(&shape, &key)));
        sources.known.insert(key, Source::Other(source));
    }

    for (name, key) in FILES {
        let credential = environment.get("CREDENTIALS_DIRECTORY").map(|folder| format!("{folder}/{name}"));
        if let Some(file) = credential.filter(|file| Path::new(file).exists() && lookup(&tree, key).is_none()) {
            set(&mut tree, key, file.into());
            sources.known.insert(key.into(), Source::Other(format!("credential {name}")));
        }
    }

    let settings: Settings = serde_path_to_error::deserialize(&tree).map_err(|error| {
        let key = error.path().to_string();
        let words = error.into_inner().to_string();
        // An unknown key is reported with its parent's path or its own, depending on the parser: show it once.
        let unknown = words.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let stands = unknown.map(|name| format!("{key}.{name}")).filter(|whole| sources.lines.contains_key(whole));
        let source = sources.of(stands.as_deref().unwrap_or(&key));
        ConfigError::Invalid(vec![Problem { source, key, text: explain(&words) }])
    })?;
    let problems = validate::problems(&settings, &sources);
    if problems.is_empty() { Ok((settings, sources)) } else { Err(ConfigError::Invalid(problems)) }
}

/// Load the section `[admin]` alone, to ask a worker that runs: what is wrong elsewhere must not keep from it, since a worker
/// goes on with what it started with.
///
/// # Errors
/// As [`load`], for this section.
pub fn load_admin(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Admin, ConfigError> {
    let text = file.map(read).transpose()?.map(admin_alone);
    let environment = environment.into_iter().filter(|(name, _)| {
        let key = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase);
        key.is_some_and(|key| key.starts_with("admin__"))
    });
    let (settings, _) = load_text(file.zip(text.as_deref()), environment, Vec::new())?;
    Ok(settings.admin)
}

/// A file without its other sections. What isn't TOML stays as it is, and is refused as ever.
fn admin_alone(text: String) -> String {
    let Ok(mut sections) = text.parse::<toml::Table>() else { return text };
    sections.retain(|name, _| name == "admin");
    sections.to_string()
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let text = secret_file::read_up_to(path, LARGEST).and_then(|bytes| {
        String::from_utf8(bytes)
            .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no text in UTF-8"))
    });
    text.map_err(|source| ConfigError::Unreadable { path: path.into(), source })
}

/// The URLs among the service's credentials, as [`variables`].
fn credentials(environment: &BTreeMap<String, String>) -> Result<Vec<(String, String, String)>, ConfigError> {
    let Some(folder) = environment.get("CREDENTIALS_DIRECTORY") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (name, key) in CREDENTIALS {
        let path = Path::new(folder).join(name);
        let unreadable = |source| ConfigError::Unreadable { path: path.clone(), source };
        match secret_file::read(&path) {
            Ok(url) => {
                let no_text =
                    |_| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no text in UTF-8"));
                let url = String::from_utf8(url).map_err(no_text)?;
                found.push((key.to_owned(), url, format!("credential {name}")));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(found)
}

fn syntax(file: Option<&Path>, error: &config::ConfigError) -> ConfigError {
    ConfigError::Syntax { path: file.map_or_else(PathBuf::new, Path::to_path_buf), text: error.to_string() }
}

/// The variables that are settings, as (key, value, source). `FIREFLOW__…` wins over the general names.
fn variables(all: &BTreeMap<String, String>) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut add = |key: &str, variable: &str| {
        if let Some(value) = all.get(variable) {
            found.push((key.to_owned(), value.clone(), format!("variable {variable}")));
        }
    };
    match all.contains_key("DATABASE_URL_EXECUTIONS") {
        true => {
            add("database.url", "DATABASE_URL_EXECUTIONS");
            add("database.flows_url", "DATABASE_URL");
        }
        false => add("database.url", "DATABASE_URL"),
    }
    for (variable, value) in all {
        if let Some(rest) = variable.strip_prefix(PREFIX) {
            let key = rest.to_ascii_lowercase().replace("__", ".");
            found.push((key, value.clone(), format!("variable {variable}")));
        }
    }
    found
}

/// The source of a key that is far too long.
fn shorter(source: &str) -> String {
    let short: String = source.chars().take(80).collect();
    if short.len() < source.len() { format!("{short}…") } else { short }
}

/// A text as the JSON type that its key has by default; a text that doesn't read so stays one, and is refused later.
fn typed(text: &str, like: Option<&Value>) -> Value {
    let parsed = match like {
        Some(Value::Number(like)) if like.is_f64() => {
            text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        Some(Value::Number(_)) => text.trim().parse::<i64>().ok().map(Value::from),
        Some(Value::Bool(_)) => text.trim().parse::<bool>().ok().map(Value::from),
        Some(Value::Array(_)) => {
            Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect())
        }
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

fn lookup<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |node, part| node.get(part))
}

fn set(tree: &mut Value, key: &str, value: Value) {
    let mut node = tree;
    for part in key.split('.') {
        if !node.is_object() {
            *node = Value::Object(Map::new());
        }
        // Just made an object, so it takes a key.
        node = match node {
            Value::Object(fields) => fields.entry(part).or_insert(Value::Null),
            other => other,
        };
    }
    *node = value;
}

fn leaves(tree: &Value, path: &str, found: &mut impl FnMut(String)) {
    match tree {
        Value::Object(fields) => {
            for (key, value) in fields {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        _ => found(path.to_owned()),
    }
}

/// The deserialiser's words, with a suggestion for a mistyped key.
fn explain(text: &str) -> String {
    let mut quoted = text.split('`').skip(1).step_by(2);
    if !text.starts_with("unknown field") {
        return text.to_owned();
    }
    let Some(wrong) = quoted.next() else { return text.to_owned() };
    let known: Vec<&str> = quoted.collect();
    let best = known.iter().map(|name| (strsim::jaro_winkler(wrong, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, name)) if likeness > 0.8 => format!("unknown key; did you mean `{name}`?"),
        _ => format!("unknown key; known here: {}", known.join(", ")),
    }
}
