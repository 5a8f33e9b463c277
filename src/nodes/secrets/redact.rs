//! Finds secrets in what comes back, and puts `[secret NAME]` in their place: as they are, and in the forms in which
//! servers tend to show them again. A net, not a wall: who can make a server turn a value around gets it past this.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is encoded in a component of a URL.
pub(super) const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// As JavaScript's `encodeURIComponent` does.
const LENIENT: &AsciiSet = &COMPONENT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// Replaces known secrets. Clones know the same ones, also those that become known later.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Option<Arc<Patterns>>>>);

struct Patterns {
    matcher: AhoCorasick,
    /// What to put in place, by pattern.
    replacements: Vec<String>,
    /// The patterns in order, to tell whether a text may be the beginning of one.
    sorted: Vec<Vec<u8>>,
    longest: usize,
}

impl Redactor {
    /// From now on, replace these values: (name, value).
    pub(super) fn know<'a>(&self, values: impl Iterator<Item = (&'a str, &'a str)>) {
        let patterns = Patterns::new(values).map(Arc::new);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = patterns;
    }

    /// The text without secrets.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(patterns) = self.patterns() else { return Cow::Borrowed(text) };
        if !patterns.matcher.is_match(text) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(patterns.matcher.replace_all(text, &patterns.replacements))
    }

    /// The bytes without secrets.
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(patterns) = self.patterns() else { return Cow::Borrowed(bytes) };
        if !patterns.matcher.is_match(bytes) {
            return Cow::Borrowed(bytes);
        }
        Cow::Owned(patterns.matcher.replace_all_bytes(bytes, &patterns.replacements))
    }

    /// For bytes that come in pieces.
    pub fn stream(&self) -> Scrubber {
        Scrubber { patterns: self.patterns(), held: Vec::new() }
    }

    fn patterns(&self) -> Option<Arc<Patterns>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// Replaces secrets in bytes that come in pieces, also where a secret is cut in two. Holds back only what may be the
/// beginning of one.
pub struct Scrubber {
    patterns: Option<Arc<Patterns>>,
    held: Vec<u8>,
}

impl Scrubber {
    /// Take a piece; what is certain by now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(patterns) = &self.patterns else { return piece.to_vec() };
        self.held.extend_from_slice(piece);
        let mut certain = Vec::with_capacity(self.held.len());
        let mut done = 0;
        loop {
            let open = patterns.open_from(&self.held, done);
            let rest = aho_corasick::Input::new(&self.held).range(done..);
            match patterns.matcher.find(rest) {
                Some(found) if found.start() < open => {
                    certain.extend_from_slice(&self.held[done..found.start()]);
                    certain.extend_from_slice(patterns.replacements[found.pattern()].as_bytes());
                    done = found.end();
                }
                _ => {
                    certain.extend_from_slice(&self.held[done..open]);
                    self.held.drain(..open);
                    return certain;
                }
            }
        }
    }

    /// What was held back, at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        match &self.patterns {
            Some(patterns) => patterns.matcher.replace_all_bytes(&held, &patterns.replacements),
            None => held,
        }
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrubber")
    }
}

impl Patterns {
    fn new<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Patterns> {
        let mut by_form: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        for (name, value) in values {
            for form in forms(value) {
                by_form.entry(form).or_insert_with(|| format!("[secret {name}]"));
            }
        }
        let (sorted, replacements): (Vec<_>, Vec<_>) = by_form.into_iter().unzip();
        let longest = sorted.iter().map(Vec::len).max()?;
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&sorted)
            .ok()?; // fails beyond 2^31 patterns or states, far above the limits of secrets
        Some(Patterns { matcher, replacements, sorted, longest })
    }

    /// From where on the bytes may be the beginning of a pattern that goes on beyond them.
    fn open_from(&self, bytes: &[u8], from: usize) -> usize {
        let earliest = bytes.len().saturating_sub(self.longest - 1).max(from);
        (earliest..bytes.len()).find(|start| self.begins_pattern(&bytes[*start..])).unwrap_or(bytes.len())
    }

    fn begins_pattern(&self, bytes: &[u8]) -> bool {
        let next = self.sorted.partition_point(|pattern| pattern.as_slice() <= bytes);
        self.sorted.get(next).is_some_and(|pattern| pattern.starts_with(bytes))
    }
}

