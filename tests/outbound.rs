//! What leaves the worker: the policy at each connection and redirect, limits, TLS, proxies; secrets that are sent and
//! never seen. All servers are on the loopback address.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "outbound/secrets.rs"]
mod secrets;
#[path = "outbound/servers.rs"]
mod servers;
mod support;

use std::path::Path;

use fireflow_worker::config::{self, Settings};
use fireflow_worker::nodes::outbound::Outbound;
use fireflow_worker::nodes::secrets::Secrets;
use serde_json::{Value as Json, json};
use servers::{Echo, TlsServer};
use support::worker::PROGRAM;
use tokio::process::Command;

/// The way out by a configuration file and these variables.
fn outbound(toml: &str, environment: &[(&str, &str)]) -> Outbound {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let (settings, _) = config::load(Some(file.path()), [], Vec::new()).unwrap();
    let Settings { outbound, secrets, .. } = settings;
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Outbound::new(&outbound, Secrets::new(&secrets, environment)).unwrap()
}

/// Run an HttpRequestNode: its ports, and its error.
async fn fetch(outbound: &Outbound, inputs: Json) -> (Json, Option<String>) {
    support::node::run("HttpRequestNode", outbound, &inputs).await
}

/// The error of a GET request.
async fn refusal(outbound: &Outbound, base: &str, path: &str) -> String {
    let (ports, error) = fetch(outbound, json!({"baseUri": base, "path": path, "retries": 3})).await;
    error.unwrap_or_else(|| panic!("{base} should be refused, gave {ports}"))
}

#[tokio::test]
async fn rules_change_for_all_who_hold_them() {
    let server = Echo::start().await;
    let base = format!("http://localhost:{}", server.port);
    let outbound = outbound("", &[]);
    let held = outbound.clone();
    assert_eq!(fetch(&held, json!({"baseUri": base, "path": "/"})).await.1, None);
    outbound.change(&config::Outbound { deny_private: true, ..Default::default() }).unwrap();
    assert!(refusal(&held, &base, "/").await.contains("outbound.deny_private"));
    let bad = config::Outbound { ca_file: Some("/no/such.pem".into()), ..Default::default() };
    assert!(outbound.change(&bad).is_err());
    assert!(refusal(&held, &base, "/").await.contains("outbound.deny_private"), "the earlier ones stay");
    outbound.change(&config::Outbound::default()).unwrap();
    assert_eq!(fetch(&held, json!({"baseUri": base, "path": "/"})).await.1, None);
}

#[tokio::test]
async fn the_address_that_is_connected_to_is_judged() {
    let (server, other) = (Echo::start().await, Echo::start().await);
    let by_name = format!("http://localhost:{}", server.port);
    let open = outbound("", &[]);
    assert_eq!(fetch(&open, json!({"baseUri": by_name, "path": "/"})).await.1, None);

    let private = outbound("[outbound]\ndeny_private = true", &[]);
    let refused = refusal(&private, &by_name, "/hidden").await;
    assert!(refused.contains("localhost is not allowed") && refused.contains("outbound.deny_private"), "{refused}");
    assert!(!refused.contains("hidden"), "{refused}");
    let number = format!("http://2130706433:{}", server.port);
    assert!(refusal(&private, &number, "/").await.contains("outbound.deny_private"));

    // By port, and with the name of one rule and the address of another.
    let toml = format!("[outbound]\ndeny = [\"127.0.0.0/8:{0}\", \"[::1]:{0}\"]", server.port);
    let by_port = outbound(&toml, &[]);
    assert!(refusal(&by_port, &by_name, "/").await.contains(&format!("127.0.0.0/8:{}", server.port)));
    let there = format!("http://localhost:{}", other.port);
    assert_eq!(fetch(&by_port, json!({"baseUri": there, "path": "/"})).await.1, None);
    let listed = outbound("[outbound]\nallow = [\"*.example.com\", \"127.0.0.1\", \"::1\"]", &[]);
    assert_eq!(fetch(&listed, json!({"baseUri": by_name, "path": "/"})).await.1, None);
    let other_name = outbound("[outbound]\nallow = [\"*.example.com\"]", &[]);
    assert!(refusal(&other_name, &by_name, "/").await.contains("outbound.allow doesn't have it"));
    assert_eq!((server.count(), other.count()), (2, 1), "what was refused wasn't connected to");
}

#[tokio::test]
async fn every_redirect_is_judged() {
    let server = Echo::start().await;
    let open = outbound("[outbound]\nmax_redirects = 3", &[]);
    for (target, words) in [
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is not allowed: its address is link-local"),
        ("http://[::ffff:a9fe:a9fe]/", "link-local"),
        ("http://metadata.google.internal/", "metadata service"),
        ("gopher://127.0.0.1/", "no http or https URL"),
    ] {
        let refused = refusal(&open, &server.base, &format!("/to?{target}")).await;
        assert!(refused.contains(words), "{target}: {refused}");
        assert!(!refused.contains("meta-data"), "{refused}");
    }
    assert_eq!(server.count(), 4, "a refusal is not tried again");
    let refused = refusal(&open, &server.base, "/to?/to?/to?/to?/").await;
    assert!(refused.contains("too many redirects") && refused.contains("allows 3"), "{refused}");
    assert_eq!(fetch(&open, json!({"baseUri": server.base, "path": "/to?/to?/to?/"})).await.1, None);
}

