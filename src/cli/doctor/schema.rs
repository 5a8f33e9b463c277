//! Checks of what the database holds, and of what we may do there.

use super::finding::{Finding, list, many, or_ok};
use super::{Found, Visit};
use crate::postgres::Statements as _;
use crate::sysdb::grants::{Purpose, Room};
use crate::sysdb::{Standing, schema, schema::State};
use crate::worker::SchemaError;

/// What the system schema is, and whether the application tables are there.
pub(super) async fn schemas(visit: &Visit) -> Result<Vec<Finding>, SchemaError> {
    let name = &visit.settings.database.schema;
    let state = visit.database.state().await?;
    let system = match (&state, schema::plan(&state, &visit.database.schema)) {
        (State::Empty, _) => Finding::warning(
            "system-schema",
            format!("there is no system schema {name} yet"),
            "fireflow-worker migrate makes it; so does `run`, if its role may",
        ),
        (_, Err(refusal)) => Finding::error(
            "system-schema",
            refusal.to_string(),
            "fireflow-worker migrate --dry-run shows what brings it forward; docs/schema.md tells what can and what \
             can't",
        ),
        (State::Usable { level } | State::Older { level }, _) => match visit.standing.and_then(Standing::shortfall) {
            Some(shortfall) => Finding::note(
                "system-schema",
                shortfall,
                "fireflow-worker migrate, when no worker of an older SDK is left",
            )
            .figure("level", *level),
            None => Finding::ok("system-schema", format!("{name} is at level {level}")).figure("level", *level),
        },
        (_, Ok(_)) => Finding::ok("system-schema", name.clone()),
    };
    let plan = match &state {
        State::Empty => Ok(Vec::new()), // its own tables are in the plan, too
        _ => visit.database.plan_for(&state).await,
    };
    let tables = match plan {
        Ok(missing) if missing.is_empty() && state == State::Empty => None,
        Ok(missing) if missing.is_empty() => Some(Finding::ok("tables", "all are there")),
        Ok(missing) => {
            let missing: Vec<String> = missing.iter().map(|line| line.replace("CREATE TABLE ", "")).collect();
            Some(
                Finding::warning(
                    "tables",
                    format!(
                        "{} of ours missing: {}",
                        if missing.len() == 1 { "a table" } else { "tables" },
                        list(&missing)
                    ),
                    "fireflow-worker migrate makes them; so does `run`, if its role may",
                )
                .figure("missing", missing),
            )
        }
        Err(SchemaError::Schema(refusal)) if system.level != super::finding::Level::Error => {
            Some(Finding::error("tables", refusal.to_string(), "see docs/schema.md; then fireflow-worker check"))
        }
        Err(SchemaError::Schema(_)) => None, // said above
        Err(error) => return Err(error),
    };
    Ok([Some(system), tables].into_iter().flatten().collect())
}

/// What the role may do.
pub(super) async fn grants(visit: &Visit) -> Found {
    let (database, examiner) = (&visit.database, &visit.examiner);
    let apart = visit.settings.database.flows_url.is_some();
    let rooms: &[Room] =
        if apart { &[Room::System, Room::Executions] } else { &[Room::System, Room::Executions, Room::Flows] };
    let mut lacking = examiner.lacking(Purpose::Worker.grants(), rooms).await?;
    if apart {
        lacking.extend(examiner.lacking_in(&database.flows, Purpose::Worker.grants(), &[Room::Flows]).await?);
    }
    // An operator's role is none to `run` with.
    let operator = !lacking.is_empty() && examiner.lacking(Purpose::Operator.grants(), rooms).await?.is_empty();
    Ok(vec![if lacking.is_empty() {
        Finding::ok("grants", "the role may do what `run` does")
    } else if operator {
        Finding::note(
            "grants",
            "the role may do what operators do, and not what `run` does",
            "to see whether the workers' role may: fireflow-worker check, with the worker's own URL",
        )
    } else {
        let count = many(i64::try_from(lacking.len()).unwrap_or(i64::MAX), "grant");
        Finding::error(
            "grants",
            format!("the role lacks {count} that `run` needs"),
            format!("as the owner of the tables: {}", lacking.join(" ")),
        )
        .figure("missing", lacking)
    }])
}

/// Whether statements find the indexes that they ride.
pub(super) async fn indexes(visit: &Visit) -> Found {
    let Some(standing) = visit.standing else { return Ok(Vec::new()) };
    let found = visit.examiner.indexes(standing.level).await?.into_iter().map(|index| {
        let schema = &index.schema;
        match index.broken {
            true => Finding::warning(
                "indexes",
                format!(
                    "index {} is invalid: building it was interrupted, and it costs without being used",
                    index.name
                ),
                format!(
                    "DROP INDEX CONCURRENTLY {schema}.{name}, and build it again; or REINDEX INDEX CONCURRENTLY \
                     {schema}.{name}",
                    name = index.name
                ),
            ),
            false => Finding::warning(
                "indexes",
                format!(
                    "index {} of level {} is not there: statements that ride it read whole tables",
                    index.name, standing.level
                ),
                "build it again as docs/schema.md and migrations/system have it, with CREATE INDEX CONCURRENTLY",
            ),
        }
        .figure("index", index.name)
    });
    Ok(or_ok(found.collect(), "indexes", "those that claims and looks ride are there and valid"))
}

/// Whether what announces enqueues is as configured.
pub(super) async fn trigger(visit: &Visit) -> Found {
    let wanted = visit.settings.queue.iter().any(|queue| queue.notify_trigger);
    let client = visit.database.pool.get().await?;
    let sql = "SELECT count(*) FILTER (WHERE t.tgenabled <> 'D'), count(*)
                 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = 'workflow_status' AND t.tgname LIKE 'fireflow\\_%'";
    let row = client.query_one(sql, &[&visit.database.schema.name()]).await?;
    let (enabled, there): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(vec![match (wanted, enabled, there) {
        (true, 2, _) => Finding::ok("notify-trigger", "enqueues are announced"),
        (true, _, 2) => Finding::warning(
            "notify-trigger",
            "queue.notify_trigger is set, and the triggers are there, but disabled: work is found by looking for it",
            format!(
                "ALTER TABLE {}.workflow_status ENABLE TRIGGER fireflow_enqueued; and fireflow_requeued",
                visit.database.schema.quoted()
            ),
        ),
        (true, ..) => Finding::warning(
            "notify-trigger",
            "queue.notify_trigger is set, and the triggers are not there: work is found by looking for it",
            "fireflow-worker migrate makes them; it needs the owner of the table",
        ),
        (false, 0, _) => Finding::ok("notify-trigger", "none is configured, and none is there"),
        (false, ..) => Finding::note(
            "notify-trigger",
            "triggers announce enqueues, and queue.notify_trigger is not set here: those who enqueue pay for them",
            "set queue.notify_trigger = true so that it is known, or drop the triggers fireflow_enqueued and \
             fireflow_requeued",
        ),
    }])
}
