//! Category `data`: texts, numbers as text, and reading streams.

use super::port::{FLAG, NUMBER, TEXT, input, output};
use super::{Behaviour, NodeError, NodeRun, NodeType, PortSpec};
use crate::flow::Value;
use crate::flow::number::{number_text, read_number};
use crate::flow::stream::Channel;
use crate::flow::text::text_or_empty;

const STREAM_OF_TEXT: &str =
    r#"{"type":"stream","itemConfig":{"type":"string"},"defaultValue":{"type":"stream","buffer":[],"isClosed":false}}"#;
/// Configuration of a port for a stream of anything.
pub(super) const STREAM_OF_ANY: &str =
    r#"{"type":"stream","itemConfig":{"type":"any"},"defaultValue":{"type":"stream","buffer":[],"isClosed":false}}"#;

/// More decimal places than any number has use for; a limit on the text's length.
const MAX_PLACES: f64 = 1_000.0;

/// The types of this category.
pub(super) const TYPES: &[NodeType] = &[
    data(
        "NumberToStringNode",
        "A number as text, with a fixed number of decimal places or as short as possible (−1)",
        const {
            &[
                input("number", NUMBER),
                input("decimalPlaces", r#"{"type":"number","min":-1,"integer":true,"defaultValue":-1}"#).required(),
                input("exponential", FLAG),
                output("text", TEXT),
            ]
        },
        Behaviour::Pure(number_to_string),
    ),
    data(
        "StringLengthNode",
        "The length of a text in UTF-16 code units",
        const { &[input("text", TEXT), output("length", NUMBER).required()] },
        Behaviour::Pure(string_length),
    ),
    data(
        "TextSearchNode",
        "Whether a text contains another, upper and lower case alike",
        const { &[input("sourceText", TEXT), input("searchText", TEXT), output("result", FLAG)] },
        Behaviour::Pure(text_search),
    ),
    data(
        "StreamBufferNode",
        "A stream read to its end, its items joined",
        const { &[input("inputStream", STREAM_OF_TEXT), input("separator", TEXT), output("buffer", TEXT)] },
        Behaviour::Async(|run| Box::pin(stream_buffer(run))),
    ),
    data(
        "OnStreamStarted",
        "Waits for a stream's first item, or its end",
        const { &[input("inputStream", STREAM_OF_ANY), output("isStreamStarted", FLAG)] },
        Behaviour::Async(|run| Box::pin(on_stream_started(run))),
    ),
];

const fn data(name: &'static str, about: &'static str, ports: &'static [PortSpec], behaviour: Behaviour) -> NodeType {
    NodeType { name, category: "data", about, ports, behaviour, disabled_auto_execution: false }
}

fn number_to_string(run: &mut NodeRun) -> Result<(), NodeError> {
    let number = match run.get("number") {
        Value::Number(number) => Some(*number),
        Value::String(text) => read_number(text),
        _ => None,
    };
    let Some(number) = number else {
        return Err(NodeError::new("port `number` holds no number; connect it to one"));
    };
    let places = match run.get("decimalPlaces") {
        value if value.is_nullish() => None,
        Value::Number(-1.0) => None,
        Value::Number(places) if places.fract() == 0.0 && (0.0..=MAX_PLACES).contains(places) => Some(*places as usize),
        _ => {
            let text = format!("port `decimalPlaces` must be −1 or a whole number from 0 to {MAX_PLACES}");
            return Err(NodeError::new(text));
        }
    };
    let text = match (run.flag("exponential"), places) {
        _ if !number.is_finite() => number_text(number),
        (false, None) => number_text(number),
        (false, Some(places)) => Digits::of(number).fixed(places),
        (true, places) => Digits::of(number).exponential(places),
    };
    run.set("text", text);
    Ok(())
}

/// A finite number's shortest decimal digits: `0.d₁d₂… × 10^point`.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    point: i32,
}

impl Digits {
    fn of(number: f64) -> Digits {
        let text = format!("{:e}", number.abs()); // d.ddde±x
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = mantissa.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect();
        Digits { negative: number < 0.0, digits, point: exponent.parse::<i32>().unwrap_or(0) + 1 }
    }

    /// Keep so many digits (none when negative), halves away from zero.
    fn rounded(mut self, keep: i32) -> Digits {
        let Ok(keep) = usize::try_from(keep) else {
            return Digits { digits: vec![0], point: 1, ..self };
        };
        if keep >= self.digits.len() {
            return self;
        }
        let up = self.digits[keep] >= 5;
        self.digits.truncate(keep);
        if up {
            loop {
                match self.digits.pop() {
                    Some(9) => continue,
                    Some(digit) => self.digits.push(digit + 1),
                    None => {
                        self.digits.push(1);
                        self.point += 1;
                    }
                }
                break;
            }
        }
        if self.digits.is_empty() {
            return Digits { digits: vec![0], point: 1, ..self };
        }
        self
    }

