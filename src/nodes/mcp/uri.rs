//! URI templates (RFC 6570) with simple values: `file:///{+path}`, `/items/{id}{?page,size}`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::flow::Object;
use crate::flow::text::text_or_empty;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What `{+name}` and `{#name}` leave as it is, besides.
const RESERVED: &AsciiSet = &UNRESERVED
    .remove(b':')
    .remove(b'/')
    .remove(b'?')
    .remove(b'#')
    .remove(b'[')
    .remove(b']')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b'%');

/// The template with values in place of its expressions. Names without a value are left out, as the standard says.
pub(super) fn expand(template: &str, values: &Object) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((expression, after)) = after.split_once('}') else { break };
        out.push_str(before);
        expression_into(&mut out, expression, values);
        rest = after;
    }
    out.push_str(rest);
    out
}

fn expression_into(out: &mut String, expression: &str, values: &Object) {
    // First, between, whether names are written, what an empty value looks like, and what stays as it is.
    let (first, between, named, empty, set) = match expression.chars().next() {
        Some('+') => ("", ",", false, "", RESERVED),
        Some('#') => ("#", ",", false, "", RESERVED),
        Some('.') => (".", ".", false, "", UNRESERVED),
        Some('/') => ("/", "/", false, "", UNRESERVED),
        Some(';') => (";", ";", true, "", UNRESERVED),
        Some('?') => ("?", "&", true, "=", UNRESERVED),
        Some('&') => ("&", "&", true, "=", UNRESERVED),
        _ => ("", ",", false, "", UNRESERVED),
    };
    let names = expression.trim_start_matches(['+', '#', '.', '/', ';', '?', '&']);
    let mut separator = first;
    for name in names.split(',') {
        let name = name.trim_end_matches('*');
        let (name, most) = match name.split_once(':') {
            Some((name, most)) => (name, most.parse().unwrap_or(usize::MAX)),
            None => (name, usize::MAX),
        };
        let Some(value) = values.get(name).filter(|value| !value.is_nullish()) else { continue };
        let text: String = text_or_empty(value).chars().take(most).collect();
        out.push_str(separator);
        separator = between;
        if named {
            out.push_str(name);
            out.push_str(if text.is_empty() { empty } else { "=" });
        }
        out.extend(utf8_percent_encode(&text, set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Value;

    #[test]
    fn templates_are_filled_as_the_standard_says() {
        // From the examples of RFC 6570.
        let values = serde_json::json!({"var": "value", "hello": "Hello World!", "path": "/foo/bar", "x": 1024, "y": 768,
            "empty": "", "none": null});
        let Value::Object(values) = Value::from(&values) else { unreachable!() };
        for (template, expanded) in [
            ("{var}", "value"),
            ("{hello}", "Hello%20World%21"),
            ("{+hello}", "Hello%20World!"),
            ("{+path}/here", "/foo/bar/here"),
            ("X{#path}", "X#/foo/bar"),
            ("map?{x,y}", "map?1024,768"),
            ("X{.x,y}", "X.1024.768"),
            ("{/var,x}/here", "/value/1024/here"),
            ("{;x,empty}", ";x=1024;empty"),
            ("{?x,y,empty}", "?x=1024&y=768&empty="),
            ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
            ("{var:3}{none}{unknown}", "val"),
            ("{?none}", ""),
            ("open {var", "open {var"),
        ] {
            assert_eq!(expand(template, &values), expanded, "{template}");
        }
    }
}
