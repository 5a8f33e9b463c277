//! What clients write is read, what the worker writes is what clients read, and nothing hostile does harm.
//!
//! Payloads of "recorded" tables were written by unmodified SDKs (TypeScript 5.3.0, Python 3.4.0, Rust 0.5.0).

#[path = "interop/mod.rs"]
mod interop;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fireflow_worker::wire::{Arguments, DecodeError, Failure, FailureCode, Format, MAX_PAYLOAD_BYTES, PickleError};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use interop::client::Client;
use interop::setup::Lang;

fn pickled(bytes: &[u8]) -> Result<Value, DecodeError> {
    Format::Pickle.decode_value(&BASE64.encode(bytes))
}

fn pickle_error(bytes: &[u8]) -> PickleError {
    match pickled(bytes) {
        Err(DecodeError::Pickle(error)) => error,
        other => panic!("expected a pickle error, got {other:?}"),
    }
}

#[test]
fn recorded_inputs_are_read() {
    let task = json!({"executionId": "EXabc", "flowId": "Vabc", "timestamp": 1_700_000_000_000_i64});
    let one = Arguments::one(task.clone());
    let verbose = Arguments { named: Map::from_iter([("verbose".into(), json!(true))]), ..one.clone() };
    let cases = [
        (
            Format::Superjson,
            r#"{"json":[{"executionId":"EXabc","flowId":"Vabc","timestamp":1700000000000}],"__dbos_serializer":"superjson"}"#,
            &one,
        ),
        (Format::Superjson, r#"[{"executionId":"EXabc","flowId":"Vabc","timestamp":1700000000000}]"#, &one),
        (Format::Superjson, r#"{"json":[],"__dbos_serializer":"superjson"}"#, &Arguments::default()),
        (
            Format::Portable,
            r#"{"positionalArgs":[{"executionId":"EXabc","flowId":"Vabc","timestamp":1700000000000}],"namedArgs":{"verbose":true}}"#,
            &verbose,
        ),
        (
            Format::Portable,
            r#"{"positionalArgs" : [{"executionId":"EXabc","flowId":"Vabc","timestamp":1700000000000}], "namedArgs" : {}}"#,
            &one,
        ),
        (
            Format::Portable,
            r#"{"positionalArgs":[{"executionId":"EXabc","flowId":"Vabc","timestamp":1700000000000}]}"#,
            &one,
        ),
        (Format::Portable, r#"{"positionalArgs":null,"namedArgs":null}"#, &Arguments::default()),
        (
            Format::Pickle,
            "gASVVwAAAAAAAAB9lCiMBGFyZ3OUfZQojAtleGVjdXRpb25JZJSMBUVYYWJjlIwGZmxvd0lklIwEVmFiY5SMCXRpbWVzdGFtcJSKBgBo5c+LAXWFlIwGa3dhcmdzlH2UdS4=",
            &one,
        ),
        (Format::RustSerde, r#"{"executionId":"EXabc","flowId":"Vabc","timestamp":1700000000000}"#, &one),
    ];
    for (format, text, expected) in cases {
        assert_eq!(&format.decode_inputs(text).unwrap(), expected, "{text}");
    }
    let tuple = r#"[{"executionId":"EXabc","flowId":"Vabc","timestamp":1700000000000},true]"#;
    assert_eq!(Format::RustSerde.decode_inputs(tuple).unwrap().positional, vec![task, json!(true)]);
}

#[test]
fn recorded_messages_are_read() {
    let start = json!({"type": "START"});
    for (format, text) in [
        (Format::Superjson, r#"{"json":{"type":"START"},"__dbos_serializer":"superjson"}"#),
        (Format::Portable, r#"{"type":"START"}"#),
        (Format::Pickle, "gASVEwAAAAAAAAB9lIwEdHlwZZSMBVNUQVJUlHMu"),
        (Format::RustSerde, r#"{"type":"START"}"#),
    ] {
        assert_eq!(format.decode_value(text).unwrap(), start, "{format}");
    }
}

#[test]
fn answers_have_the_forms_that_clients_were_seen_to_read() {
    let ok = json!({"ok": true});
    assert_eq!(Format::Superjson.encode_value(&ok), r#"{"json":{"ok":true},"__dbos_serializer":"superjson"}"#);
    assert_eq!(Format::Portable.encode_value(&ok), r#"{"ok":true}"#);
    assert_eq!(Format::RustSerde.encode_value(&ok), r#"{"ok":true}"#);
    assert_eq!(
        Format::Superjson.encode_void(),
        r#"{"json":null,"meta":{"values":["undefined"]},"__dbos_serializer":"superjson"}"#
    );
    assert_eq!(Format::Portable.encode_void(), "null");
    assert_eq!(Format::Pickle.encode_void(), "gAROLg==");

    let code = Some(FailureCode::Text("E1".into()));
    let failure = Failure { code, data: Some(json!({"node": "n1"})), ..Failure::new("NodeError", "boom") };
    assert_eq!(
        Format::Superjson.encode_error(&failure, "w"),
        r#"{"json":{"name":"NodeError","message":"boom","code":"E1","data":{"node":"n1"}},"__dbos_serializer":"superjson"}"#
    );
    assert_eq!(
        Format::Portable.encode_error(&failure, "w"),
        r#"{"name":"NodeError","message":"boom","code":"E1","data":{"node":"n1"}}"#
    );
    assert_eq!(
        Format::RustSerde.encode_error(&failure, "w"),
        r#"{"WorkflowFailed":{"workflow_id":"w","message":"boom"}}"#
    );
    let pickle = BASE64.decode(Format::Pickle.encode_error(&failure, "w")).unwrap();
    assert_eq!(pickle, b"\x80\x02cexceptions\nException\nX\x04\0\0\0boom\x85R.");
}

#[test]
fn recorded_errors_are_told_apart_and_never_lost() {
    let read = |format: Format, text: &str| format.decode_error(text);
    let typescript = r#"{"json":{"name":"MyErr","code":"E1","detail":{"a":1},"message":"workflow failed","stack":"..."},"__dbos_serializer":"superjson"}"#;
    let expected = Failure { code: Some(FailureCode::Text("E1".into())), ..Failure::new("MyErr", "workflow failed") };
    assert_eq!(read(Format::Superjson, typescript), expected);
    assert_eq!(
        read(Format::Portable, r#"{"name":"MyErr","message":"workflow failed","code":"E1","data":null}"#),
        expected
    );
    let python = Failure::new("ValueError", "workflow failed");
    for text in [
        "gASVMQAAAAAAAACMCGJ1aWx0aW5zlIwKVmFsdWVFcnJvcpSTlIwPd29ya2Zsb3cgZmFpbGVklIWUUpQu",
        "gAJjZXhjZXB0aW9ucwpWYWx1ZUVycm9yCnEAWA8AAAB3b3JrZmxvdyBmYWlsZWRxAYVxAlJxAy4=",
        "Y2V4Y2VwdGlvbnMKVmFsdWVFcnJvcgpwMAooVndvcmtmbG93IGZhaWxlZApwMQp0cDIKUnAzCi4=",
    ] {
        assert_eq!(read(Format::Pickle, text), python);
    }
    // With an attribute set on the exception.
    let attribute = "gASVMwAAAAAAAACMCGJ1aWx0aW5zlIwKVmFsdWVFcnJvcpSTlIwBeJSFlFKUfZSMBGNvZGWUjAJFMZRzYi4=";
    assert_eq!(read(Format::Pickle, attribute), Failure::new("ValueError", "x"));
    for format in Format::ALL {
        assert_eq!(read(format, "???"), Failure::new("Error", "???"));
        let written = format.encode_error(&Failure::new("NodeError", "boom"), "w");
        assert_eq!(read(format, &written).message, "boom");
    }
}

/// One value of every kind that a restricted reader takes, as `pickle.dumps` writes it in protocols 0 to 5.
const EVERY_KIND: [&str; 6] = [
    "KGRwMApWdApwMQpW6VxVMDAwMWY2MDBcdTAwNWNuXHUwMDBhCnAyCnNWaQpwMwoobHA0CkkwCmFJLTEKYUkyNTUKYUk2NTUzNQphSTcwMDAwCmFJLTIxNDc0ODM2NDgKYUwyMTQ3NDgzNjQ4TAphTDkyMjMzNzIwMzY4NTQ3NzU4MDdMCmFMLTkyMjMzNzIwMzY4NTQ3NzU4MDhMCmFMOTIyMzM3MjAzNjg1NDc3NTgwOEwKYUwxODQ0Njc0NDA3MzcwOTU1MTYxNUwKYUwxODQ0Njc0NDA3MzcwOTU1MTYxNkwKYUwtMTE4MDU5MTYyMDcxNzQxMTMwMzQyNEwKYXNWZgpwNQoobHA2CkYxLjUKYUYtMC4wCmFGMWUrMzAwCmFzVm4KcDcKTnNWYgpwOAoobHA5CkkwMQphSTAwCmFzVnR1CnAxMAooKHQoSTEKdHAxMQooSTEKSTIKdHAxMgooSTEKSTIKSTMKdHAxMwooSTEKSTIKSTMKSTQKdHAxNAp0cDE1CnNWZApwMTYKKGRwMTcKSTEKVmEKcDE4CnNOVmMKcDE5CnNGMi41CmcxNgpzc1ZzYW1lCnAyMAoobHAyMQooZHAyMgpWeApwMjMKKGxwMjQKSTEKYXNhZzIyCmFzLg==",
    "fXEAKFgBAAAAdHEBWAkAAADDqfCfmIBcbgpxAlgBAAAAaXEDXXEEKEsASv////9L/03//0pwEQEASgAAAIBMMjE0NzQ4MzY0OEwKTDkyMjMzNzIwMzY4NTQ3NzU4MDdMCkwtOTIyMzM3MjAzNjg1NDc3NTgwOEwKTDkyMjMzNzIwMzY4NTQ3NzU4MDhMCkwxODQ0Njc0NDA3MzcwOTU1MTYxNUwKTDE4NDQ2NzQ0MDczNzA5NTUxNjE2TApMLTExODA1OTE2MjA3MTc0MTEzMDM0MjRMCmVYAQAAAGZxBV1xBihHP/gAAAAAAABHgAAAAAAAAABHfjfkPIgAdZxlWAEAAABucQdOWAEAAABicQhdcQkoSTAxCkkwMAplWAIAAAB0dXEKKCkoSwF0cQsoSwFLAnRxDChLAUsCSwN0cQ0oSwFLAksDSwR0cQ50cQ9YAQAAAGRxEH1xEShLAVgBAAAAYXESTlgBAAAAY3ETR0AEAAAAAAAAaBB1WAQAAABzYW1lcRRdcRUofXEWWAEAAAB4cRddcRhLAWFzaBZldS4=",
    "gAJ9cQAoWAEAAAB0cQFYCQAAAMOp8J+YgFxuCnECWAEAAABpcQNdcQQoSwBK/////0v/Tf//SnARAQBKAAAAgIoFAAAAgACKCP////////9/iggAAAAAAAAAgIoJAAAAAAAAAIAAign//////////wCKCQAAAAAAAAAAAYoJAAAAAAAAAADAZVgBAAAAZnEFXXEGKEc/+AAAAAAAAEeAAAAAAAAAAEd+N+Q8iAB1nGVYAQAAAG5xB05YAQAAAGJxCF1xCSiIiWVYAgAAAHR1cQooKUsBhXELSwFLAoZxDEsBSwJLA4dxDShLAUsCSwNLBHRxDnRxD1gBAAAAZHEQfXERKEsBWAEAAABhcRJOWAEAAABjcRNHQAQAAAAAAABoEHVYBAAAAHNhbWVxFF1xFSh9cRZYAQAAAHhxF11xGEsBYXNoFmV1Lg==",
    "gAN9cQAoWAEAAAB0cQFYCQAAAMOp8J+YgFxuCnECWAEAAABpcQNdcQQoSwBK/////0v/Tf//SnARAQBKAAAAgIoFAAAAgACKCP////////9/iggAAAAAAAAAgIoJAAAAAAAAAIAAign//////////wCKCQAAAAAAAAAAAYoJAAAAAAAAAADAZVgBAAAAZnEFXXEGKEc/+AAAAAAAAEeAAAAAAAAAAEd+N+Q8iAB1nGVYAQAAAG5xB05YAQAAAGJxCF1xCSiIiWVYAgAAAHR1cQooKUsBhXELSwFLAoZxDEsBSwJLA4dxDShLAUsCSwNLBHRxDnRxD1gBAAAAZHEQfXERKEsBWAEAAABhcRJOWAEAAABjcRNHQAQAAAAAAABoEHVYBAAAAHNhbWVxFF1xFSh9cRZYAQAAAHhxF11xGEsBYXNoFmV1Lg==",
    "gASVCQEAAAAAAAB9lCiMAXSUjAnDqfCfmIBcbgqUjAFplF2UKEsASv////9L/03//0pwEQEASgAAAICKBQAAAIAAigj/////////f4oIAAAAAAAAAICKCQAAAAAAAACAAIoJ//////////8AigkAAAAAAAAAAAGKCQAAAAAAAAAAwGWMAWaUXZQoRz/4AAAAAAAAR4AAAAAAAAAAR3435DyIAHWcZYwBbpROjAFilF2UKIiJZYwCdHWUKClLAYWUSwFLAoaUSwFLAksDh5QoSwFLAksDSwR0lHSUjAFklH2UKEsBjAFhlE6MAWOUR0AEAAAAAAAAaBB1jARzYW1llF2UKH2UjAF4lF2USwFhc2gWZXUu",
    "gAWVCQEAAAAAAAB9lCiMAXSUjAnDqfCfmIBcbgqUjAFplF2UKEsASv////9L/03//0pwEQEASgAAAICKBQAAAIAAigj/////////f4oIAAAAAAAAAICKCQAAAAAAAACAAIoJ//////////8AigkAAAAAAAAAAAGKCQAAAAAAAAAAwGWMAWaUXZQoRz/4AAAAAAAAR4AAAAAAAAAAR3435DyIAHWcZYwBbpROjAFilF2UKIiJZYwCdHWUKClLAYWUSwFLAoaUSwFLAksDh5QoSwFLAksDSwR0lHSUjAFklH2UKEsBjAFhlE6MAWOUR0AEAAAAAAAAaBB1jARzYW1llF2UKH2UjAF4lF2USwFhc2gWZXUu",
];

#[test]
fn pickles_of_all_protocols_are_read() {
    let expected = json!({
        "t": "é😀\\n\n",
        "i": [0, -1, 255, 65535, 70000, -2147483648_i64, 2147483648_i64, i64::MAX, i64::MIN, 9223372036854775808_u64,
              u64::MAX, "18446744073709551616", "-1180591620717411303424"],
        "f": [1.5, -0.0, 1e300],
        "n": null,
        "b": [true, false],
        "tu": [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]],
        "d": {"1": "a", "null": "c", "2.5": "d"},
        "same": [{"x": [1]}, {"x": [1]}],
    });
    for (protocol, text) in EVERY_KIND.iter().enumerate() {
        assert_eq!(Format::Pickle.decode_value(text).unwrap(), expected, "protocol {protocol}");
    }
    for (text, expected) in [
        ("gASVEAAAAAAAAABdlCiPlChLAZAoSwKRlGUu", json!([[1], [2]])),
        ("gAWVFgAAAAAAAABdlChDAmhplJYCAAAAAAAAAHlvlGUu", json!(["aGk=", "eW8="])),
        ("gASVIAAAAAAAAABdlChHf/gAAAAAAABHf/AAAAAAAABH//AAAAAAAABlLg==", json!(["NaN", "Infinity", "-Infinity"])),
        ("gASVCQAAAAAAAACMBWHtoL1ilC4=", json!("a\u{fffd}b")),
    ] {
        assert_eq!(Format::Pickle.decode_value(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn a_pickle_that_calls_something_is_refused_by_opcode() {
    for (text, opcode) in [
        ("Y3Bvc2l4CnN5c3RlbQpwMAooVmVjaG8gcHduZWQKcDEKdHAyClJwMwou", "GLOBAL"),
        ("gAJjcG9zaXgKc3lzdGVtCnEAWAoAAABlY2hvIHB3bmVkcQGFcQJScQMu", "GLOBAL"),
        ("gASVJQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAplY2hvIHB3bmVklIWUUpQu", "STACK_GLOBAL"),
        ("gASVKgAAAAAAAACMCGRhdGV0aW1llIwIZGF0ZXRpbWWUk5RDCgfnAQEAAAAAAACUhZRSlC4=", "STACK_GLOBAL"),
    ] {
        let error = Format::Pickle.decode_value(text).unwrap_err().to_string();
        assert!(error.contains(&format!("opcode {opcode} at byte")), "{error}");
        assert!(error.contains("send it as portable JSON"), "{error}");
    }
    for byte in *b"PQRbcio\x81\x82\x83\x84\x92\x93\x97\x98" {
        let error = pickle_error(&[0x80, 4, byte, b'.']);
        assert!(matches!(error, PickleError::Refused { offset: 2, .. }), "{byte:#x}: {error}");
    }
    // Describing an exception makes nothing either.
    let described = Format::Pickle.decode_error("gAJjcG9zaXgKc3lzdGVtCnEAWAoAAABlY2hvIHB3bmVkcQGFcQJScQMu");
    assert_eq!(described, Failure::new("system", "echo pwned"));
}

#[test]
fn broken_pickles_say_where() {
    let cases: [(&[u8], &str); 18] = [
        (b"", "pickle ends at byte 0, within STOP"),
        (b"N", "pickle ends at byte 1, within NONE"),
        (b".", "opcode STOP at byte 0 expected a value"),
        (b"\x80\x06N.", "PROTO at byte 0 expected a protocol of at most 5"),
        (b"\xff", "byte 0xff at offset 0 is no pickle opcode"),
        (b"X\xff\xff\xff\xffabc", "ends at byte 8, within BINUNICODE"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", "within BINUNICODE8"),
        (b"X\x01\0\0\0\xff.", "BINUNICODE at byte 0 expected UTF-8"),
        (b"h\x07.", "BINGET at byte 0 expected a memo slot that was set"),
        (b"gx\n.", "GET at byte 0 expected a decimal memo slot"),
        (b"e", "APPENDS at byte 0 expected an open MARK"),
        (b"N(Ne.", "APPENDS at byte 3 expected a list"),
        (b"}(NNNu.", "SETITEMS at byte 5 expected a value for every key"),
        (b"N(0a.", "APPEND at byte 3 expected a value on the stack"),
        (b"](a.", "APPEND at byte 2 expected a value on the stack"),
        (b"NN(\x86.", "TUPLE2 at byte 3 expected more values"),
        (b"I12x\n.", "INT at byte 0 expected a decimal integer"),
        (b"}(]Nu.", "a dict key that is not a scalar"),
    ];
    for (bytes, expected) in cases {
        let error = pickle_error(bytes).to_string();
        assert!(error.contains(expected), "{error} does not contain {expected}");
    }
    let not_base64 = Format::Pickle.decode_value("gA*").unwrap_err();
    assert!(not_base64.to_string().starts_with("py_pickle payload is not base64"), "{not_base64}");
}

#[test]
fn bombs_are_defused() {
    // Forty lists of two, each holding the one before twice: 2^40 values when copied out.
    let mut doubling = b"]q\x00".to_vec();
    for level in 1..=40 {
        doubling.extend(b"](");
        doubling.extend([b'h', level - 1, b'h', level - 1, b'e', b'q', level]);
    }
    doubling.push(b'.');
    assert!(matches!(pickle_error(&doubling), PickleError::Limit { what: "values", .. }));

    // A text of 1 MB, ten thousand times.
    let mut repeating = b"](X\x00\x00\x10\x00".to_vec();
    repeating.extend(b"x".repeat(1 << 20));
    repeating.extend(b"q\x00");
    repeating.extend(b"h\x00".repeat(10_000));
    repeating.extend(b"e.");
    assert!(matches!(pickle_error(&repeating), PickleError::Limit { what: "bytes of text", .. }));

    // A list that holds itself, deep nesting by APPEND and by MARK, and a very long integer.
    assert!(matches!(pickle_error(b"]q\x00h\x00a."), PickleError::Limit { what: "levels", .. }));
    let mut nested = b"]".repeat(1_000_000);
    nested.extend(b"a".repeat(999_999));
    nested.push(b'.');
    assert!(matches!(pickle_error(&nested), PickleError::Limit { what: "levels", .. }));
    assert!(matches!(pickle_error(&b"(".repeat(1_000_000)), PickleError::Limit { what: "levels", .. }));
    assert!(matches!(pickle_error(b"\x8b\xff\xff\xff\x7f"), PickleError::Limit { what: "bytes in an integer", .. }));
    assert!(matches!(pickle_error(&b"N".repeat(5_000_000)), PickleError::Limit { what: "values", .. }));
}

#[test]
fn a_deep_pickle_that_is_read_can_be_answered_in_every_format() {
    let mut nested = b"]".repeat(120);
    nested.extend(b"a".repeat(119));
    nested.push(b'.');
    let value = pickled(&nested).unwrap();
    for format in Format::ALL {
        assert_eq!(format.decode_value(&format.encode_value(&value)).unwrap(), value, "{format}");
    }
}

#[test]
fn large_answers_cost_linear_text() {
    let value: Value = (0..100_000).map(|item| json!({"index": item, "text": "é".repeat(8)})).collect();
    let plain = value.to_string().len();
    for format in Format::ALL {
        let text = format.encode_value(&value);
        assert!(text.len() < plain * 2 && text.len() < MAX_PAYLOAD_BYTES, "{format}: {} of {plain}", text.len());
        assert_eq!(format.decode_value(&text).unwrap(), value, "{format}");
    }
}

#[test]
fn error_texts_show_kinds_and_no_contents() {
    for (format, text) in [
        (Format::Superjson, r#""hunter2""#),
        (Format::Portable, r#"["hunter2"]"#),
        (Format::Portable, r#"{"positionalArgs":"hunter2"}"#),
        (Format::Portable, r#"{"namedArgs":["hunter2"]}"#),
        (Format::Pickle, "gASVCwAAAAAAAACMB2h1bnRlcjKULg=="),
        (Format::Portable, r#"{"a": hunter2}"#),
    ] {
        let error = format.decode_inputs(text).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.starts_with(format.name()), "{error}");
    }
}

/// Values that a flow may take or give, with the corners of numbers and texts.
fn corners() -> Value {
    json!({
        "numbers": [0, -1, 255, 256, 65_536, -2_147_483_649_i64, 9_007_199_254_740_991_i64, 0.1, -1.5e-300, 1e300],
        "texts": ["", "é", "😀", "\u{0}\n\"\\", "x".repeat(70_000)],
        "nested": [[], {}, [[{"a.b": null, "a\\": [true, false]}]]],
    })
}

#[tokio::test]
async fn the_typescript_serializer_and_this_one_read_each_other() {
    let Some(client) = Client::start(Lang::TypeScript, None, None).await else { return };
    for (format, portable) in [(Format::Superjson, false), (Format::Portable, true)] {
        let theirs = client.call("serialize", json!({"value": corners(), "portable": portable})).await.unwrap();
        assert_eq!(format.decode_value(theirs.as_str().unwrap()).unwrap(), corners(), "{format}");
        let ours = format.encode_value(&corners());
        let read = client.call("deserialize", json!({"text": ours, "portable": portable})).await.unwrap();
        assert_eq!(read, corners(), "{format}");

        let void = client.call("deserialize", json!({"text": format.encode_void(), "portable": portable})).await;
        assert_eq!(void.unwrap(), Value::Null);
        let failure = Failure {
            code: Some(FailureCode::Text("E1".into())),
            data: Some(json!({"n": 1})),
            ..Failure::new("NodeError", "boom")
        };
        let text = format.encode_error(&failure, "w");
        let raised = client.call("deserializeError", json!({"text": text, "portable": portable})).await.unwrap();
        assert_eq!(raised, json!({"name": "NodeError", "message": "boom", "code": "E1", "data": {"n": 1}}), "{format}");
    }

    let rich = "[{d: new Date(0), u: undefined, z: -0, inf: -Infinity, b: 10n ** 30n, m: new Map([['a', {u: undefined}]]), \
                s: new Set([1]), e: new TypeError('t'), buf: Buffer.from('hi'), re: /x/g, 'c\\\\': new Date(0), \
                half: '\\ud83d', bytes: new Uint8Array([1, 2])}, undefined]";
    let text = client.call("serialize", json!({"expression": rich})).await.unwrap();
    let read = Format::Superjson.decode_inputs(text.as_str().unwrap()).unwrap().positional;
    let expected = json!({
        "d": "1970-01-01T00:00:00.000Z", "z": -0.0, "inf": "-Infinity", "b": "1000000000000000000000000000000",
        "m": [["a", {}]], "s": [1], "e": {"name": "TypeError", "message": "t"}, "buf": [104, 105], "re": "/x/g",
        "c\\": "1970-01-01T00:00:00.000Z", "half": "\u{fffd}", "bytes": [1, 2],
    });
    assert_eq!(read, vec![expected, Value::Null], "{text}");
}

#[tokio::test]
async fn the_python_serializer_and_this_one_read_each_other() {
    let Some(client) = Client::start(Lang::Python, None, None).await else { return };
    for (format, portable) in [(Format::Pickle, false), (Format::Portable, true)] {
        let theirs = client.call("serialize", json!({"value": corners(), "portable": portable})).await.unwrap();
        assert_eq!(format.decode_value(theirs.as_str().unwrap()).unwrap(), corners(), "{format}");
        let ours = format.encode_value(&corners());
        let read = client.call("deserialize", json!({"text": ours, "portable": portable})).await.unwrap();
        assert_eq!(read, corners(), "{format}");

        let void = client.call("deserialize", json!({"text": format.encode_void(), "portable": portable})).await;
        assert_eq!(void.unwrap(), Value::Null);
        let code = Some(FailureCode::Number(7.into()));
        let failure = Failure { code, data: Some(json!([1])), ..Failure::new("NodeError", "bo\u{fc}m") };
        let text = format.encode_error(&failure, "w");
        let raised = client.call("deserializeError", json!({"text": text, "portable": portable})).await.unwrap();
        let expected = match portable {
            true => json!({"name": "NodeError", "message": "bo\u{fc}m", "code": 7, "data": [1]}),
            false => json!({"name": "Exception", "message": "bo\u{fc}m", "code": null, "data": null}),
        };
        assert_eq!(raised, expected);
    }

    let big = json!([u64::MAX, i64::MIN, 9_223_372_036_854_775_808_u64]);
    let read = client.call("deserialize", json!({"text": Format::Pickle.encode_value(&big)})).await.unwrap();
    assert_eq!(read, big);
    let inputs =
        Arguments { positional: vec![json!({"a": 1}), json!([])], named: Map::from_iter([("k".into(), json!(true))]) };
    let read = client.call("deserialize", json!({"text": Format::Pickle.encode_inputs(&inputs)})).await.unwrap();
    assert_eq!(read, json!({"args": [{"a": 1}, []], "kwargs": {"k": true}}));

    for protocol in 0..=5 {
        let fields = json!({"value": corners(), "protocol": protocol});
        let text = client.call("serialize", fields).await.unwrap();
        assert_eq!(Format::Pickle.decode_value(text.as_str().unwrap()).unwrap(), corners(), "protocol {protocol}");
    }
    for (expression, read) in [
        (
            "{'args': ({'k': (1, 2)},), 'kwargs': {'x': {1}}}",
            Some(json!({"args": [{"k": [1, 2]}], "kwargs": {"x": [1]}})),
        ),
        ("-(2 ** 200)", Some(json!("-1606938044258990275541962092341162602522202993782792835301376"))),
        ("datetime.datetime(2023, 1, 1)", None),
        ("decimal.Decimal('1.5')", None),
        ("ValueError('x')", None),
    ] {
        let text = client.call("serialize", json!({"expression": expression})).await.unwrap();
        let decoded = Format::Pickle.decode_value(text.as_str().unwrap());
        match read {
            Some(expected) => assert_eq!(decoded.unwrap(), expected, "{expression}"),
            None => assert!(decoded.unwrap_err().to_string().contains("send it as portable JSON"), "{expression}"),
        }
    }
    let text = client.call("serialize", json!({"expression": "ValueError('workflow failed', 3)"})).await.unwrap();
    assert_eq!(Format::Pickle.decode_error(text.as_str().unwrap()), Failure::new("ValueError", "workflow failed"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |float| float.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..8).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_survives_every_format(value in any_json()) {
        for format in Format::ALL {
            prop_assert_eq!(format.decode_value(&format.encode_value(&value)).unwrap(), value.clone());
        }
    }

    #[test]
    fn arguments_survive_where_the_format_has_a_place_for_them(
        positional in prop::collection::vec(any_json(), 0..4),
        named in prop::collection::vec((any::<String>(), any_json()), 0..3),
    ) {
        let arguments = Arguments { positional, named: named.into_iter().collect() };
        for format in [Format::Portable, Format::Pickle] {
            prop_assert_eq!(&format.decode_inputs(&format.encode_inputs(&arguments)).unwrap(), &arguments);
        }
        let superjson = Format::Superjson.decode_inputs(&Format::Superjson.encode_inputs(&arguments)).unwrap();
        prop_assert_eq!(superjson.positional, arguments.positional);
    }

    #[test]
    fn errors_survive_in_json_formats(name in any::<String>(), message in any::<String>(), code in any::<Option<i64>>()) {
        let code = code.map(|code| FailureCode::Number(code.into()));
        let failure = Failure { code, ..Failure::new(name, message) };
        for format in [Format::Superjson, Format::Portable] {
            prop_assert_eq!(&format.decode_error(&format.encode_error(&failure, "w")), &failure);
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in any::<String>()) {
        for format in Format::ALL {
            let _ = (format.decode_value(&text), format.decode_inputs(&text), format.decode_error(&text));
        }
        let _ = Format::of(None, Some(&text));
    }

    #[test]
    fn no_pickle_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = BASE64.encode(bytes);
        let _ = (Format::Pickle.decode_value(&text), Format::Pickle.decode_error(&text));
    }

    /// Opcodes that exist, in any order, get further into the machine than random bytes do.
    #[test]
    fn no_order_of_opcodes_makes_the_reader_panic(
        opcodes in prop::collection::vec(prop::sample::select(b"(].}e)lutads012NX\x01\0\0\0ab'\\\nq\x01h\x01\x94\x85\x86\x87\x88\x8f\x90\x91\x8a\x02\x93RbcIVSL".to_vec()), 0..60),
    ) {
        let text = BASE64.encode(opcodes);
        let _ = (Format::Pickle.decode_value(&text), Format::Pickle.decode_error(&text));
    }
}
