//! MCP nodes against the protocol's own example server, installed below `target/` on first use.
//!
//! Without Node or its registry the test says so and passes; with `CI=true` it fails instead.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fireflow_worker::config;
use fireflow_worker::nodes::outbound::Outbound;
use fireflow_worker::nodes::secrets::Secrets;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const MODULE: &str = "node_modules/@modelcontextprotocol/server-everything/dist/index.js";

/// The folder in which the server is installed.
fn install() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let folder = target.join("mcp");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp");
    let pinned = std::fs::read(source.join("package-lock.json")).map_err(|error| error.to_string())?;
    let installed = folder.join("installed");
    if std::fs::read(&installed).is_ok_and(|found| found == pinned) {
        return Ok(folder);
    }
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(file), folder.join(file)).map_err(|error| error.to_string())?;
    }
    let mut npm = std::process::Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
    let output = npm.output().map_err(|error| format!("npm: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    std::fs::write(&installed, pinned).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// The running server, and its URL. It takes a fixed port only, so a free one is looked for.
async fn start(folder: &Path) -> (Child, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("node");
    command.arg(MODULE).arg("streamableHttp").current_dir(folder).env("PORT", port.to_string());
    let mut server = command.kill_on_drop(true).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let listens = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("listening") {
                return;
            }
        }
        panic!("the server ended");
    };
    tokio::time::timeout(Duration::from_secs(60), listens).await.unwrap();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (server, format!("http://127.0.0.1:{port}/mcp"))
}

#[tokio::test]
async fn the_example_server_is_understood() {
    let folder = match install() {
        Ok(folder) => folder,
        Err(reason) => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "the MCP server is needed on a build server: {reason}"
            );
            eprintln!("skipped, no MCP server: {reason}");
            return;
        }
    };
    let (_server, url) = start(&folder).await;
    let settings = config::Secrets { environment: vec!["GREETING".into()], ..Default::default() };
    let secrets = Secrets::new(&settings, [("GREETING".to_owned(), "hush-hush-value".to_owned())]);
    let outbound = Outbound::new(&config::Outbound::default(), secrets).unwrap();
    let run = async |node: &str, inputs: Json| {
        let mut inputs = inputs;
        inputs["connection"] = json!({"serverUrl": url});
        let (ports, error) = support::node::run(node, &outbound, &inputs).await;
        assert_eq!(error, None, "{inputs}");
        ports
    };
    let echoed =
        run("MCPToolCallNode", json!({"toolName": "echo", "arguments": {"message": "hi secret://GREETING"}})).await;
    assert_eq!(echoed["content"][0]["text"], json!("Echo: hi [secret GREETING]"));
    assert!(!echoed.to_string().contains("hush"), "{echoed}");
    let long = json!({"toolName": "trigger-long-running-operation", "arguments": {"duration": 1, "steps": 3}});
    let long = run("MCPToolCallNode", long).await;
    assert_eq!(long["progressStream"]["buffer"].as_array().unwrap().len(), 3, "{long}");
    let weather = json!({"toolName": "get-structured-content", "arguments": {"location": "New York"}});
    assert!(run("MCPToolCallNode", weather).await["structuredContent"]["temperature"].is_number());
    let prompt = run("MCPPromptGetNode", json!({"promptName": "simple-prompt", "arguments": {}})).await;
    assert!(prompt["promptResult"]["messages"][0]["content"]["text"].is_string(), "{prompt}");
    let uri = "demo://resource/dynamic/text/{resourceId}";
    let resource = run("MCPResourceReadNode", json!({"uri": uri, "arguments": {"resourceId": 1}})).await;
    assert!(resource["resourceResult"]["contents"][0]["text"].is_string(), "{resource}");
}
