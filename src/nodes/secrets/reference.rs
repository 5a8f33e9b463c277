//! How a text refers to a secret: `secret://NAME`. The name is letters, digits, `_` and `-`, and ends where something else
//! begins, so that it can stand within longer text: `Bearer secret://API_TOKEN`, `/v1?key=secret://KEY&page=2`.

/// What every reference begins with.
const MARK: &str = "secret://";
/// Longest name, in bytes.
const NAME_MAX: usize = 128;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// Stands for the secret of this name.
    Reference(&'a str),
}

/// Whether a secret can have this name: 1 to 128 letters, digits, `_` and `-`, of ASCII.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(belongs)
}

/// Whether a text refers to a secret.
pub fn refers(text: &str) -> bool {
    first(text).is_some()
}

/// The name of the first secret that a text refers to.
pub fn first(text: &str) -> Option<&str> {
    pieces(text).find_map(|piece| match piece {
        Piece::Text(_) => None,
        Piece::Reference(name) => Some(name),
    })
}

/// How often a text refers to secrets.
pub fn count(text: &str) -> usize {
    pieces(text).filter(|piece| matches!(piece, Piece::Reference(_))).count()
}

/// The text in parts. What begins like a reference and has no name is text.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    let mut name = "";
    std::iter::from_fn(move || {
        if !name.is_empty() {
            return Some(Piece::Reference(std::mem::take(&mut name)));
        }
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(found) = rest[from..].find(MARK) {
            let start = from + found;
            let after = &rest[start + MARK.len()..];
            let length = after.find(|c| !belongs(c)).unwrap_or(after.len());
            if length > 0 {
                let before = &rest[..start];
                (name, rest) = after.split_at(length);
                if before.is_empty() {
                    return Some(Piece::Reference(std::mem::take(&mut name)));
                }
                return Some(Piece::Text(before));
            }
            from = start + MARK.len();
        }
        Some(Piece::Text(std::mem::take(&mut rest)))
    })
}

fn belongs(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_end_where_something_else_begins() {
        use Piece::{Reference as R, Text as T};
        for (text, expected) in [
            ("", vec![]),
            ("plain", vec![T("plain")]),
            ("secret://A", vec![R("A")]),
            ("Bearer secret://API_TOKEN", vec![T("Bearer "), R("API_TOKEN")]),
            ("?a=secret://A&b=secret://B-2", vec![T("?a="), R("A"), T("&b="), R("B-2")]),
            ("secret://Asecret://B", vec![R("Asecret"), T("://B")]),
            ("secret://A.secret://B", vec![R("A"), T("."), R("B")]),
            ("secret://../x", vec![T("secret://../x")]),
            ("secret:// secret://é secret://A", vec![T("secret:// secret://é "), R("A")]),
            ("secret://A/../../etc", vec![R("A"), T("/../../etc")]),
            ("SECRET://A", vec![T("SECRET://A")]),
        ] {
            assert_eq!(pieces(text).collect::<Vec<_>>(), expected, "{text}");
            assert_eq!(refers(text), expected.iter().any(|piece| matches!(piece, R(_))));
        }
        assert!(is_name("DB_password-2") && !is_name("") && !is_name("a/b") && !is_name("..") && !is_name("a b"));
        assert!(is_name(&"a".repeat(128)) && !is_name(&"a".repeat(129)));
    }
}
