//! Connections to a real server: sessions as the worker wants them, errors that say what to do, LISTEN. TLS and
//! passwords are in `tests/security`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::time::Duration;

use fireflow_worker::postgres::{self, Error, Event, Listener, Settings, Statements as _, is_transient};
use support::{TestDatabase, TestServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn settings(url: &str) -> Settings {
    Settings::new(url.parse().unwrap())
}

/// A server that goes away at that moment comes back: the worker must wait for it, and not end.
#[tokio::test]
async fn a_connection_that_breaks_while_its_session_is_set_up_is_worth_another_try() {
    let database = TestDatabase::new().await;
    let mut url: url::Url = database.url().parse().unwrap();
    let server = format!("127.0.0.1:{}", url.port().unwrap());
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_port(Some(proxy.local_addr().unwrap().port())).unwrap();
    url.set_query(Some("sslmode=disable"));
    tokio::spawn(async move {
        let (client, _) = proxy.accept().await.unwrap();
        let (mut client_in, mut client_out) = client.into_split();
        let (mut server_in, mut server_out) = TcpStream::connect(server).await.unwrap().into_split();
        let there = async {
            let mut data = vec![0; 8192];
            while let Ok(count @ 1..) = client_in.read(&mut data).await {
                if data[..count].windows(21).any(|window| window == b"SET statement_timeout") {
                    return;
                }
                server_out.write_all(&data[..count]).await.unwrap();
            }
        };
        tokio::select! {
            () = there => {}
            _ = tokio::io::copy(&mut server_in, &mut client_out) => {}
        }
    });
    let error = postgres::connect(&settings(url.as_str())).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(!error.to_string().contains("hook"), "{error}");
}

#[tokio::test]
async fn sessions_are_set_up_over_tcp_and_over_the_socket() {
    let database = TestDatabase::new().await;
    for url in [database.url(), TestServer::get().socket_url(database.name())] {
        let pool = postgres::connect(&settings(&url)).await.unwrap();
        let client = pool.get().await.unwrap();
        for (setting, value) in [
            ("statement_timeout", "1min"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("TimeZone", "UTC"),
            ("application_name", "fireflow-worker"),
        ] {
            let row = client.query_one("SELECT current_setting($1)", &[&setting]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), value, "{setting} through {url}");
        }
    }
}

#[tokio::test]
async fn each_failure_says_where_and_what_to_do_but_not_the_password() {
    let good = TestServer::get().url("postgres");
    let password = good.split([':', '@']).nth(2).unwrap().to_owned();
    let port = TestServer::get().port().to_string();

    let error = postgres::connect(&settings(&good.replace(&password, "guess"))).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains(&port) && !error.to_string().contains("guess"), "{error}");

    let error = postgres::connect(&settings(&TestServer::get().url("nowhere"))).await.unwrap_err();
    assert!(matches!(error, Error::UnknownDatabase { .. }), "{error}");
    assert!(error.to_string().contains("createdb nowhere") && !error.to_string().contains(&password), "{error}");

    let error = postgres::connect(&settings("postgresql://u:p@127.0.0.1:1/x")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error}");
    let error = postgres::connect(&settings("postgresql://u:p@%2Fnowhere/x")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");

    let required = format!("{good}?sslmode=require");
    let error = postgres::connect(&settings(&required)).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }) && !error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_full_server_and_a_full_pool_are_told_apart() {
    let database = TestDatabase::new().await;
    let admin = database.client().await;
    let mut one = settings(&database.url());
    one.pool_size = 1;
    one.acquire_timeout = Duration::from_millis(50);
    let pool = postgres::connect(&one).await.unwrap();
    let _held = pool.get().await.unwrap();
    let error = pool.get().await.map(drop).unwrap_err();
    let error = Error::of_pool(&one.url.target(), &error, one.acquire_timeout);
    assert!(matches!(error, Error::PoolExhausted { .. }) && error.is_transient(), "{error}");

    let sql = "CREATE ROLE narrow LOGIN PASSWORD 'x' CONNECTION LIMIT 0";
    admin.batch_execute(sql).await.unwrap();
    let narrow = format!("postgresql://narrow:x@127.0.0.1:{}/{}", TestServer::get().port(), database.name());
    let error = postgres::connect(&settings(&narrow)).await.unwrap_err();
    assert!(matches!(error, Error::TooManyConnections { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn the_connection_that_came_back_last_goes_out_first() {
    let database = TestDatabase::new().await;
    let pool = postgres::connect(&settings(&database.url())).await.unwrap();
    let process = async |session: &postgres::Session| {
        session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0)
    };
    for last in [0, 1] {
        let mut both = vec![pool.get().await.unwrap(), pool.get().await.unwrap()];
        let last = both.swap_remove(last);
        let expected = process(&last).await;
        drop(both);
        drop(last);
        assert_eq!(process(&pool.get().await.unwrap()).await, expected);
    }
}

#[tokio::test]
async fn connections_are_opened_ahead_and_never_more_than_there_may_be() {
    let database = TestDatabase::new().await;
    let admin = database.client().await;
    let until = async |expected: i64| {
        let count = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND application_name = 'fireflow-worker'";
        let reached = async {
            while admin.query_one(count, &[]).await.unwrap().get::<_, i64>(0) != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), reached).await.unwrap_or_else(|_| panic!("never {expected} connections"));
    };
    for (pool_size, expected) in [(5, 3), (2, 2), (1, 1)] {
        let pool = postgres::connect(&Settings { pool_size, ..settings(&database.url()) }).await.unwrap();
        pool.open_ahead(2).await;
        // Whoever comes meanwhile is served, also where there is only one.
        drop(timeout(Duration::from_secs(5), pool.get()).await.unwrap().unwrap());
        until(expected).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        until(expected).await;
        drop(pool);
        until(0).await;
    }
}

#[tokio::test]
async fn lost_connections_and_statements_that_were_cancelled_are_transient_and_wrong_ones_are_not() {
    let database = TestDatabase::new().await;
    let (admin, victim) = (database.client().await, database.client().await);
    let error = victim.batch_execute("SET statement_timeout = 1; SELECT pg_sleep(10)").await.unwrap_err();
    assert!(is_transient(&error), "{error}");
    let error = victim.batch_execute("RESET statement_timeout; SELECT 1 FROM nowhere").await.unwrap_err();
    assert!(!is_transient(&error), "{error}");

    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let sleeping = victim.batch_execute("SELECT pg_sleep(60)");
    let kill = async {
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
        while admin.query_one(asleep, &[&pid]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        admin.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleeping, kill);
    let error = slept.unwrap_err();
    assert!(is_transient(&error), "{error}");
    let error = victim.batch_execute("SELECT 1").await.unwrap_err();
    assert!(is_transient(&error), "{error}");
}

#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_found_behind_a_silent_one_and_remembered() {
    let database = TestDatabase::new().await;
    // It takes connections, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = format!("127.0.0.1:{}", TestServer::get().port());
    let both = format!("127.0.0.1:{},{here}", silent.local_addr().unwrap().port());
    let mut settings = settings(&database.url().replace(&here, &both));
    settings.connect_timeout = Duration::from_secs(2);
    let pool = postgres::connect(&settings).await.unwrap();
    let began = std::time::Instant::now();
    let held = [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
    assert!(began.elapsed() < settings.connect_timeout, "the silent one was asked again: {:?}", began.elapsed());
    drop(held);
    // A server that doesn't take writes is passed over, and what is said is why.
    let admin = database.client().await;
    let sql = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name());
    admin.batch_execute(&sql).await.unwrap();
    let error = postgres::connect(&settings).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }) && error.is_transient(), "{error}");
}

