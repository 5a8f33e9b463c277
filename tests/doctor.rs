//! `doctor`: each fault is made on a real database, and has to be found, with what to do about it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "doctor/queues.rs"]
mod queues;
#[path = "doctor/schema.rs"]
mod schema;
#[path = "doctor/server.rs"]
mod server;
mod support;
#[path = "doctor/tables.rs"]
mod tables;
#[path = "doctor/workers.rs"]
mod workers;

use serde_json::Value as Json;
use support::{TestDatabase, client::SqlClient, worker::program};

/// A database with all schemas, to make faults in.
struct Patient {
    database: TestDatabase,
    url: String,
    client: SqlClient,
}

/// What the doctor said.
#[derive(Debug)]
struct Visit {
    code: i32,
    said: Json,
}

impl Patient {
    async fn new() -> Patient {
        let database = TestDatabase::new().await;
        let client = SqlClient::open(&database).await;
        Patient { url: database.url(), database, client }
    }

    /// Run statements.
    async fn sql(&self, statements: &str) {
        self.client.sql().batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    async fn visit(&self, arguments: &[&str]) -> Visit {
        visit(&self.url, arguments, &[]).await
    }

    /// Make a fault, and look for what has to be found: a check, its level, and words of the finding and of the advice.
    async fn has(&self, fault: &str, check: &str, level: &str, words: &[&str]) {
        self.sql(fault).await;
        self.visit(&[]).await.has(check, level, words);
    }
}

async fn visit(url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Visit {
    let mut command = program(url);
    command.args(["doctor", "--json"]).args(arguments).envs(environment.iter().copied());
    let output = command.output().await.unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    Visit { code: output.status.code().unwrap(), said }
}

impl Visit {
    fn findings(&self, check: &str) -> Vec<&Json> {
        self.said["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).collect()
    }

    /// One of the check's findings has this level and all of these words.
    fn has(&self, check: &str, level: &str, words: &[&str]) {
        let found = self.findings(check);
        let fits = |finding: &&&Json| {
            let text = finding.to_string();
            finding["level"] == level && words.iter().all(|word| text.contains(word))
        };
        let fitting = found.iter().find(fits);
        assert!(fitting.is_some(), "{check}: no {level} with {words:?} in {found:#?}");
        // Whatever isn't well comes with a next step.
        assert!(
            level == "ok"
                || fitting.is_some_and(|finding| finding["advice"].as_str().is_some_and(|advice| advice.len() > 10))
        );
    }

    /// The check has found nothing.
    fn is_well(&self, check: &str) {
        let found = self.findings(check);
        assert!(!found.is_empty() && found.iter().all(|finding| finding["level"] == "ok"), "{check}: {found:#?}");
    }
}
