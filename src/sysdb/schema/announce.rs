//! Triggers that tell workers of what comes onto a queue, for clients that tell nobody: SDKs don't.
//!
//! They are made only where the operator asks for them (`queue.notify_trigger`): NOTIFY makes the commits of those who
//! enqueue queue on one lock of the whole server. Enqueuing many at once notifies once; claims and outcomes never do.

use tokio_postgres::Client;

use super::super::notify::{ENQUEUED, QUEUES};
use super::error::Error;
use super::migrate::not_allowed;
use super::name::SchemaName;
use crate::postgres::Statements;

/// The trigger for rows that come back to a queue: resumed, recovered, due.
const REQUEUED: &str = "fireflow_requeued";

/// For rows that are made, once a statement; for those that come back, by row, and asked for no other change. The name of
/// a queue may be of any length, a notification's text may not.
const MAKE: &str = "
CREATE OR REPLACE FUNCTION {s}.fireflow_announce_enqueued() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  PERFORM pg_notify('{channel}', made.queue) FROM (
    SELECT DISTINCT left(queue_name, 200) AS queue FROM fireflow_made WHERE status = 'ENQUEUED' AND queue_name IS NOT NULL) made;
  RETURN NULL;
END $body$;
CREATE OR REPLACE FUNCTION {s}.fireflow_announce_requeued() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  PERFORM pg_notify('{channel}', left(NEW.queue_name, 200));
  RETURN NULL;
END $body$;
DROP TRIGGER IF EXISTS {enqueued} ON {s}.workflow_status;
CREATE TRIGGER {enqueued} AFTER INSERT ON {s}.workflow_status
  REFERENCING NEW TABLE AS fireflow_made FOR EACH STATEMENT EXECUTE FUNCTION {s}.fireflow_announce_enqueued();
DROP TRIGGER IF EXISTS {requeued} ON {s}.workflow_status;
CREATE TRIGGER {requeued} AFTER UPDATE OF status ON {s}.workflow_status FOR EACH ROW
  WHEN (NEW.status = 'ENQUEUED' AND OLD.status IS DISTINCT FROM 'ENQUEUED' AND NEW.queue_name IS NOT NULL)
  EXECUTE FUNCTION {s}.fireflow_announce_requeued();";

/// How many of the two there are.
const PRESENT: &str = "
SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = 'workflow_status' AND t.tgname IN ($2, $3)";

/// Whether both triggers are there.
///
/// # Errors
/// Those of the database.
pub async fn is_announced(client: &Client, schema: &SchemaName) -> Result<bool, Error> {
    let name = schema.name();
    let row = Statements::query_one(client, PRESENT, &[&name, &ENQUEUED, &REQUEUED]).await?;
    Ok(row.try_get::<_, i64>(0)? == 2)
}

/// Make the triggers, unless they are there. Whether they were made. Needs the owner of the table.
///
/// # Errors
/// Those of the database.
pub async fn announce(client: &mut Client, schema: &SchemaName) -> Result<bool, Error> {
    if is_announced(client, schema).await? {
        return Ok(false);
    }
    let make = MAKE
        .replace("{s}", schema.quoted())
        .replace("{channel}", QUEUES)
        .replace("{enqueued}", ENQUEUED)
        .replace("{requeued}", REQUEUED);
    let transaction = client.transaction().await?;
    transaction.batch_execute(&make).await.map_err(not_allowed)?;
    transaction.commit().await?;
    Ok(true)
}
