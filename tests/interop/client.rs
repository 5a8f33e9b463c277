//! A real DBOS client, driven over JSON lines.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::oneshot;

use super::process::{Log, Script};
use super::setup::{Lang, available};

/// How long an answer may take unless the caller says otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// An error that the real client raised.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientError {
    /// Its class's name, or for portable errors the name that they carry.
    pub name: String,
    /// Its text.
    pub message: String,
    /// Its code, null when it has none.
    pub code: Value,
    /// Its details, null when it has none.
    pub data: Value,
}

/// Waiting calls by number; `None` once the driver is gone.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Value>>>>>;

/// A real DBOS client in a child process, which is killed when this is dropped. Calls may overlap.
pub struct Client {
    lang: Lang,
    stdin: tokio::sync::Mutex<ChildStdin>,
    pending: Pending,
    next: AtomicU64,
    log: Log,
    // Held for its drop.
    _child: Child,
}

impl Client {
    /// A TypeScript client on the database; `None` when there is no such SDK here and the test should be skipped.
    pub async fn typescript(url: &str) -> Option<Client> {
        Client::start(Lang::TypeScript, Some(url), None).await
    }

    /// A Python client on the database; `None` when there is no such SDK here and the test should be skipped.
    pub async fn python(url: &str) -> Option<Client> {
        Client::start(Lang::Python, Some(url), None).await
    }

    /// A client of any language. Without a URL it has only its serializers. With an application's name it acts for
    /// that application: what it enqueues belongs to it.
    pub async fn start(lang: Lang, url: Option<&str>, application: Option<&str>) -> Option<Client> {
        let runtime = available(lang)?;
        let environment = [
            ("INTEROP_DATABASE_URL", url.unwrap_or_default()),
            ("INTEROP_APPLICATION", application.unwrap_or_default()),
        ];
        let Script { child, stdin, mut stdout, log } = Script::start(&runtime, "driver", &environment).await;
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let waiting = Arc::clone(&pending);
        // Ends with the pipe, and so with the child.
        tokio::spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else { break };
                let Some(call) = answer["call"].as_u64() else { break };
                let caller = lock(&waiting).as_mut().and_then(|calls| calls.remove(&call));
                if let Some(caller) = caller {
                    // A caller that gave up is no longer there.
                    let _ = caller.send(answer);
                }
            }
            // Dropping the senders tells the waiting calls.
            lock(&waiting).take();
        });
        let (stdin, next) = (tokio::sync::Mutex::new(stdin), AtomicU64::new(1));
        Some(Client { lang, stdin, pending, next, log, _child: child })
    }

    /// Which SDK this is.
    pub fn lang(&self) -> Lang {
        self.lang
    }

    /// Sends a command with its fields, an object, and waits for the answer: a value, or what the client raised.
    ///
    /// # Panics
    /// When no answer comes within 30 seconds, or the driver ends; with the end of its log.
    pub async fn call(&self, command: &str, fields: Value) -> Result<Value, ClientError> {
        self.call_within(ANSWER_LIMIT, command, fields).await
    }

    /// [`Client::call`] with another limit.
    ///
    /// # Panics
    /// When no answer comes in time, or the driver ends; with the end of its log.
    pub async fn call_within(&self, limit: Duration, command: &str, mut fields: Value) -> Result<Value, ClientError> {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        let shown: String = fields.to_string().chars().take(300).collect();
        fields["call"] = call.into();
        fields["command"] = command.into();
        let (sender, receiver) = oneshot::channel();
        if let Some(calls) = lock(&self.pending).as_mut() {
            calls.insert(call, sender);
        }
        let line = format!("{fields}\n");
        let answered = async {
            // A driver that is gone shows as a dropped sender.
            let _ = self.stdin.lock().await.write_all(line.as_bytes()).await;
            receiver.await
        };
        let mut answer = match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => panic!("the {:?} driver ended during {command} {shown}:\n{}", self.lang, self.log.text()),
            Err(_) => panic!("no answer from {:?} in {limit:?} to {command} {shown}:\n{}", self.lang, self.log.text()),
        };
        match answer.get_mut("error") {
            None => Ok(answer["ok"].take()),
            Some(error) => Err(ClientError {
                name: error["name"].as_str().unwrap_or_default().into(),
                message: error["message"].as_str().unwrap_or_default().into(),
                code: error["code"].take(),
                data: error["data"].take(),
            }),
        }
    }

    /// Enqueues a workflow and answers its id. Fields: see the table in [`super`].
    ///
    /// # Panics
    /// When the client refuses.
    pub async fn enqueue(&self, fields: Value) -> String {
        let answer = self.call("enqueue", fields).await.unwrap_or_else(|error| panic!("enqueue: {error:?}"));
        answer["id"].as_str().expect("an id").into()
    }

    /// Waits for a workflow's result, as `getResult` does.
    pub async fn result(&self, id: &str) -> Result<Value, ClientError> {
        self.call("result", json!({ "id": id })).await
    }

    /// A workflow as the client lists it; null when there is none.
    ///
    /// # Panics
    /// When the client refuses.
    pub async fn workflow(&self, id: &str) -> Value {
        self.call("workflow", json!({ "id": id })).await.unwrap_or_else(|error| panic!("workflow: {error:?}"))
    }

    /// A workflow's steps as the client lists them.
    ///
    /// # Panics
    /// When the client refuses.
    pub async fn steps(&self, id: &str) -> Vec<Value> {
        let steps = self.call("steps", json!({ "id": id })).await.unwrap_or_else(|error| panic!("steps: {error:?}"));
        steps.as_array().expect("a list").clone()
    }

    /// All items of a stream, read until it is closed or its workflow has ended.
    ///
    /// # Panics
    /// When the client refuses.
    pub async fn stream(&self, id: &str, key: &str) -> Vec<Value> {
        let fields = json!({ "id": id, "key": key });
        let items = self.call("stream", fields).await.unwrap_or_else(|error| panic!("stream: {error:?}"));
        items.as_array().expect("a list").clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