/// The value as it is, and as JSON, URLs, forms, HTML, host names and base64 have it.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let quoted = serde_json::Value::from(value).to_string();
    let json = &quoted[1..quoted.len() - 1];
    let slashed = json.replace('/', "\\/");
    let mut forms: Vec<String> = vec![value.into(), value.to_ascii_lowercase(), json.into(), ascii_json(json)];
    forms.extend([ascii_json(&slashed), slashed]);
    for set in [COMPONENT, LENIENT, NON_ALPHANUMERIC] {
        let encoded = utf8_percent_encode(value, set).to_string();
        forms.push(lower_hex(&encoded));
        forms.push(encoded.replace("%20", "+"));
        forms.push(encoded);
    }
    forms.push(
        value
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;"),
    );
    let mut found: Vec<Vec<u8>> = forms.into_iter().map(String::into_bytes).collect();
    // What base64 has may be a request that was written in one of these ways. Within longer data, base64 of the same bytes
    // comes in three shapes: the characters that hold no others' bits.
    for form in [value, json, &utf8_percent_encode(value, COMPONENT).to_string()] {
        for before in 0..3 {
            let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(form.bytes()).collect();
            let inner = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                found.push(engine.encode(&bytes).as_bytes()[inner.clone()].to_vec());
            }
        }
    }
    found
}

/// JSON that keeps to ASCII, as some writers do.
fn ascii_json(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

fn lower_hex(encoded: &str) -> String {
    let mut left = 0_u8; // characters of an escape that are still to come
    let lower = |c: char| {
        left = if c == '%' { 3 } else { left };
        let digit = left > 0;
        left = left.saturating_sub(1);
        if digit { c.to_ascii_lowercase() } else { c }
    };
    encoded.chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const VALUE: &str = "p\"ss/wörd+ <&> 1?";

    fn redactor() -> Redactor {
        let redactor = Redactor::default();
        redactor.know([("KEY", VALUE), ("LONG", "abcdefghij"), ("LONGER", "abcdefghijklmnop")].into_iter());
        redactor
    }

    #[test]
    fn values_are_found_in_the_forms_that_servers_show() {
        let redactor = redactor();
        for text in [
            VALUE.to_owned(),
            serde_json::Value::from(VALUE).to_string(),
            r#"p\"ss\/w\u00f6rd+ <&> 1?"#.to_owned(),
            url::form_urlencoded::byte_serialize(VALUE.as_bytes()).collect(),
            "p%22ss%2Fw%C3%B6rd%2B%20%3C%26%3E%201%3F".to_owned(),
            "p%22ss%2fw%c3%b6rd%2b%20%3c%26%3e%201%3f".to_owned(),
            "p&quot;ss/wörd+ &lt;&amp;&gt; 1?".to_owned(),
        ] {
            let found = redactor.text(&text).replace('"', "");
            assert_eq!(found, "[secret KEY]", "{text}");
        }
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                for engine in [STANDARD, URL_SAFE] {
                    let encoded = engine.encode(format!("{before}{VALUE}{after}"));
                    let found = redactor.text(&encoded);
                    assert!(found.contains("[secret KEY]"), "{encoded}: {found}");
                }
            }
        }
        assert_eq!(redactor.text("nothing here"), "nothing here");
        assert_eq!(redactor.text("abcdefghijklmno abcdefghijklmnop"), "[secret LONG]klmno [secret LONGER]");
        assert_eq!(redactor.bytes(b"\xff abcdefghij"), b"\xff [secret LONG]".as_slice());
        assert_eq!(Redactor::default().text(VALUE), VALUE);
    }

    #[test]
    fn a_value_that_comes_in_pieces_is_found_wherever_it_is_cut() {
        let redactor = redactor();
        let text = format!("before {VALUE} abcdefghijklmnop abcdefghijk {}abcdefgh", STANDARD.encode(VALUE));
        let whole = redactor.text(&text).into_owned();
        assert_eq!(whole.matches("[secret").count(), 4);
        for size in 1..text.len() {
            let mut scrubber = redactor.stream();
            let mut out = Vec::new();
            text.as_bytes().chunks(size).for_each(|piece| out.extend(scrubber.push(piece)));
            out.extend(scrubber.finish());
            assert_eq!(String::from_utf8(out).unwrap(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn only_what_may_be_a_beginning_is_held_back() {
        let mut scrubber = redactor().stream();
        assert_eq!(scrubber.push(b"data: 1\n\n"), b"data: 1\n\n");
        assert_eq!(scrubber.push(b"data: abc"), b"data: ");
        assert_eq!(scrubber.push(b"d\n\n"), b"abcd\n\n");
        assert_eq!(scrubber.push(b"abcdefghij"), b"");
        assert_eq!(scrubber.push(b"klmnop."), b"[secret LONGER].");
        assert_eq!(scrubber.finish(), b"");
    }
}
