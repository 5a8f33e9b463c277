//! Checks of the server and of the way to it.

use jiff::civil::{Date, date};

use super::finding::{Finding, age, list, or_ok};
use super::{Found, Visit};
use crate::postgres::Pooling;
use crate::sysdb::doctor::{Server, Setting};

/// When the PostgreSQL project stops to repair a major version.
const SUPPORTED: [(i32, Date); 6] = [
    (13, date(2025, 11, 13)),
    (14, date(2026, 11, 12)),
    (15, date(2027, 11, 11)),
    (16, date(2028, 11, 9)),
    (17, date(2029, 11, 8)),
    (18, date(2030, 11, 14)),
];
/// The oldest that the worker's statements work on.
const OLDEST: i32 = 13;
/// A clock that is further off is worth a word, in seconds: delays and deadlines of clients are by their clocks.
const SKEW: f64 = 1.0;
/// The part of the server's connections from which on it is nearly full.
const FULL: f64 = 0.8;
/// Connections of a worker besides its pool: the lease's two, and the listener where there is one.
const BESIDES: i64 = 2;
/// As PostgreSQL is delivered, in blocks of 8 KiB: 128 MiB.
const BUFFERS: i64 = 16_384;
/// Behind a pooler the server's own limit on statements holds, in milliseconds.
const SHORT: i64 = 10_000;

/// Version and encoding.
pub(super) async fn server(visit: &Visit) -> Found {
    let server = visit.examiner.server().await?;
    let today = jiff::Zoned::now().date();
    let mut found = Vec::from_iter(version(&server, today));
    if server.encoding != "UTF8" {
        found.push(
            Finding::error(
                "server",
                format!(
                    "the database is encoded in {}: texts of flows and results that have other characters are refused",
                    server.encoding
                ),
                "make a database with ENCODING 'UTF8' and move there (docs/operations.md, backup and restore)",
            )
            .figure("encoding", server.encoding.clone()),
        );
    }
    Ok(or_ok(found, "server", format!("PostgreSQL {}, as role {}", server.name, server.role)))
}

fn version(server: &Server, today: Date) -> Option<Finding> {
    let major = server.version / 10_000;
    if major < OLDEST {
        return Some(Finding::error(
            "server",
            format!(
                "PostgreSQL {} is older than {OLDEST}, with which the worker's statements begin to work",
                server.name
            ),
            "upgrade the server; 15 or later is best",
        ));
    }
    let (_, end) = SUPPORTED.iter().find(|(version, _)| *version == major)?;
    (today > *end).then(|| {
        Finding::warning(
            "server",
            format!(
                "PostgreSQL {} is out of support since {end}: faults and holes are not repaired any more",
                server.name
            ),
            "plan an upgrade of the server (pg_upgrade); the worker needs no change for it",
        )
    })
}

/// Whether the role sees what the others do.
pub(super) async fn insight(visit: &Visit) -> Found {
    let server = visit.examiner.server().await?;
    Ok(vec![if server.sees_others {
        Finding::ok("insight", "the role sees what other sessions do")
    } else {
        Finding::note(
            "insight",
            format!(
                "role {} doesn't see what other sessions do, so transactions and locks of others are not found",
                server.role
            ),
            format!(
                "for a doctor that sees all: GRANT pg_monitor TO \"{}\"; the worker itself needs no such right",
                server.role.replace('"', "\"\"")
            ),
        )
    }])
}

/// Our clock and the server's.
pub(super) async fn clock(visit: &Visit) -> Found {
    let (ahead, error) = visit.examiner.clock().await?;
    let finding = match ahead.abs() - error > SKEW {
        false => Finding::ok("clock", "this machine and the server agree"),
        true => {
            let side = if ahead > 0.0 { "ahead of" } else { "behind" };
            Finding::warning(
                "clock",
                format!("the server's clock is {} {side} this machine's", age(ahead.abs())),
                "run NTP on both (chrony, systemd-timesyncd). Leases and rate limits go by the server's clock \
                 alone; delays and deadlines that clients on this machine compute come too early or too late by as \
                 much",
            )
        }
    };
    Ok(vec![finding.figure("ahead_seconds", (ahead * 1000.0).round() / 1000.0)])
}