async fn next(events: &mut tokio::sync::broadcast::Receiver<Event>) -> Event {
    timeout(Duration::from_secs(20), events.recv()).await.expect("an event in time").unwrap()
}

#[tokio::test]
async fn the_listener_hears_comes_back_and_ends() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let listener = Listener::new(database.settings(), &["news", "odd \"channel\""]);
    let mut events = listener.subscribe();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(listener.run(cancel.clone()));

    assert_eq!(next(&mut events).await, Event::Listening);
    client.batch_execute("NOTIFY \"odd \"\"channel\"\"\", 'a::b'").await.unwrap();
    let Event::Notified(notification) = next(&mut events).await else { panic!("a notification") };
    assert_eq!((&*notification.channel, &*notification.payload), ("odd \"channel\"", "a::b"));

    let listening = "SELECT pid FROM pg_stat_activity WHERE application_name = 'fireflow-worker' AND datname = $1";
    let pid: i32 = client.query_one(listening, &[&database.name()]).await.unwrap().get(0);
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Lost);
    assert_eq!(next(&mut events).await, Event::Listening);
    client.batch_execute("NOTIFY news").await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Notified(_)));

    cancel.cancel();
    timeout(Duration::from_secs(5), task).await.expect("it ends when cancelled").unwrap();
    while client.query_opt(listening, &[&database.name()]).await.unwrap().is_some() {
        tokio::task::yield_now().await; // it said goodbye; the server takes a moment
    }
}

/// A way to the server on which everything can be swallowed, as on a half-open connection: neither end hears of it. Connections
/// that are made while it swallows wait.
async fn way_to(server: u16) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (swallow, swallows) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut swallows = swallows.clone();
            tokio::spawn(async move {
                if swallows.wait_for(|swallows| !swallows).await.is_err() {
                    return;
                }
                let Ok(mut far) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                let swallowed = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
                    swallows = swallows.wait_for(|swallows| *swallows) => swallows.is_ok(),
                };
                if swallowed {
                    std::future::pending::<()>().await; // for good, and both ends stay open
                }
            });
        }
    });
    (port, swallow)
}

#[tokio::test]
async fn a_listener_whose_connection_is_half_open_notices_and_comes_back() {
    let database = TestDatabase::new().await;
    let server = TestServer::get().port();
    let (port, swallow) = way_to(server).await;
    let client = database.client().await;
    let url = database.url().replace(&format!(":{server}/"), &format!(":{port}/"));
    let listener = Listener::new(settings(&url), &["news"]).heartbeat(Duration::from_millis(300));
    let mut events = listener.subscribe();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(listener.run(cancel.clone()));
    assert_eq!(next(&mut events).await, Event::Listening);
    // It outlives its heartbeats.
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.batch_execute("NOTIFY news, 'heard'").await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Notified(_)));

    swallow.send(true).unwrap();
    client.batch_execute("NOTIFY news, 'not heard'").await.unwrap();
    assert_eq!(next(&mut events).await, Event::Lost);
    swallow.send(false).unwrap();
    // Whoever hears this looks for what was missed.
    assert_eq!(next(&mut events).await, Event::Listening);
    client.batch_execute("NOTIFY news, 'heard again'").await.unwrap();
    let Event::Notified(notification) = next(&mut events).await else { panic!("a notification") };
    assert_eq!(&*notification.payload, "heard again");
    cancel.cancel();
    timeout(Duration::from_secs(5), task).await.expect("it ends when cancelled").unwrap();
}
