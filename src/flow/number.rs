//! Numbers as JavaScript writes and reads them: flows were designed against its text forms, so `1e21` is `1e+21`
//! and a blank text reads as 0.

/// The text of a number: shortest digits that read back the same, exponential from 1e21 up and from 1e-7 down.
pub fn number_text(number: f64) -> String {
    ryu_js::Buffer::new().format(number).to_owned()
}

/// Read a text as JavaScript's `Number(text)` does; `None` where that gives NaN.
///
/// Surrounding white space is ignored, blank text is 0; decimal with optional exponent, `Infinity`, and unsigned
/// hexadecimal, octal and binary are understood.
pub fn read_number(text: &str) -> Option<f64> {
    let text = trim(text);
    if text.is_empty() {
        return Some(0.0);
    }
    let radix_bits = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => 4,
        [b'0', b'o' | b'O', ..] => 3,
        [b'0', b'b' | b'B', ..] => 1,
        _ => return read_decimal(text),
    };
    read_radix(&text[2..], radix_bits)
}

/// Cut off what JavaScript counts as white space, line ends and the byte order mark included.
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// JavaScript's white space: Unicode's, without NEL and with the byte order mark.
pub fn is_space(character: char) -> bool {
    character == '\u{feff}' || (character.is_whitespace() && character != '\u{85}')
}

fn read_decimal(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "Infinity" {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    // The form is checked first: Rust's reader also takes `inf`, `nan` and the like.
    if well_formed { text.parse().ok() } else { None }
}

/// Digits of a radix that is a power of two, rounded once at the end: the first 120 bits are kept, and any bit
/// beyond them only says whether the number lies above the half.
fn read_radix(digits: &str, bits: u32) -> Option<f64> {
    if digits.is_empty() {
        return None;
    }
    let mut kept: u128 = 0;
    let mut dropped_bits: u32 = 0;
    let mut above = false;
    for character in digits.chars() {
        let digit = character.to_digit(1 << bits)?;
        if kept >> 120 == 0 {
            kept = kept << bits | u128::from(digit);
        } else {
            above |= digit != 0;
            dropped_bits = dropped_bits.saturating_add(bits);
        }
    }
    let scale = i32::try_from(dropped_bits).unwrap_or(i32::MAX);
    Some((kept | u128::from(above)) as f64 * 2f64.powi(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_numbers_as_javascript_does() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e21, "1e+21"),
            (123456789012345680000.0, "123456789012345680000"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }

    #[test]
    fn reads_numbers_as_javascript_does() {
        for (text, number) in [
            ("", Some(0.0)),
            (" \t\n\u{feff}\u{a0}", Some(0.0)),
            (" 12 ", Some(12.0)),
            ("+1.5e3", Some(1500.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("-.5E-1", Some(-0.05)),
            ("1e400", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0x1F", Some(31.0)),
            ("0b101", Some(5.0)),
            ("0o17", Some(15.0)),
            ("0x20000000000001", Some(9007199254740992.0)), // a tie goes to even
            ("0x20000000000001000000000000000000000001", Some(f64::from_bits(0x4940_0000_0000_0001))), // just above it
            ("-0x1", None),
            ("0x", None),
            ("0xg", None),
            ("inf", None),
            ("infinity", None),
            ("nan", None),
            (".", None),
            ("1e", None),
            ("1_000", None),
            ("1 2", None),
            ("12px", None),
            ("\u{85}1", None),
        ] {
            assert_eq!(read_number(text), number, "{text:?}");
        }
    }
}