/// What becomes of commits when the server's machine dies.
pub(super) async fn durability(visit: &Visit) -> Found {
    let settings = visit.examiner.settings(&["fsync", "full_page_writes", "synchronous_commit"]).await?;
    let mut found = Vec::new();
    for setting in settings.iter().filter(|setting| setting.value == "off") {
        let how = whence(setting);
        found.push(match setting.name.as_str() {
            "synchronous_commit" => Finding::warning(
                "durability",
                format!(
                    "synchronous_commit is off ({how}): a crash of the server loses what was acknowledged in the \
                     last moments; steps then run again that clients were told of"
                ),
                "set it to on: ALTER ROLE … SET synchronous_commit = on, or remove it from where it is set",
            ),
            name => Finding::error(
                "durability",
                format!("{name} is off ({how}): a crash of the server's machine can destroy the database"),
                format!("set {name} = on and reload the server; off is for databases that nobody needs"),
            ),
        });
    }
    Ok(or_ok(found, "durability", "commits survive a crash of the server"))
}

fn whence(setting: &Setting) -> String {
    match setting.source.as_str() {
        "session" | "default" => "by default".into(), // of what a session has set, the default is shown
        source => format!("from {source}"),
    }
}

/// Buffers.
pub(super) async fn memory(visit: &Visit) -> Found {
    let settings = visit.examiner.settings(&["shared_buffers"]).await?;
    let blocks = settings.first().and_then(|setting| setting.value.parse::<i64>().ok()).unwrap_or(BUFFERS);
    let shown = super::finding::size(blocks * 8192);
    Ok(vec![
        if blocks < BUFFERS {
            Finding::note(
                "memory",
                format!("shared_buffers is {shown}, less than PostgreSQL is delivered with"),
                "give the server a quarter of its machine's memory: shared_buffers in postgresql.conf, and a restart",
            )
        } else {
            Finding::ok("memory", format!("shared_buffers is {shown}"))
        }
        .figure("shared_buffers", blocks * 8192),
    ])
}

/// What sessions of this role and database begin with.
pub(super) async fn defaults(visit: &Visit) -> Found {
    const NAMES: [&str; 7] = [
        "default_transaction_isolation",
        "idle_session_timeout",
        "transaction_timeout",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "jit",
    ];
    let pooled = visit.database.pooling() == Pooling::Transaction;
    let settings = visit.examiner.settings(&NAMES).await?;
    Ok(or_ok(judge_defaults(&settings, pooled), "defaults", "sessions begin with settings that fit the worker"))
}

fn judge_defaults(settings: &[Setting], pooled: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for setting in settings {
        let number = setting.value.parse::<i64>().unwrap_or(0);
        let how = whence(setting);
        let reset = format!("ALTER ROLE … SET {} = ", setting.name);
        let (name, value) = (setting.name.as_str(), setting.value.as_str());
        found.extend(
            match name {
                "default_transaction_isolation" if value != "read committed" => Some(Finding::warning(
                    "defaults",
                    format!(
                        "{name} is {value} ({how}): the worker's statements are made for read committed, and fail \
                         in crowds under another"
                    ),
                    format!("{reset}'read committed' for the worker's role"),
                )),
                "idle_session_timeout" if number > 0 => Some(Finding::warning(
                    "defaults",
                    format!("{name} is {number} ms ({how}): the server closes connections that the worker keeps"),
                    format!("{reset}0 for the worker's role"),
                )),
                "transaction_timeout" if (1..SHORT).contains(&number) => Some(Finding::warning(
                    "defaults",
                    format!("{name} is {number} ms ({how}): large batches of checkpoints are cut off"),
                    format!("{reset}'1min' for the worker's role"),
                )),
                "statement_timeout" if pooled && (1..SHORT).contains(&number) => Some(Finding::warning(
                    "defaults",
                    format!(
                        "{name} is {number} ms ({how}), and behind a pooler the worker can't set its own: claims \
                         and checkpoints are cut off under load"
                    ),
                    format!("{reset}'1min' for the worker's role"),
                )),
                "idle_in_transaction_session_timeout" if pooled && number == 0 => Some(Finding::note(
                    "defaults",
                    format!(
                        "{name} is not set, and behind a pooler the worker can't set its own: a worker that stands \
                         still keeps its locks"
                    ),
                    format!("{reset}'10s' for the worker's role"),
                )),
                "lock_timeout" if pooled && number == 0 => Some(Finding::note(
                    "defaults",
                    format!(
                        "{name} is not set, and behind a pooler the worker can't set its own: it waits for locks of \
                         others without end"
                    ),
                    format!("{reset}'2s' for the worker's role"),
                )),
                "jit" if pooled && value == "on" => Some(Finding::note(
                    "defaults",
                    "jit is on, and behind a pooler the worker can't switch it off for itself: compiling costs more \
                     than its statements do",
                    format!("{reset}off for the worker's role"),
                )),
                _ => None,
            }
            .map(|finding| finding.figure(name, value)),
        );
    }
    found
}

