//! The decoders of foreign bytes, on bytes that are almost right: no panic, no overflow of the stack, no memory beyond all
//! proportion. A short form of `fuzz/run`, on the same targets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]
#![allow(clippy::expect_used, clippy::panic, reason = "the targets stop at what must not be")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

use peak_alloc::PeakAlloc;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use targets::TARGETS;

/// More than this for an input is too much: so many bytes, and so many more for each byte of it.
const MEMORY: (usize, usize) = (4 << 20, 400);
/// Mutations of each seed.
const MUTATIONS: u64 = 60;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What each target starts from: real payloads and flows, and what is meant to hurt.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        "", "null", "[]", "{}", "\"\"", "0", "-0.0", "1e999", "\u{0}", "\u{feff}{}",
        r#"{"json":[{"flowId":"f"}],"meta":{"values":{"0.a":["undefined"]}},"__dbos_serializer":"superjson"}"#,
        r#"{"json":{"a":{},"b":null},"meta":{"referentialEqualities":{"a":["b","a.a"]}},"__dbos_serializer":"superjson"}"#,
        r#"{"json":["1"],"meta":{"values":{"0":["bigint"],"":[["set"]],"9.9.9":["Date"]}},"__dbos_serializer":"superjson"}"#,
        r#"{"positionalArgs":[{"flowId":"f","inputs":{"a":1}}],"namedArgs":{}}"#,
        r#"{"name":"E","message":"m","code":7,"data":[1]}"#,
        "gASVFQAAAAAAAAB9lCiMBGFyZ3OUKYwGa3dhcmdzlH2UdS4=", "gARLAS4=", "gAROLg==", "gASVBgAAAAAAAABdlCgoZS4=",
        // A pickle that claims a text of four thousand million bytes, and one that holds itself.
        "gARY/////w==", "gARdlGgAYS4=", "Y29zCnN5c3RlbQooUydscycKdFIu",
        "{{name}} {{#each list}}{{this}}{{else}}-{{/each}} {{#if a}}{{/if}} {{{json list}}} {{> x}} {{! c }}",
        "{{#each list}}{{#each list}}{{#each list}}{{#each ../list}}{{@index}}{{/each}}{{/each}}{{/each}}{{/each}}",
        "{{lookup (lookup list 0) \"a\"}}{{[a b].c}}{{~#with a as |b|~}}{{b}}{{/with}}",
        "a: &x [1, 2]\nb: *x\nc: !!str 1\n? [k]\n: v\n- |\n  t\n",
        "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n",
        "id: f\nnodes:\n  a: {type: TextNode, inputs: {text: hi}}\n  b: {type: TextNode, inputs: {text: $a.text}}\nedges:\n  - a.success -> b.run\n",
        "id = \"f\"\n[nodes.a]\ntype = \"NumberNode\"\ninputs.num = 1\n[outputs]\nx = \"a.num\"\n",
        "postgres://u:p@h:1,h2:2/d?sslmode=verify-full&host=/x&target_session_attrs=any#f",
        "[queue]\nname = \"q\"\nconcurrency = 3\nrate_limit = \"5 per 1s\"\n[worker]\nlease = \"3s\"\n\0FIREFLOW__WORKER__ID=w\nDATABASE_URL=postgres://h/d",
        "[[queue]]\nname = \"a\"\n[[queue]]\nname = \"b\"\nweight = 9\n[outbound]\nallow = [\"*.a:1\", \"10.0.0.0/8\"]\nmax_request = \"9EiB\"\n[secrets.hosts]\nA = [\"h\"]\n\0FIREFLOW__QUEUE__NAME=x",
        "\0FIREFLOW__EXECUTION__START_TIMEOUT=999999999999999999y\nFIREFLOW__LOG__LEVEL=a=b=c\nFIREFLOW__ADMIN__LISTEN=:\nFIREFLOW__A__B__C=1",
        "portable_json\0{\"positionalArgs\":[{\"flowId\":\"f\",\"executionId\":\"EX1\",\"inputs\":{\"text\":\"x\",\"num\":1e999},\"maxDepth\":-1}]}\0{\"execution\":{\"maxConcurrency\":-1,\"nodeTimeoutMs\":1e30},\"breakpoints\":[1,\"a\"],\"debug\":true}",
        "py_pickle\0gASVFQAAAAAAAAB9lCiMBGFyZ3OUKYwGa3dhcmdzlH2UdS4=\0{}", "rot13\0[]\0[]", "rust_serde_json\0[{\"flowId\":\"f\"}]",
        "portable_json\0{\"command\":\"STOP\",\"reason\":[1]}", "\0\"GO\"",
        "\u{7f}\u{f0}aaaaaa\0\0\0\0\0\0\0\0bbbbbbbbcccccccc",
        "GET /status HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /%00/../status?a=%ff HTTP/1.0\r\nContent-Length: 18446744073709551615\r\n\r\nx",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    for deep in
        ["[", "{\"a\":", "(", "- ", "{{#each a}}", "{{lookup (", "?  ", "a: {", "[a.b.", "a = [", "A__", "X: y\r\n"]
    {
        seeds.push(deep.repeat(20_000).into_bytes());
    }
    seeds.push(format!("\0FIREFLOW__{}B=1", "A__".repeat(20_000)).into_bytes());
    for (before, after) in [("[", "a]"), ("", "a = 1"), ("[[", "a]]"), ("queue.", "a = {}")] {
        seeds.push(format!("{before}{}{after}", "a.".repeat(20_000)).into_bytes());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["tests/cases/conformance", "examples/flows", "../shared/conformance"] {
        let Ok(entries) = here.join(folder).read_dir() else { continue };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in
            files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "json")).step_by(9)
        {
            let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            seeds.push(json.get("flow").unwrap_or(&json).to_string().into_bytes());
        }
    }
    // What the fuzzer found.
    if let Ok(entries) = here.join("fuzz/found").read_dir() {
        seeds.extend(entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()));
    }
    seeds
}

