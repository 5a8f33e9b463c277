//! Claims that overlap: their snapshots are older than each other's commits, and still no limit over all executors is passed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::time::Duration;

use fireflow_worker::config;
use fireflow_worker::postgres::{self, Settings};
use fireflow_worker::sysdb::schema::SchemaName;
use fireflow_worker::sysdb::{Claim, ClaimScope, Claimed, PartitionLimits, Rows, SystemDatabase};
use fireflow_worker::worker::Database;
use support::TestDatabase;
use tokio_postgres::Client;

const QUEUE: &str = "limited";
/// What goes on for longer has no end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Claimers wait in the middle of their statement, with their snapshots taken and their rows locked, until the gate opens.
const GATE: &str = "
    CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(1);
        RETURN NEW;
    END $$;
    CREATE TRIGGER gate BEFORE UPDATE ON dbos.workflow_status FOR EACH ROW EXECUTE FUNCTION gate();
    SELECT pg_advisory_lock(1)";

struct Stage {
    database: TestDatabase,
    client: Client,
}

impl Stage {
    async fn set() -> Stage {
        let database = TestDatabase::new().await;
        let mut settings = config::Settings::default();
        settings.database.url = database.url();
        Database::connect(&settings).await.unwrap().ensure_schemas().await.unwrap();
        let client = database.client().await;
        client.batch_execute(GATE).await.unwrap();
        Stage { database, client }
    }

    async fn enqueue(&self, id: &str, priority: i32, partition: Option<&str>) {
        let sql =
            "SELECT dbos.enqueue_workflow('work', $1, workflow_id => $2, priority => $3, queue_partition_key => $4)";
        self.client.query_one(sql, &[&QUEUE, &id, &priority, &partition]).await.unwrap();
    }

    /// Claim one row under a limit of one.
    async fn claim(
        &self,
        executor: &str,
        partition: Option<&'static str>,
    ) -> impl Future<Output = Vec<Claimed>> + use<> {
        // The session's own limit ends no wait here.
        let settings = Settings { lock_timeout: Duration::from_secs(3600), ..self.database.settings() };
        let pool = postgres::connect(&settings).await.unwrap();
        let sysdb = SystemDatabase::new(pool, SchemaName::default());
        let scope = ClaimScope {
            executor: executor.into(),
            application: "fireflow-executor".into(),
            version: "1.0.0".into(),
            workflows: vec!["work".into()],
            class: "ExecutionWorkflows".into(),
            formats: vec!["portable_json".into()],
            max_input: 1 << 20,
            accounts: None,
        };
        async move {
            let limits = PartitionLimits { concurrency: None, worker_concurrency: None, rate: None };
            let rows = partition.map_or(Rows::All, |key| Rows::Partition { key, limits: &limits });
            let claim = Claim { queue: QUEUE, rows, limit: 1, concurrency: Some(1), rate: None };
            sysdb.claim(&scope, &claim).await.unwrap().unwrap_or_default()
        }
    }

    /// Begin such a claim, and return once it waits at the gate, or for its turn.
    async fn claims(&self, executor: &str, partition: Option<&'static str>) -> tokio::task::JoinHandle<usize> {
        let waiting = self.waiting().await;
        let claim = self.claim(executor, partition).await;
        let task = tokio::spawn(async move { claim.await.len() });
        while self.waiting().await == waiting {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        task
    }

    async fn waiting(&self) -> i64 {
        // The other tests' databases have waiters of their own.
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn open_gate(&self) {
        self.client.query_one("SELECT pg_advisory_unlock(1)", &[]).await.unwrap();
    }

    /// Let the claims go on. How many rows they took together, which is how many are PENDING.
    async fn took(self, first: tokio::task::JoinHandle<usize>, second: tokio::task::JoinHandle<usize>) -> usize {
        self.open_gate().await;
        let took = first.await.unwrap() + second.await.unwrap();
        let pending = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING'";
        let pending: i64 = self.client.query_one(pending, &[]).await.unwrap().get(0);
        assert_eq!(usize::try_from(pending).unwrap(), took);
        took
    }
}

#[tokio::test]
async fn claims_in_two_partitions_share_their_queue_s_limit() {
    let stage = Stage::set().await;
    stage.enqueue("a", 0, Some("one")).await;
    stage.enqueue("b", 0, Some("two")).await;
    let first = stage.claims("e1", Some("one")).await;
    let second = stage.claims("e2", Some("two")).await;
    assert_eq!(stage.took(first, second).await, 1);
}

#[tokio::test]
async fn a_row_that_comes_between_two_claims_and_goes_first_doesn_t_pass_the_limit() {
    let stage = Stage::set().await;
    stage.enqueue("later", 5, None).await;
    let first = stage.claims("e1", None).await;
    // The second claim sees it, and picks it; the first one never knew of it.
    stage.enqueue("first", 0, None).await;
    let second = stage.claims("e2", None).await;
    assert_eq!(stage.took(first, second).await, 1);
}

#[tokio::test]
async fn what_an_executor_that_takes_no_turns_claims_meanwhile_counts() {
    let stage = Stage::set().await;
    stage.enqueue("later", 5, None).await;
    let ours = stage.claims("e1", None).await;
    stage.enqueue("first", 0, None).await;
    // Another row, so no lock says that somebody spends. The gate is open for whoever closed it.
    let claim = "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'sdk' WHERE workflow_uuid = 'first'";
    assert_eq!(stage.client.execute(claim, &[]).await.unwrap(), 1);
    stage.open_gate().await;
    assert_eq!(ours.await.unwrap(), 0);
    let pending = "SELECT array_agg(workflow_uuid) FROM dbos.workflow_status WHERE status = 'PENDING'";
    assert_eq!(stage.client.query_one(pending, &[]).await.unwrap().get::<_, Vec<String>>(0), ["first"]);
}

#[tokio::test]
async fn whoever_is_stopped_in_his_turn_holds_the_others_up_for_a_second_each_time() {
    let stage = Stage::set().await;
    stage.enqueue("a", 5, None).await;
    let stopped = stage.claims("e1", None).await;
    stage.enqueue("b", 0, None).await;
    let other = tokio::time::timeout(PATIENCE, stage.claim("e2", None).await);
    assert!(other.await.unwrap().is_empty(), "told as contention");
    stopped.abort();
    stage.open_gate().await;
}

#[tokio::test]
async fn a_row_with_numbers_that_overflow_fails_no_claim() {
    let stage = Stage::set().await;
    stage.open_gate().await;
    stage.enqueue("odd", 0, None).await;
    let odd = "UPDATE dbos.workflow_status SET workflow_timeout_ms = $1, recovery_attempts = $1, created_at = -($1::bigint) RETURNING 1";
    stage.client.query_one(odd, &[&i64::MAX]).await.unwrap();
    assert_eq!(stage.claim("e1", None).await.await.len(), 1);
}

#[tokio::test]
async fn a_wanted_delay_is_no_wait() {
    let stage = Stage::set().await;
    stage.open_gate().await;
    stage.enqueue("delayed", 0, None).await;
    let late = "UPDATE dbos.workflow_status
                   SET created_at = created_at - 3600000, delay_until_epoch_ms = created_at - 10000 RETURNING delay_until_epoch_ms";
    let until: i64 = stage.client.query_one(late, &[]).await.unwrap().get(0);
    assert_eq!(stage.claim("e1", None).await.await[0].due_at, until);
}