/// What stands in between.
pub(super) async fn pooler(visit: &Visit) -> Found {
    Ok(vec![match visit.database.pooled() {
        Some(pooled) => Finding::note(
            "pooler",
            pooled,
            "give the worker the server's own address, or the pooler's session mode, if messages shall be heard at \
             once; else all is well, and what the worker would set for its sessions belongs to its role (see the \
             check `defaults`)",
        ),
        None => Finding::ok("pooler", "none, or one in session mode"),
    }])
}

/// Whether others on the network can read along.
pub(super) async fn tls(visit: &Visit) -> Found {
    let server = visit.examiner.server().await?;
    let url = visit.settings.database.url.parse::<crate::postgres::DatabaseUrl>();
    let hosts = url.map(|url| url.target().host).unwrap_or_default();
    let pooled = visit.database.pooling() == Pooling::Transaction;
    Ok(vec![judge_tls(server.tls, &hosts, pooled)])
}

/// `tls` is what the server says of the session. Behind a pooler that is the pooler's way to it, and says nothing of ours.
fn judge_tls(tls: Option<bool>, hosts: &str, pooled: bool) -> Finding {
    if pooled {
        return Finding::note(
            "tls",
            "a pooler ends the connection, so that the server can't tell whether the way to it is encrypted",
            "sslmode=verify-full in database.url makes sure of the way to the pooler; of that from there to the server, its \
             own settings (PgBouncer: server_tls_sslmode)",
        );
    }
    let remote: Vec<String> = hosts.split(',').filter(|host| !is_local(host)).map(str::to_owned).collect();
    match tls {
        Some(true) => Finding::ok("tls", "the connection is encrypted"),
        Some(false) if !remote.is_empty() => Finding::warning(
            "tls",
            format!(
                "the connection to {} is not encrypted: inputs, results and messages can be read on the way",
                list(&remote)
            ),
            "sslmode=verify-full in database.url, and ssl = on at the server (docs/operations/security.md)",
        ),
        _ => Finding::ok("tls", "the connection stays on this machine"),
    }
}

/// A host with its port that is this machine, or a socket's folder.
fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let address = name.parse::<std::net::IpAddr>();
    host.starts_with('/')
        || host.is_empty()
        || name == "localhost"
        || address.is_ok_and(|address| address.is_loopback())
}

