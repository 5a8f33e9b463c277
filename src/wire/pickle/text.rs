//! Texts and integers in the forms that pickle's opcodes have for them.

use std::borrow::Cow;

use super::read::Node;

/// UTF-8 as Python writes it, which may hold halves of surrogate pairs as three bytes each. No Unicode string
/// can hold those: each becomes U+FFFD.
pub fn of_utf8(bytes: &[u8]) -> Option<Cow<'_, str>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Some(Cow::Borrowed(text));
    }
    let mut repaired = bytes.to_vec();
    for at in 0..repaired.len().saturating_sub(2) {
        if let [0xed, 0xa0..=0xbf, 0x80..=0xbf] = repaired[at..at + 3] {
            repaired[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
    String::from_utf8(repaired).ok().map(Cow::Owned)
}

/// Latin-1 with `\uXXXX` and `\UXXXXXXXX`, the text form of protocol 0.
pub fn of_raw_unicode_escape(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        let width = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(*byte));
                rest = after;
                continue;
            }
        };
        let code = hex(after.get(1..=width)?)?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &after[width + 1..];
    }
    Some(text)
}

/// A string literal of Python 2, ASCII only.
pub fn of_quoted(line: &[u8]) -> Option<String> {
    let (quote, inner) = line.split_first().filter(|(quote, _)| matches!(quote, b'\'' | b'"'))?;
    let mut rest = inner.strip_suffix(&[*quote])?;
    let mut text = String::with_capacity(rest.len());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let mut literal = *byte;
        if literal == b'\\' {
            let (escape, after) = rest.split_first()?;
            rest = after;
            literal = match escape {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'\\' | b'\'' | b'"' => *escape,
                b'x' => {
                    let code = hex(rest.get(..2)?)?;
                    rest = &rest[2..];
                    u8::try_from(code).ok()?
                }
                _ => return None,
            };
        }
        if !literal.is_ascii() {
            return None;
        }
        text.push(char::from(literal));
    }
    Some(text)
}

fn hex(digits: &[u8]) -> Option<u32> {
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

/// A decimal integer of at most `max` digits.
pub fn integer_of_digits(digits: &[u8], max: usize) -> Option<Node<'static>> {
    let text = std::str::from_utf8(digits).ok()?.trim();
    let magnitude = text.strip_prefix(['-', '+']).unwrap_or(text);
    if magnitude.is_empty() || magnitude.len() > max || !magnitude.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    if let Ok(int) = text.parse() {
        return Some(Node::Int(int));
    }
    Some(text.parse().map_or_else(|_| Node::Big(text.into()), Node::Unsigned))
}

/// A two's complement integer, least byte first. None at all is zero.
pub fn integer_of_bytes(bytes: &[u8]) -> Node<'static> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    if let Some(wide) = widen::<16>(bytes, fill) {
        let wide = i128::from_le_bytes(wide);
        return i64::try_from(wide)
            .map(Node::Int)
            .or_else(|_| u64::try_from(wide).map(Node::Unsigned))
            .unwrap_or_else(|_| Node::Big(wide.to_string()));
    }
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in &mut magnitude {
            let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, overflow);
        }
    }
    let digits = decimal(&magnitude);
    Node::Big(if negative { format!("-{digits}") } else { digits })
}

fn widen<const N: usize>(bytes: &[u8], fill: u8) -> Option<[u8; N]> {
    let mut wide = [fill; N];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(wide)
}

/// Decimal digits of an unsigned integer, least byte first: long division by 10⁹. Quadratic, on a bounded length.
fn decimal(bytes: &[u8]) -> String {
    const CHUNK: u64 = 1_000_000_000;
    let mut limbs: Vec<u64> =
        bytes.chunks(4).map(|chunk| chunk.iter().rev().fold(0, |limb, byte| (limb << 8) | u64::from(*byte))).collect();
    let mut chunks = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut remainder = 0;
        for limb in limbs.iter_mut().rev() {
            let dividend = (remainder << 32) | *limb;
            (*limb, remainder) = (dividend / CHUNK, dividend % CHUNK);
        }
        chunks.push(remainder);
    }
    let mut digits = chunks.pop().unwrap_or(0).to_string();
    for chunk in chunks.iter().rev() {
        digits.push_str(&format!("{chunk:09}"));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: Node<'_>) -> String {
        format!("{node:?}")
    }

    #[test]
    fn integers_of_every_width() {
        assert_eq!(shown(integer_of_bytes(&[])), "Int(0)");
        assert_eq!(shown(integer_of_bytes(&[0xff])), "Int(-1)");
        assert_eq!(shown(integer_of_bytes(&[0, 0, 0, 0, 0, 0, 0, 0x80])), format!("Int({})", i64::MIN));
        assert_eq!(shown(integer_of_bytes(&[0xff; 8])), "Int(-1)");
        let mut unsigned = [0xff; 9];
        unsigned[8] = 0;
        assert_eq!(shown(integer_of_bytes(&unsigned)), format!("Unsigned({})", u64::MAX));
        let mut power = [0u8; 26];
        power[25] = 1;
        let two_to_200 = "1606938044258990275541962092341162602522202993782792835301376";
        assert_eq!(shown(integer_of_bytes(&power)), format!("Big({two_to_200:?})"));
        power[25] = 0xff;
        assert_eq!(shown(integer_of_bytes(&power)), format!("Big(\"-{two_to_200}\")"));
        assert_eq!(shown(integer_of_digits(two_to_200.as_bytes(), 100).unwrap()), format!("Big({two_to_200:?})"));
        for wrong in ["", "-", "1e3", "0x1", "1_0"] {
            assert!(integer_of_digits(wrong.as_bytes(), 100).is_none(), "{wrong}");
        }
    }

    #[test]
    fn texts_in_old_forms() {
        assert_eq!(of_raw_unicode_escape(br"\u005cn\u20ac\U0001f600").unwrap(), "\\n€😀");
        assert_eq!(of_raw_unicode_escape(b"\xe9\\ud83d").unwrap(), "é\u{fffd}");
        assert_eq!(of_raw_unicode_escape(br"\u12"), None);
        assert_eq!(of_raw_unicode_escape(br"\u+123"), None);
        assert_eq!(of_quoted(br"'it\'s\n\x41'").unwrap(), "it's\nA");
        assert_eq!(of_quoted(b"'"), None);
        assert_eq!(of_quoted(b"'a\""), None);
        assert_eq!(of_utf8(b"a\xed\xa0\xbdb").unwrap(), "a\u{fffd}b");
        assert_eq!(of_utf8(b"\xff"), None);
    }
}