    fn digit(&self, position: i32) -> char {
        let digit = usize::try_from(position).ok().and_then(|position| self.digits.get(position)).copied();
        char::from(b'0' + digit.unwrap_or(0))
    }

    fn sign(&self) -> &'static str {
        if self.negative && self.digits.iter().any(|digit| *digit != 0) { "-" } else { "" }
    }

    fn fixed(self, places: usize) -> String {
        let places = places as i32; // at most MAX_PLACES
        let keep = self.point + places;
        let mut text = self.sign().to_owned(); // also where nothing but zeros is left
        let number = self.rounded(keep);
        if number.point <= 0 {
            text.push('0');
        } else {
            text.extend((0..number.point).map(|position| number.digit(position)));
        }
        if places > 0 {
            text.push('.');
            text.extend((number.point..number.point + places).map(|position| number.digit(position)));
        }
        text
    }

    fn exponential(self, places: Option<usize>) -> String {
        let number = match places {
            Some(places) => self.rounded(places as i32 + 1),
            None => self,
        };
        let places = places.unwrap_or(number.digits.len() - 1) as i32; // there is at least one digit
        let mut text = format!("{}{}", number.sign(), number.digit(0));
        if places > 0 {
            text.push('.');
            text.extend((1..=places).map(|position| number.digit(position)));
        }
        let exponent = number.point - 1;
        text.push_str(&format!("e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs()));
        text
    }
}

fn string_length(run: &mut NodeRun) -> Result<(), NodeError> {
    let length = match run.get("text") {
        Value::String(text) => text.encode_utf16().count(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    run.set("length", length as f64);
    Ok(())
}

fn text_search(run: &mut NodeRun) -> Result<(), NodeError> {
    let found = run.text("sourceText").to_lowercase().contains(&run.text("searchText").to_lowercase());
    run.set("result", found);
    Ok(())
}

async fn stream_buffer(run: &mut NodeRun) -> Result<(), NodeError> {
    let stream = run.stream("inputStream")?;
    let separator = run.text("separator");
    let mut buffer = String::new();
    let mut position = 0;
    while let Some(item) = next(run, &stream, position).await? {
        if position > 0 {
            buffer.push_str(&separator);
        }
        buffer.push_str(&text_or_empty(&item));
        position += 1;
    }
    run.set("buffer", buffer);
    check(&stream, "inputStream")
}

async fn on_stream_started(run: &mut NodeRun) -> Result<(), NodeError> {
    let stream = run.stream("inputStream")?;
    let started = next(run, &stream, 0).await?.is_some();
    check(&stream, "inputStream")?;
    run.set("isStreamStarted", started);
    Ok(())
}

async fn next(run: &NodeRun, stream: &Channel, position: usize) -> Result<Option<Value>, NodeError> {
    tokio::select! {
        biased;
        item = stream.item(position) => Ok(item),
        () = run.cancelled().cancelled() => Err(NodeError::stopped("the stream on port `inputStream`")),
    }
}

/// Fail when the stream was closed with an error.
pub(super) fn check(stream: &Channel, port: &str) -> Result<(), NodeError> {
    match stream.error() {
        Some(error) => Err(NodeError::new(format!("the stream on port `{port}` ended with an error: {error}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::flow::Value;
    use crate::flow::stream::Channel;
    use crate::nodes::testing::{Bench, fails, ports};

    #[test]
    fn numbers_as_text() {
        // Expected values are what decimal.js gives, halves up.
        for (number, places, exponential, text) in [
            (json!(6), -1, false, "6"),
            (json!(1e21), -1, false, "1e+21"),
            (json!(1e-7), -1, false, "1e-7"),
            (json!(6), 2, false, "6.00"),
            (json!(2.5), 0, false, "3"),
            (json!(-2.5), 0, false, "-3"),
            (json!(1.005), 2, false, "1.01"),
            (json!(0.5), 0, false, "1"),
            (json!(0.4), 0, false, "0"),
            (json!(-0.4), 0, false, "-0"),
            (json!(-0.04), 1, false, "-0.0"),
            (json!(-0.0), 1, false, "0.0"),
            (json!(0.05), 1, false, "0.1"),
            (json!(0.04), 1, false, "0.0"),
            (json!(0.004), 2, false, "0.00"),
            (json!(0.001234), 5, false, "0.00123"),
            (json!(99.995), 2, false, "100.00"),
            (json!(9.99), 0, false, "10"),
            (json!(1e21), 1, false, "1000000000000000000000.0"),
            (json!(1e-7), 7, false, "0.0000001"),
            (json!(1e-7), 3, false, "0.000"),
            (json!(1234.5), 3, false, "1234.500"),
            (json!(0), 2, false, "0.00"),
            (json!(1234.5), -1, true, "1.2345e+3"),
            (json!(1234.5), 2, true, "1.23e+3"),
            (json!(1235), 2, true, "1.24e+3"),
            (json!(9.999), 1, true, "1.0e+1"),
            (json!(0.00012), 0, true, "1e-4"),
            (json!(0), -1, true, "0e+0"),
            (json!(0), 2, true, "0.00e+0"),
            (json!(-5), 1, true, "-5.0e+0"),
            (json!("12.5"), 1, false, "12.5"),
        ] {
            let inputs = json!({"number": number, "decimalPlaces": places, "exponential": exponential});
            assert_eq!(ports("NumberToStringNode", &inputs)["text"], json!(text), "{inputs}");
        }
    }

    #[test]
    fn numbers_that_are_none_fail() {
        for (inputs, port) in [
            (json!({"number": null}), "`number`"),
            (json!({"number": "x"}), "`number`"),
            (json!({"number": true}), "`number`"),
            (json!({"number": 1, "decimalPlaces": -2}), "`decimalPlaces`"),
            (json!({"number": 1, "decimalPlaces": 1.5}), "`decimalPlaces`"),
            (json!({"number": 1, "decimalPlaces": 1e9}), "`decimalPlaces`"),
        ] {
            let (text, _) = fails("NumberToStringNode", &inputs);
            assert!(text.contains(port), "{inputs}: {text}");
        }
    }

    #[test]
    fn texts_are_measured_and_searched() {
        for (text, length) in [
            (json!("gear"), 4),
            (json!("é😀"), 3),
            (json!(""), 0),
            (json!(null), 0),
            (json!(12), 0),
            (json!([1, 2]), 2),
        ] {
            assert_eq!(ports("StringLengthNode", &json!({"text": text}))["length"], json!(length), "{text}");
        }
        for (source, search, found) in [
            ("Hello World", "WORLD", true),
            ("abc", "", true),
            ("", "a", false),
            ("ÄÖ", "äö", true),
            ("abc", "ac", false),
        ] {
            let inputs = json!({"sourceText": source, "searchText": search});
            assert_eq!(ports("TextSearchNode", &inputs)["result"], json!(found), "{inputs}");
        }
    }

    #[tokio::test]
    async fn streams_are_joined_as_they_come() {
        let stream = Channel::with_items(vec!["x".into(), Value::Number(1.5)], false);
        let bench = Bench::new("StreamBufferNode", &json!({"separator": "-"}))
            .port("inputStream", Value::Stream(stream.clone()));
        let reader = tokio::spawn(bench.run());
        tokio::task::yield_now().await;
        stream.send(Value::Null).unwrap();
        stream.send("z".into()).unwrap();
        stream.close(None);
        let outcome = reader.await.unwrap();
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.json()["buffer"], json!("x-1.5--z"));
    }

    #[tokio::test]
    async fn a_streams_error_fails_its_readers() {
        for node in ["StreamBufferNode", "OnStreamStarted"] {
            let stream = Channel::with_items(vec!["x".into()], false);
            stream.close(Some("line lost".to_owned()));
            let outcome = Bench::new(node, &json!({})).port("inputStream", Value::Stream(stream)).run().await;
            assert!(outcome.result.unwrap_err().to_string().contains("line lost"), "{node}");
        }
    }

    #[tokio::test]
    async fn readers_of_open_streams_stop_when_asked() {
        for node in ["StreamBufferNode", "OnStreamStarted"] {
            let bench = Bench::new(node, &json!({})).port("inputStream", Value::Stream(Channel::default()));
            bench.cancel.cancel();
            assert!(bench.run().await.result.unwrap_err().to_string().contains("stopped"), "{node}");
        }
    }

    #[tokio::test]
    async fn a_stream_has_started_with_its_first_item_only() {
        for (items, started) in [(vec!["x".into()], true), (vec![], false)] {
            let stream = Value::Stream(Channel::with_items(items, true));
            let outcome = Bench::new("OnStreamStarted", &json!({})).port("inputStream", stream).run().await;
            assert_eq!(outcome.json()["isStreamStarted"], json!(started));
        }
        let outcome = Bench::new("OnStreamStarted", &json!({})).port("inputStream", Value::Null).run().await;
        assert!(outcome.result.unwrap_err().to_string().contains("`inputStream`"));
    }
}