#[tokio::test]
async fn credentials_stay_with_their_host_and_no_referrer_is_told() {
    let (first, second) = (Echo::start().await, Echo::start().await);
    let open = outbound("", &[]);
    let headers = "Authorization: Bearer x\nCookie: a=b\nX-Plain: p";
    let ask = async |target: &str| {
        let path = format!("/to?{target}");
        let (ports, error) = fetch(&open, json!({"baseUri": first.base, "path": path, "headers": headers})).await;
        assert_eq!(error, None);
        ports["response"].as_str().unwrap().to_owned()
    };
    let same = ask("/end").await;
    assert!(same.contains("authorization: Bearer x") && same.contains("cookie: a=b"), "{same}");
    let other = ask(&format!("{}/end", second.base)).await;
    assert!(other.contains("x-plain: p"), "{other}");
    for gone in ["authorization", "cookie", "referer"] {
        assert!(!other.contains(gone), "{other}");
    }
}

#[tokio::test]
async fn sizes_and_times_have_limits() {
    let server = Echo::start().await;
    let small = outbound(
        "[outbound]\nmax_response = \"4KiB\"\nmax_request = \"2KiB\"\nmax_response_headers = \"1KiB\"\ntimeout = \"300ms\"",
        &[],
    );
    for (path, words) in [
        ("/endless", "larger than 4096 bytes (outbound.max_response)"),
        ("/announced", "larger than 4096 bytes"),
        ("/headers", "larger than 1024 bytes (outbound.max_response_headers)"),
        ("/drip", "took longer than 300ms in all (outbound.timeout)"),
    ] {
        let (_, error) = fetch(&small, json!({"baseUri": server.base, "path": path})).await;
        let error = error.unwrap_or_else(|| panic!("{path} should fail"));
        assert!(error.contains(words), "{path}: {error}");
    }
    server.closed().await; // the endless response was not read on
    let inputs = json!({"baseUri": server.base, "path": "/", "method": "POST", "body": "x".repeat(2049),
        "headers": "Content-Type: text/plain"});
    let error = fetch(&small, inputs).await.1.unwrap();
    assert!(error.contains("2049 bytes; outbound.max_request allows 2048"), "{error}");
}

#[tokio::test]
async fn certificates_are_verified_and_https_stays_https() {
    let plain = Echo::start().await;
    let server = TlsServer::start(&format!("{}/end", plain.base)).await;
    let error = refusal(&outbound("", &[]), &server.base, "/hello").await;
    assert!(error.contains("could not connect to localhost") && error.contains("certificate"), "{error}");
    let trusting = format!("[outbound]\nca_file = {:?}\n", server.authority.path());
    let trusted = outbound(&trusting, &[]);
    let (ports, error) = fetch(&trusted, json!({"baseUri": server.base, "path": "/hello"})).await;
    assert_eq!((error, &ports["response"]), (None, &json!("over TLS")));
    let error = refusal(&trusted, &server.base, "/down").await;
    assert!(error.contains("from https to http") && plain.count() == 0, "{error}");
    let lenient = outbound(&format!("{trusting}allow_downgrade = true"), &[]);
    assert_eq!(fetch(&lenient, json!({"baseUri": server.base, "path": "/down"})).await.1, None);

    let (settings, secrets) =
        (config::Outbound { ca_file: Some("/no/such.pem".into()), ..Default::default() }, Secrets::default());
    let error = Outbound::new(&settings, secrets).unwrap_err().to_string();
    assert!(error.contains("outbound.ca_file /no/such.pem"), "{error}");
}

#[tokio::test]
async fn a_proxy_is_used_only_where_it_is_configured() {
    let (server, proxy) = (Echo::start().await, Echo::start().await);
    // `flow test` with the default policy, in an environment that has a proxy.
    let folder = tempfile::tempdir().unwrap();
    let case = |name: &str, base: &str, port: &str, expected: Json| {
        let flow = support::flows::FlowBuilder::new(name).get("ask", base).output("shown", "ask", port).build();
        let case = json!({"flow": flow, "run": {"inputs": {"ask": "/"}}, "expect": {"outputs": {"shown": expected}}});
        std::fs::write(folder.path().join(format!("{name}.json")), case.to_string()).unwrap();
    };
    case("reaches", &server.base, "statusCode", json!(200));
    let refused = "the request failed: the host 169.254.169.254 is not allowed: its address is link-local; \
                   outbound.allow can have the address";
    case("refused", "http://169.254.169.254", "__errorMessage", json!(refused));
    let output = flow_test(folder.path(), &proxy.base).await;
    assert!(output.contains("2 cases: 2 passed"), "{output}");
    assert_eq!((server.count(), proxy.count()), (1, 0));

    // It is asked for names that only it knows, and the rules for names hold.
    let toml = format!("[outbound]\nproxy = \"{}\"\nallow = [\"*.example.com\", \"10.0.0.0/8\"]\n", proxy.base);
    let through = outbound(&toml, &[]);
    let (ports, error) = fetch(&through, json!({"baseUri": "http://only.example.com", "path": "/x"})).await;
    assert_eq!(error, None);
    assert!(ports["response"].as_str().unwrap().contains("GET http://only.example.com/x"), "{ports}");
    for base in ["http://elsewhere.example", "http://192.168.0.1"] {
        assert!(refusal(&through, base, "/").await.contains("outbound.allow"), "{base}");
    }
    assert_eq!(proxy.count(), 1);
}

async fn flow_test(folder: &Path, proxy: &str) -> String {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("NO_COLOR", "1");
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(variable, proxy);
    }
    let output = command.arg("flow").arg("test").arg(folder).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}