/// Something almost like the seed: bytes changed, cut, repeated, or taken from another one.
fn mutated(seed: &[u8], other: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=data.len());
        match random.random_range(0..5) {
            0 if at < data.len() => data[at] = random.random(),
            1 => data.truncate(at),
            2 => data.insert(at, b"{}[]\",:.0-&*|#\\\n\0"[random.random_range(0..17)]),
            3 => {
                let part = at.saturating_sub(random.random_range(0..64))..at;
                let part = data[part].to_vec();
                data.splice(at..at, part);
            }
            _ => {
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..64)).min(other.len());
                data.splice(at..at, other[from..to].to_vec());
            }
        }
    }
    data
}

#[test]
fn no_bytes_break_a_decoder_or_take_memory_out_of_proportion() {
    let seeds = seeds();
    assert!(seeds.len() > 40);
    // One after the other, since the allocator counts for all; with as much stack as a worker's thread has.
    let check = move || {
        let mut random = SmallRng::seed_from_u64(7);
        for (name, target) in TARGETS {
            for (number, seed) in seeds.iter().enumerate() {
                // The large ones take long, and differ little.
                let mutations = if seed.len() > 20_000 { 2 } else { MUTATIONS };
                for mutation in 0..=mutations {
                    let other = &seeds[random.random_range(0..seeds.len())];
                    let data = if mutation == 0 { seed.clone() } else { mutated(seed, other, &mut random) };
                    let before = ALLOCATOR.current_usage();
                    ALLOCATOR.reset_peak_usage();
                    target(&data);
                    let most = ALLOCATOR.peak_usage().saturating_sub(before);
                    let allowed = MEMORY.0 + MEMORY.1 * data.len();
                    assert!(most <= allowed, "{name}, seed {number}, mutation {mutation}: {most} for {}", data.len());
                }
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(check).unwrap().join().unwrap();
}