/// Whether there is room for all workers.
pub(super) async fn connections(visit: &Visit) -> Found {
    let server = visit.examiner.server().await?;
    let live = visit.workers.iter().filter(|worker| worker.live).count();
    // Through such a pooler nothing listens; and how many of the server's own connections it takes, its configuration says.
    let pooled = visit.database.pooling() == Pooling::Transaction;
    let besides = BESIDES + i64::from(!pooled);
    let each = i64::try_from(visit.settings.database.pool_size).unwrap_or(i64::MAX).saturating_add(besides);
    let needed = each.saturating_mul(i64::try_from(live.max(1)).unwrap_or(i64::MAX));
    let mut found = Vec::new();
    let rooms = [
        ("max_connections of the server", Some(server.max_sessions), server.sessions),
        ("the connection limit of the role", server.limits[0], server.limited[0]),
        ("the connection limit of the database", server.limits[1], server.limited[1]),
    ];
    for (what, most, used) in rooms {
        let Some(most) = most else { continue };
        let figures = |finding: Finding| finding.figure("most", most).figure("used", used).figure("needed", needed);
        if needed > most && !pooled {
            found.push(figures(Finding::warning(
                "connections",
                format!("{live} live workers like this one may take {needed} connections, and {what} lets in {most}"),
                "lower database.pool_size, run fewer workers, put a pooler in between, or raise that limit",
            )));
        } else if most > 0 && used as f64 >= FULL * most as f64 {
            found.push(figures(Finding::warning(
                "connections",
                format!("{used} of {most} connections are in use ({what})"),
                "see who has them: SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY \
                 1, 2, 3; then lower pools, put a pooler in between, or raise that limit",
            )));
        }
    }
    Ok(or_ok(
        found,
        "connections",
        format!(
            "{} of {} in use; a worker takes up to {each}{}",
            server.sessions,
            server.max_sessions,
            if pooled { " of the pooler's" } else { "" }
        ),
    ))
}

/// Whether WAL leaves the server, where it is meant to.
pub(super) async fn archiving(visit: &Visit) -> Found {
    Ok(vec![match visit.examiner.archiving().await? {
        Some((wal, ago)) => Finding::error(
            "archiving",
            format!(
                "WAL can't be archived ({wal}), and wasn't for {}: it piles up until the server's disk is full",
                age(ago)
            ),
            "look at archive_command, where it writes to, and the server's log; a full disk stops all executions",
        ),
        None => Finding::ok("archiving", "no failure of WAL archiving"),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    fn of(version: i32) -> Server {
        Server {
            version,
            name: format!("{}.{}", version / 10_000, version % 10_000),
            encoding: "UTF8".into(),
            role: "worker".into(),
            sees_others: true,
            tls: None,
            sessions: 1,
            max_sessions: 97,
            limits: [None, None],
            limited: [1, 1],
        }
    }

    #[test]
    fn a_version_is_judged_by_the_day() {
        let level = |server, today| version(&of(server), today).map(|finding| finding.level);
        assert_eq!(level(120_022, date(2024, 1, 1)), Some(Level::Error));
        assert_eq!(level(140_009, date(2026, 11, 12)), None);
        assert_eq!(level(140_009, date(2026, 11, 13)), Some(Level::Warning));
        assert_eq!(level(180_000, date(2026, 11, 13)), None);
        assert_eq!(level(250_000, date(2040, 1, 1)), None, "a version that we don't know is not called old");
    }

    #[test]
    fn only_a_way_over_the_network_needs_tls() {
        let level = |tls, hosts| judge_tls(tls, hosts, false).level;
        for local in ["localhost:5432", "127.0.0.1:5432", "[::1]:5432", "/var/run/postgresql/.s.PGSQL.5432", ""] {
            assert_eq!(level(Some(false), local), Level::Ok, "{local}");
        }
        for remote in ["db.example.com:5432", "10.0.0.7:5432", "localhost:5432,db2:5432"] {
            assert_eq!(
                (level(Some(false), remote), level(Some(true), remote)),
                (Level::Warning, Level::Ok),
                "{remote}"
            );
        }
        assert_eq!([true, false].map(|tls| judge_tls(Some(tls), "db2:5432", true).level), [Level::Note; 2]);
    }

    #[test]
    fn what_a_pooler_hides_is_told_behind_one_only() {
        let setting =
            |name: &str, value: &str| Setting { name: name.into(), value: value.into(), source: "database".into() };
        let settings = [
            setting("statement_timeout", "500"),
            setting("lock_timeout", "0"),
            setting("idle_in_transaction_session_timeout", "0"),
            setting("jit", "on"),
            setting("default_transaction_isolation", "read committed"),
            setting("transaction_timeout", "0"),
        ];
        assert!(judge_defaults(&settings, false).is_empty());
        let levels: Vec<Level> = judge_defaults(&settings, true).iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Warning, Level::Note, Level::Note, Level::Note]);
    }
}
