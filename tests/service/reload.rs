//! SIGHUP: what is good is taken over while the worker runs, what is bad changes nothing, and what can't change is named.

use fireflow_worker::{
    config::{Database, Settings},
    worker::Worker,
};

use super::*;

fn write(file: &NamedTempFile, toml: &str) {
    std::fs::write(file.path(), format!("[admin]\nlisten = \"127.0.0.1:0\"\n{toml}")).unwrap();
}

#[tokio::test]
async fn limits_hosts_and_the_level_change_while_it_runs() {
    let (bench, manager) = (bench().await, Manager::at_a_path());
    let one = "[queue]\npolling_interval = \"50ms\"\nworker_concurrency = 1\n";
    let file = file(one);
    let worker = worker(&bench, &file, |command| manager.manage(command, None));
    hold(&bench, "EX1").await;
    hold(&bench, "EX2").await;
    bench.ledger.inside(1).await;
    manager.is_told("fireflow-executions: 1 of 1 slots, more is queued").await;
    assert!(!worker.log().contains("DEBUG"), "{}", worker.log());

    let two = "[queue]\npolling_interval = \"60ms\"\nworker_concurrency = 2\n[log]\nlevel = \"debug\"\n";
    write(&file, two);
    worker.signal(Signal::HUP);
    let begun = manager.hears("RELOADING=1", 1).await;
    assert!(begun.contains("\nMONOTONIC_USEC="), "{begun}");
    manager.hears("READY=1", 2).await;
    worker.says("the configuration is in force changed=3 needs_restart=0").await;
    worker.says("changed key=\"queue.worker_concurrency\" from=\"1\" to=\"2\"").await;
    bench.ledger.inside(2).await; // the other one got the new slot
    worker.says("polling_interval=60ms").await;
    worker.says("DEBUG").await;

    // Those under way go on; from now on nobody connects there.
    write(&file, &format!("{two}[outbound]\ndeny = [\"127.0.0.0/8\", \"[::1]\"]\n"));
    worker.signal(Signal::HUP);
    worker.says("changed key=\"outbound.deny\" from=\"[]\"").await;
    manager.hears("READY=1", 3).await;
    bench.ledger.release_all();
    for id in ["EX1", "EX2"] {
        assert_eq!(bench.client.until(id, "SUCCESS").await.attempts, 1);
    }
    assert_eq!(bench.ledger.executions().await, 2);
    hold(&bench, "EX3").await;
    bench.client.until_event("EX3", "node:failed").await;
    assert_eq!(bench.ledger.executions().await, 2, "denied");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_is_told_with_key_and_line() {
    let (bench, manager) = (bench().await, Manager::at_a_path());
    let file = file("[queue]\npolling_interval = \"50ms\"\n");
    let worker = worker(&bench, &file, |command| manager.manage(command, None));
    manager.hears("READY=1", 1).await;
    let name = file.path().to_str().unwrap();

    write(&file, "[queue]\npolling_interval = \"70ms\"\nworker_concurrency = 0\n[worker]\ndrain_timeout = \"9d\"\n");
    worker.signal(Signal::HUP);
    worker.says(&format!("key=\"queue.worker_concurrency\" source=\"{name}:5\" error=\"0 is not allowed")).await;
    worker.says("key=\"worker.drain_timeout\"").await;
    worker.says("the configuration is refused, and the earlier one stays in force").await;
    manager.hears("READY=1", 2).await;
    manager.is_told("the last reload was refused (").await;
    manager.is_told("queue.worker_concurrency: 0 is not allowed").await;

    write(&file, "[queue\n");
    worker.signal(Signal::HUP);
    manager.hears("READY=1", 3).await;
    worker.says("not valid TOML").await;

    // Only the certificates show that this one can't be used.
    write(&file, "[queue]\npolling_interval = \"70ms\"\n[outbound]\nca_file = \"/no/such.pem\"\n");
    worker.signal(Signal::HUP);
    manager.hears("READY=1", 4).await;
    worker.says("/no/such.pem").await;

    std::fs::remove_file(file.path()).unwrap();
    worker.signal(Signal::HUP);
    manager.hears("READY=1", 5).await;
    worker.says("can't read the configuration").await;

    assert!(
        !worker.log().contains("polling_interval=70ms") && !worker.log().contains("changed key"),
        "{}",
        worker.log()
    );
    bench.client.enqueue("EX1", "echo", json!({})).await;
    bench.client.until("EX1", "SUCCESS").await;
    // The next good one is taken, and the complaint is gone.
    write(&file, "[queue]\npolling_interval = \"80ms\"\n");
    worker.signal(Signal::HUP);
    let ready = manager.hears("READY=1", 6).await;
    assert!(ready.contains("STATUS=running"), "{ready}");
    worker.says("polling_interval=80ms").await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_can_not_change_is_named_and_the_rest_is_taken() {
    let bench = bench().await;
    let file = file("[queue]\npolling_interval = \"50ms\"\n");
    let worker = worker(&bench, &file, |command| {
        command.env_remove("DATABASE_URL").env("FIREFLOW__DATABASE__URL", bench.database.url());
    });
    worker.says("serving").await;
    write(
        &file,
        "[queue]\npolling_interval = \"90ms\"\n[worker]\nlease = \"40s\"\n\
         [database]\npool_size = 9\nflows_url = \"postgres://me:hush@elsewhere/flows\"\n",
    );
    for times in 1..=2 {
        worker.signal(Signal::HUP);
        worker.says_times("the configuration is in force", times).await;
    }
    for named in [
        "it takes a restart key=\"worker.lease\" from=\"\\\"30s\\\"\" to=\"\\\"40s\\\"\"",
        "it takes a restart key=\"database.pool_size\" from=\"6\" to=\"9\"",
        "it takes a restart key=\"database.flows_url\" from=\"(not shown)\" to=\"(not shown)\"",
    ] {
        worker.says_times(named, 2).await; // each time, as long as the file says so
    }
    worker.says_times("key=\"queue.polling_interval\"", 1).await;
    worker.says("changed=1 needs_restart=3").await;
    worker.says("changed=0 needs_restart=3").await;
    assert!(!worker.log().contains("hush"), "{}", worker.log());
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn the_drain_s_time_can_be_changed_while_it_runs() {
    let bench = bench().await;
    let file = file("[queue]\npolling_interval = \"50ms\"\n[worker]\ndrain_timeout = \"1h\"\n");
    let mut worker = worker(&bench, &file, |_| {});
    hold(&bench, "EX1").await;
    bench.ledger.entered("EX1", 1).await;
    worker.signal(Signal::TERM);
    worker.says("draining executions=1").await;
    write(&file, "[queue]\npolling_interval = \"50ms\"\n[worker]\ndrain_timeout = \"0s\"\n");
    worker.signal(Signal::HUP);
    worker.says("drain time is over").await;
    assert!(worker.ended().await.success());
    assert_eq!(bench.client.row("EX1").await.unwrap().status, "ENQUEUED");
}

#[tokio::test]
async fn a_worker_inside_a_program_takes_other_settings() {
    let bench = bench().await;
    let database = Database { url: bench.database.url(), ..Database::default() };
    let mut settings = Settings { database, ..Settings::default() };
    settings.worker.id = Some("inside".into());
    settings.queue.first_mut().worker_concurrency = 1;
    let worker = Worker::new(settings.clone()).start();
    hold(&bench, "EX1").await;
    hold(&bench, "EX2").await;
    bench.ledger.inside(1).await;
    settings.queue.first_mut().worker_concurrency = 2;
    settings.worker.id = Some("other".into());
    let reloaded = worker.reload(settings).await.unwrap();
    let keys =
        |changes: &[fireflow_worker::worker::Change]| changes.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&reloaded.changed), ["queue.worker_concurrency"]);
    assert_eq!(keys(&reloaded.needs_restart), ["worker.id"]);
    bench.ledger.inside(2).await;
    bench.ledger.release_all();
    for id in ["EX1", "EX2"] {
        assert_eq!(bench.client.until(id, "SUCCESS").await.executor.as_deref(), Some("inside"));
    }
    worker.stop().await.unwrap();
}
