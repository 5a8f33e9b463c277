//! Which server, from the port `connection`: its URL and headers, with template variables filled in and secrets put in.

use std::borrow::Cow;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::flow::Value;
use crate::flow::text::text_or_empty;
use crate::nodes::secrets::{Form, Secrets, count};
use crate::nodes::{NodeError, NodeRun, template};

/// Where to speak to.
pub(super) struct Server {
    /// The URL as it is asked for.
    pub url: Url,
    /// The URL before secrets were put in.
    pub public: Url,
    /// Headers of every request.
    pub headers: HeaderMap,
}

impl Server {
    pub fn read(run: &NodeRun) -> Result<Server, NodeError> {
        let variables = run.get("templateVariables");
        let connection = run.get("connection").as_object();
        let field = |name: &str| connection.and_then(|fields| fields.get(name)).unwrap_or(&Value::Undefined);
        let fill = |text: &str, what: &str| {
            template::fill(text, variables).map_err(|error| wrong(&format!("{what} is no template: {error}")))
        };
        let text = fill(&text_or_empty(field("serverUrl")), "serverUrl")?;
        if text.trim().is_empty() {
            return Err(wrong("serverUrl is empty; connect a MCPConnectionNode or set it"));
        }
        let public = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let public = public.ok_or_else(|| wrong("serverUrl holds no URL that starts with http:// or https://"))?;
        if count(&text) > count(public.path()) + public.query().map_or(0, count) {
            return Err(wrong("serverUrl refers to a secret outside of its path and query"));
        }
        let secrets = run.context().outbound.secrets();
        let url = secrets.url(&public).map_err(|error| wrong(&error.to_string()))?;
        let mut headers = HeaderMap::new();
        for (name, text) in pairs(field("headers")) {
            let text = fill(&text, "a header")?;
            let (name, value) = header(&name, &text, secrets, &public)?;
            headers.append(name, value);
        }
        Ok(Server { url, public, headers })
    }
}

fn header(name: &str, text: &str, secrets: &Secrets, to: &Url) -> Result<(HeaderName, HeaderValue), NodeError> {
    let text = secrets.text(text.trim(), Form::Plain, to).map_err(|error| wrong(&error.to_string()))?;
    let parsed = HeaderName::from_bytes(name.trim().as_bytes()).ok().zip(HeaderValue::from_str(&text).ok());
    let (name, mut value) = parsed.ok_or_else(|| wrong("headers has an entry that is no header"))?;
    value.set_sensitive(matches!(text, Cow::Owned(_)));
    Ok((name, value))
}

/// Headers as an object has them, as a list of names with values, or as lines of text.
fn pairs(headers: &Value) -> Vec<(String, String)> {
    let pairs: Vec<(String, String)> = match headers {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.to_string(), text_or_empty(value))).collect(),
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_object)
            .filter_map(|fields| {
                let name = fields.get("name").or_else(|| fields.get("key"))?;
                Some((text_or_empty(name), fields.get("value").map_or_else(String::new, text_or_empty)))
            })
            .collect(),
        text => text_or_empty(text)
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    };
    pairs.into_iter().filter(|(name, value)| !name.trim().is_empty() && !value.trim().is_empty()).collect()
}

fn wrong(text: &str) -> NodeError {
    NodeError::new(format!("port `connection`: {text}"))
}
