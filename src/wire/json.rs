//! JSON text as JavaScript and Python write it.

use std::borrow::Cow;

use serde_json::Value;

use super::{DecodeError, Format};

/// Parses JSON text; nesting is limited by the parser (128 levels).
///
/// JavaScript strings may hold half a surrogate pair, for example after a cut in the middle of an emoji, and
/// its JSON writes that half as an escape which no Unicode string can hold. Such a half becomes U+FFFD.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match replace_lone_surrogates(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(repaired) => serde_json::from_str(&repaired),
    })
}

/// [`parse`] with the format's name in the error.
pub fn decode(format: Format, text: &str) -> Result<Value, DecodeError> {
    parse(text).map_err(|source| DecodeError::Json { format, source })
}

fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut repaired = String::new();
    let (mut kept, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match surrogate_at(bytes, at) {
            Some(Half::High) if surrogate_at(bytes, at + 6) == Some(Half::Low) => at += 12,
            Some(_) => {
                repaired.push_str(&text[kept..at]);
                repaired.push_str("\\ufffd");
                at += 6;
                kept = at;
            }
            // The escaped character may itself be a backslash.
            None => at += 2,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    repaired.push_str(&text[kept..]);
    Cow::Owned(repaired)
}

#[derive(PartialEq, Eq)]
enum Half {
    High,
    Low,
}

/// The half that the escape of six ASCII bytes at `at` stands for, if it is one.
fn surrogate_at(bytes: &[u8], at: usize) -> Option<Half> {
    let [b'\\', b'u', digits @ ..] = bytes.get(at..at + 6)? else { return None };
    let [b'd' | b'D', second, third, fourth] = digits else { return None };
    if !third.is_ascii_hexdigit() || !fourth.is_ascii_hexdigit() {
        return None;
    }
    match second.to_ascii_lowercase() {
        b'8' | b'9' | b'a' | b'b' => Some(Half::High),
        b'c'..=b'f' => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_surrogate_pair_becomes_the_replacement_character() {
        let parsed = |text| parse(text).unwrap();
        assert_eq!(parsed(r#""a\ud83db""#), "a\u{fffd}b");
        assert_eq!(parsed(r#""\uDE00 \ud83d\ud83d\ude00""#), "\u{fffd} \u{fffd}\u{1f600}");
        assert_eq!(parsed(r#"["\\ud83d", "\ud83d"]"#), serde_json::json!(["\\ud83d", "\u{fffd}"]));
        assert_eq!(parsed(r#""é\ud83d""#), "é\u{fffd}");
    }

    #[test]
    fn other_mistakes_stay_mistakes() {
        for text in ["", "{", "nul", r#""\ud8"#, r#""\ud83d"#, "NaN", "\"\\", &"[".repeat(100_000)] {
            assert!(parse(text).is_err(), "{text:.20}");
        }
    }
}
