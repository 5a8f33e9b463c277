//! JSON values as pickles of protocol 4. Without a memo, frames or recursion: one pass, linear in the value.

use std::slice::Iter as Items;

use serde_json::map::Iter as Fields;
use serde_json::{Number, Value};

use crate::wire::Arguments;

const PROTOCOL_4: [u8; 2] = [0x80, 4];

/// One value.
pub fn value(value: &Value) -> Vec<u8> {
    let mut out = PROTOCOL_4.to_vec();
    put(&mut out, Open::None, Some(value));
    out.push(b'.');
    out
}

/// `{"args": (…), "kwargs": {…}}`.
pub fn inputs(arguments: &Arguments) -> Vec<u8> {
    let mut out = PROTOCOL_4.to_vec();
    out.extend(b"}(");
    put_text(&mut out, "args");
    out.push(b'(');
    put(&mut out, Open::Items(arguments.positional.iter(), b't'), None);
    put_text(&mut out, "kwargs");
    out.extend(b"}(");
    put(&mut out, Open::Fields(arguments.named.iter()), None);
    out.extend(b"u.");
    out
}

/// `Exception(message)`. Protocol 2 with the class under its old module, a form that all SDKs were seen to read.
pub fn exception(message: &str) -> Vec<u8> {
    let mut out = b"\x80\x02cexceptions\nException\n".to_vec();
    put_text(&mut out, message);
    out.extend(b"\x85R.");
    out
}

/// A container that is being written, up to the opcode that ends it.
enum Open<'v> {
    None,
    Items(Items<'v, Value>, u8),
    Fields(Fields<'v>),
}

/// Writes a value, or the rest of a container, with an own stack instead of recursion.
fn put<'v>(out: &mut Vec<u8>, within: Open<'v>, mut next: Option<&'v Value>) {
    let mut open = match within {
        Open::None => Vec::new(),
        container => vec![container],
    };
    loop {
        match next.take() {
            None => {}
            Some(Value::Null) => out.push(b'N'),
            Some(Value::Bool(flag)) => out.push(if *flag { 0x88 } else { 0x89 }),
            Some(Value::Number(number)) => put_number(out, number),
            Some(Value::String(text)) => put_text(out, text),
            Some(Value::Array(items)) => {
                out.extend(b"](");
                open.push(Open::Items(items.iter(), b'e'));
            }
            Some(Value::Object(fields)) => {
                out.extend(b"}(");
                open.push(Open::Fields(fields.iter()));
            }
        }
        let end = match open.last_mut() {
            None | Some(Open::None) => return,
            Some(Open::Items(items, end)) => {
                next = items.next();
                *end
            }
            Some(Open::Fields(fields)) => {
                next = fields.next().map(|(key, value)| {
                    put_text(out, key);
                    value
                });
                b'u'
            }
        };
        if next.is_none() {
            out.push(end);
            open.pop();
        }
    }
}

fn put_number(out: &mut Vec<u8>, number: &Number) {
    if let Some(int) = number.as_i64() {
        match i32::try_from(int) {
            Ok(int) => {
                out.push(b'J');
                out.extend(int.to_le_bytes());
            }
            Err(_) => {
                out.extend([0x8a, 8]);
                out.extend(int.to_le_bytes());
            }
        }
    } else if let Some(int) = number.as_u64() {
        // A ninth byte keeps the sign positive.
        out.extend([0x8a, 9]);
        out.extend(int.to_le_bytes());
        out.push(0);
    } else {
        out.push(b'G');
        out.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    match u32::try_from(text.len()) {
        Ok(length) => {
            out.push(b'X');
            out.extend(length.to_le_bytes());
        }
        Err(_) => {
            out.push(0x8d);
            out.extend((text.len() as u64).to_le_bytes());
        }
    }
    out.extend(text.as_bytes());
}
