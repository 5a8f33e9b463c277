//! Checks of what the tables hold.

use super::finding::{Finding, age, counted, list, or_ok, size};
use super::{Found, Visit};

/// Dead rows of a table below which nobody notices them.
const DEAD: i64 = 10_000;
/// What has ended for so long is for `gc`, in days.
const KEPT_DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
/// So many of them are worth a word.
const MANY: i64 = 10_000;

/// Rows that died and are still in the way.
pub(super) async fn dead_rows(visit: &Visit) -> Found {
    let tables = visit.examiner.tables().await?;
    // The server vacuums a table at a fifth; half means that it doesn't, or that something holds it back.
    let bad = tables.iter().filter(|table| table.dead >= DEAD && table.dead > table.live / 2);
    let found = bad.map(|table| {
        let last = table.vacuumed.map_or("never".into(), |ago| format!("{} ago", age(ago)));
        Finding::warning(
            "dead-rows",
            format!(
                "{} has {} dead rows beside {} live ones; last vacuumed: {last}",
                table.name, table.dead, table.live
            ),
            format!(
                "VACUUM (ANALYZE) {}; if the dead rows stay, something holds them: see transactions, \
                 prepared-transactions and replication-slots. If it comes again: ALTER TABLE … SET \
                 (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
                table.name
            ),
        )
        .figure("table", table.name.clone())
        .figure("dead", table.dead)
        .figure("live", table.live)
    });
    Ok(or_ok(found.collect(), "dead-rows", "no table has many"))
}

/// Whether the server vacuums at all.
pub(super) async fn autovacuum(visit: &Visit) -> Found {
    let mut found = Vec::new();
    for setting in visit.examiner.settings(&["autovacuum", "track_counts"]).await? {
        if setting.value == "off" {
            found.push(Finding::error(
                "autovacuum",
                format!(
                    "{} is off at the server: queue tables fill with dead rows, and claims get slower by the hour",
                    setting.name
                ),
                format!("ALTER SYSTEM SET {} = on; SELECT pg_reload_conf();", setting.name),
            ));
        }
    }
    for table in visit.examiner.tables().await?.iter().filter(|table| !table.autovacuum) {
        found.push(
            Finding::warning(
                "autovacuum",
                format!("{} is left out of autovacuum", table.name),
                format!("ALTER TABLE {} RESET (autovacuum_enabled), in its schema", table.name),
            )
            .figure("table", table.name.clone()),
        );
    }
    Ok(or_ok(found, "autovacuum", "on, for the server and for each table"))
}

/// Whether what ended long ago piles up.
pub(super) async fn retention(visit: &Visit) -> Found {
    let finished = visit.examiner.finished(KEPT_DAYS * DAY_MS).await?;
    let tables = visit.examiner.tables().await?;
    let bytes: i64 = tables.iter().map(|table| table.bytes).sum();
    let largest = tables.first().map(|table| format!("; the largest is {} with {}", table.name, size(table.bytes)));
    let finding = if finished.count >= MANY {
        Finding::note(
            "retention",
            format!(
                "{} ended more than {KEPT_DAYS} days ago; all tables take {}{}",
                counted(&finished, "execution"),
                size(bytes),
                largest.unwrap_or_default()
            ),
            format!(
                "fireflow-worker gc --older-than {KEPT_DAYS}d --dry-run counts what would go; run it by a timer \
                 (docs/operations.md)"
            ),
        )
    } else {
        Finding::ok(
            "retention",
            format!(
                "{} ended more than {KEPT_DAYS} days ago; all tables take {}",
                counted(&finished, "execution"),
                size(bytes)
            ),
        )
    };
    let sizes = tables.iter().map(|table| (table.name.clone(), table.bytes.into())).collect::<serde_json::Map<_, _>>();
    Ok(vec![finding.figure("finished", finished.count).figure("bytes", bytes).figure("tables", sizes)])
}

/// What others left when they deleted workflows.
pub(super) async fn orphans(visit: &Visit) -> Found {
    let orphans = visit.examiner.orphans(DAY_MS).await?;
    let found = orphans.iter().map(|(table, seen)| {
        Finding::note(
            "orphans",
            format!("{table} has rows of {} that are gone: {}", counted(seen, "workflow"), list(&seen.examples)),
            "fireflow-worker gc --orphans removes them. Delete a workflow with its SDK or with gc, not by DELETE \
             alone",
        )
        .of(seen)
        .figure("table", *table)
    });
    Ok(or_ok(found.collect(), "orphans", "no rows of workflows that are gone"))
}

/// What a worker sweeps every few minutes, while there is one.
pub(super) async fn leftovers(visit: &Visit) -> Found {
    let (pins, contents) = (visit.examiner.old_pins().await?, visit.examiner.old_contents().await?);
    let mut found = Vec::new();
    for (seen, what) in [(&pins, "pin"), (&contents, "flow content")] {
        if !seen.is_empty() {
            found.push(
                Finding::note(
                    "leftovers",
                    format!("{} of executions that ended days ago: {}", counted(seen, what), list(&seen.examples)),
                    "a running worker removes them, some hundreds every five minutes; fireflow-worker gc does so at \
                     once",
                )
                .of(seen)
                .figure("kind", what),
            );
        }
    }
    Ok(or_ok(found, "leftovers", "no pins or contents of flows that nobody runs"))
}
