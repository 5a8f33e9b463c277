//! Checks of what holds others up.

use super::finding::{Finding, age, counted, list, many, or_ok, size};
use super::{Found, Visit};

/// WAL that a slot may keep before it is worth a word: 1 GiB.
const KEPT: i64 = 1 << 30;
/// Transactions whose dead rows a slot may keep.
const HELD: i64 = 1_000_000;

/// Transactions that stay open.
pub(super) async fn transactions(visit: &Visit) -> Found {
    let open = visit.examiner.standstills().await?;
    let found =
        open.iter().map(|session| {
            Finding::warning(
            "transactions",
            format!(
                "session {} ({}, database {}) has been in one transaction for {}, {}: VACUUM can't remove what died \
                 since, and claims get slower",
                session.pid, session.who, session.database, age(session.age), session.state
            ),
            format!(
                "end it: SELECT pg_terminate_backend({}); and have its owner set idle_in_transaction_session_timeout",
                session.pid
            ),
        )
        .figure("pid", session.pid)
        .figure("age_seconds", session.age.round())
        });
    Ok(or_ok(found.collect(), "transactions", format!("none is open for longer than {}", visit.patience())))
}

/// Transactions that are prepared and forgotten.
pub(super) async fn prepared(visit: &Visit) -> Found {
    let prepared = visit.examiner.prepared().await?;
    Ok(vec![if prepared.is_empty() {
        Finding::ok("prepared-transactions", "none is forgotten")
    } else {
        Finding::error(
            "prepared-transactions",
            format!(
                "{} for up to {}: {}. They keep their locks over restarts, and VACUUM can't remove anything that \
                 died since",
                counted(&prepared, "prepared transaction"),
                age(prepared.oldest),
                list(&prepared.examples)
            ),
            format!(
                "ask whoever made it, then: ROLLBACK PREPARED '{}';",
                prepared.examples.first().map_or("", String::as_str)
            ),
        )
        .of(&prepared)
    }])
}

/// Replication slots that nobody reads.
pub(super) async fn slots(visit: &Visit) -> Found {
    let slots = visit.examiner.slots().await?;
    let mut found = Vec::new();
    for slot in &slots {
        let held = slot.held.unwrap_or(0);
        if slot.active && slot.kept < KEPT && held < HELD {
            continue;
        }
        let who = if slot.active { "whose reader is behind" } else { "that nobody reads" };
        let finding = format!(
            "replication slot {}, {who}, keeps {} of WAL{}",
            slot.name,
            size(slot.kept),
            if held > 0 { format!(" and what died in the last {}", many(held, "transaction")) } else { String::new() }
        );
        let advice = format!(
            "start its reader again, or drop it: SELECT pg_drop_replication_slot('{}'); max_slot_wal_keep_size \
             bounds what a slot may keep before the disk is full",
            slot.name.replace('\'', "''")
        );
        let finding = if slot.kept >= 8 * KEPT {
            Finding::error("replication-slots", finding, advice)
        } else {
            Finding::warning("replication-slots", finding, advice)
        };
        found.push(finding.figure("slot", slot.name.clone()).figure("wal_bytes", slot.kept));
    }
    let text = match slots.len() {
        0 => "there are none".to_owned(),
        count => format!("{}, read and not behind", many(i64::try_from(count).unwrap_or(i64::MAX), "slot")),
    };
    Ok(or_ok(found, "replication-slots", text))
}

/// Statements that wait for somebody's lock.
pub(super) async fn locks(visit: &Visit) -> Found {
    let blocked = visit.examiner.blocked().await?;
    Ok(vec![if blocked.is_empty() {
        Finding::ok("locks", format!("nothing waits for a lock for longer than {}", visit.patience()))
    } else {
        Finding::warning(
            "locks",
            format!(
                "{} in wait of locks for up to {}: session {}",
                counted(&blocked, "statement"),
                age(blocked.oldest),
                list(&blocked.examples)
            ),
            "look at the session that is waited for (SELECT * FROM pg_stat_activity WHERE pid = …), and end it with \
             pg_terminate_backend(pid) if nobody is behind it",
        )
        .of(&blocked)
    }])
}
