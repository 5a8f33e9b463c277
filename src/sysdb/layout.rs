//! What a system schema has of what came after level 100, and the parts of statements that depend on it.
//!
//! Statements are templates. Where the levels differ they name a part, `{like_this}`, which stands here in two forms: for a
//! schema that has the table or column in question, and for one that has yet to get it.
//!
//! Levels only add tables and columns. So a statement that was composed for an earlier layout still holds when the
//! schema has been brought forward meanwhile: it does what a client of the earlier generation would. That is why it is enough to
//! look at the layout now and then, see `sysdb/standing.rs`.

/// A table or a column that a level adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addition {
    /// `queues.application_name`, level 101.
    QueueOwner,
    /// `application_versions.application_name`, level 103.
    VersionOwner,
    /// `operation_outputs.application_name`, level 104.
    StepOwner,
    /// The four `partition_*` limits of `queues`, level 108.
    PartitionLimits,
    /// `workflow_input` and `workflow_output`, level 109.
    Payload,
    /// `notifications.consumed_by_function_id`, level 121.
    Consumer,
    /// `workflow_status.creator_xid`, level 123.
    Creator,
}

use Addition::{Consumer, Creator, PartitionLimits, Payload, QueueOwner, StepOwner, VersionOwner};

/// By which column each is recognised. The tables of [`Payload`] come together, as do the limits of partitions.
const SIGNS: [(Addition, &str, &str); 7] = [
    (QueueOwner, "queues", "application_name"),
    (VersionOwner, "application_versions", "application_name"),
    (StepOwner, "operation_outputs", "application_name"),
    (PartitionLimits, "queues", "partition_rate_limit_period_sec"),
    (Payload, "workflow_output", "workflow_uuid"),
    (Consumer, "notifications", "consumed_by_function_id"),
    (Creator, "workflow_status", "creator_xid"),
];

/// A part of statements: its name in templates, what decides, and its text with that and without.
struct Part {
    name: &'static str,
    by: Addition,
    with: &'static str,
    without: &'static str,
}

macro_rules! part {
    ($name:literal, $by:ident: $with:literal else $without:literal) => {
        Part { name: $name, by: $by, with: $with, without: $without }
    };
}

const PARTS: [Part; 29] = [
    // Whose queue and whose version: $2 and $5 are our application. An unused parameter would have no type.
    part!("queue_is_ours", QueueOwner:
        "(application_name = $2 OR application_name IS NULL OR application_name = '')" else "$2::text IS NOT NULL"),
    part!("version_is_ours", VersionOwner: "(application_name = $5 OR application_name IS NULL)" else "TRUE"),
    part!("version_owner", VersionOwner: ", application_name" else ""),
    part!("version_owner_value", VersionOwner: ", $3" else ""),
    part!("claim_version", VersionOwner:
        "application_name = COALESCE(v.application_name, EXCLUDED.application_name)" else
        "version_name = v.version_name"),
    part!("version_owned_by", VersionOwner: "v.application_name" else "$3::text"),
    // A step belongs to the application of its workflow, `w`.
    part!("step_owner", StepOwner: ", application_name" else ""),
    part!("step_owner_value", StepOwner: ", w.application_name" else ""),
    part!("partition_limits", PartitionLimits:
        "partition_concurrency, partition_worker_concurrency, partition_rate_limit_max, partition_rate_limit_period_sec"
        else "NULL::int AS partition_concurrency, NULL::int AS partition_worker_concurrency,
              NULL::int AS partition_rate_limit_max, NULL::float8 AS partition_rate_limit_period_sec"),
    // The SDKs before the payload tables go by the flag where there are no limits of partitions; those after don't look at it.
    part!("by_flag", Payload: "FALSE" else "partition_queue"),
    // Inputs of the workflow `w`. Without the tables a row without inputs in it has been made since by a newer client, and
    // waits until the layout has been looked at.
    part!("has_inputs", Payload: "TRUE" else "inputs IS NOT NULL"),
    part!("join_inputs", Payload: "LEFT JOIN {s}.workflow_input i USING (workflow_uuid)" else ""),
    part!("inputs", Payload: "COALESCE(i.inputs, w.inputs)" else "w.inputs"),
    part!("is_legacy", Payload: "(w.inputs IS NOT NULL OR i.inputs IS NULL)" else "TRUE"),
    // Inputs of a new workflow, $9, and of children.
    part!("own_inputs", Payload: "NULL" else "$9"),
    part!("store_inputs", Payload:
        ", stored AS (INSERT INTO {s}.workflow_input (workflow_uuid, inputs)
                      SELECT workflow_uuid, $9 FROM made WHERE creator = $6 ON CONFLICT (workflow_uuid) DO NOTHING)"
        else ""),
    part!("child_inputs", Payload: "CASE WHEN legacy THEN new.inputs END" else "new.inputs"),
    part!("store_children", Payload:
        "INSERT INTO {s}.workflow_input (workflow_uuid, inputs)
         SELECT new.id, new.inputs FROM new JOIN child ON child.workflow_uuid = new.id
             ON CONFLICT (workflow_uuid) DO NOTHING"
        else "SELECT workflow_uuid FROM child"),
    // The outcome of the workflow `w`.
    part!("join_outcome", Payload: "LEFT JOIN {s}.workflow_output o USING (workflow_uuid)" else ""),
    part!("outcome", Payload:
        "COALESCE(o.output, w.output) AS output, COALESCE(o.error, w.error) AS error" else "w.output, w.error"),
    part!("output", Payload: "COALESCE(o.output, w.output)" else "w.output"),
    part!("failure", Payload: "COALESCE(o.error, w.error)" else "w.error"),
    part!("own_outcome", Payload:
        "output = CASE WHEN legacy THEN ended.output ELSE w.output END,
         error = CASE WHEN legacy THEN ended.error ELSE w.error END"
        else "output = ended.output, error = ended.error"),
    part!("store_outcomes", Payload:
        "INSERT INTO {s}.workflow_output (workflow_uuid, output, error) SELECT workflow_uuid, result, failure FROM done
             ON CONFLICT (workflow_uuid) DO UPDATE SET output = EXCLUDED.output, error = EXCLUDED.error"
        else "SELECT workflow_uuid FROM done"),
    // Inputs of a fork: those of the `source`, whose own and others are in `all_inputs`.
    part!("fork_inputs", Payload: "NULL" else "inputs"),
    part!("store_fork_inputs", Payload:
        ", stored AS (INSERT INTO {s}.workflow_input (workflow_uuid, inputs) SELECT $2, all_inputs FROM source)" else ""),
    part!("consumed_from", Consumer: "consumed_by_function_id >= cut.step OR" else ""),
    part!("consumer", Consumer: ", consumed_by_function_id = want.function_id" else ""),
    // The token of who made the row: before it had a column of its own, it stood where the owner's does since.
    part!("creator", Creator: "creator_xid" else "owner_xid"),
];

/// Which of the additions a schema has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout([bool; SIGNS.len()]);

impl Layout {
    /// All of them.
    pub const NEWEST: Layout = Layout([true; SIGNS.len()]);

    /// By the columns that are there: `has(table, column)`.
    pub fn of(has: impl Fn(&str, &str) -> bool) -> Layout {
        let mut layout = Layout([false; SIGNS.len()]);
        for (addition, table, column) in SIGNS {
            layout.0[addition as usize] = has(table, column);
        }
        layout
    }

    /// Whether inputs and results have tables of their own.
    pub fn has_payload_tables(self) -> bool {
        self.has(Payload)
    }

    /// A statement for this layout: with the schema for `{s}`, the transaction's start in milliseconds for `{now}`, and the
    /// parts above for their names.
    pub fn compose(self, template: &str, schema: &str) -> String {
        let mut statement = String::with_capacity(template.len() * 3 / 2);
        self.expand(&mut statement, template, schema);
        statement
    }

    fn has(self, addition: Addition) -> bool {
        self.0[addition as usize]
    }

    /// Parts have no parts in them but `{s}` and `{now}`, so this goes two levels deep.
    fn expand(self, statement: &mut String, template: &str, schema: &str) {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            statement.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                rest = &rest[before.len()..];
                break;
            };
            match name {
                "s" => statement.push_str(schema),
                "now" => statement.push_str("(EXTRACT(EPOCH FROM now()) * 1000)::bigint"),
                _ => match PARTS.iter().find(|part| part.name == name) {
                    Some(part) if self.has(part.by) => self.expand(statement, part.with, schema),
                    Some(part) => self.expand(statement, part.without, schema),
                    None => statement.extend(["{", name, "}"]),
                },
            }
            rest = after;
        }
        statement.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_composed_for_what_the_schema_has() {
        let template = "SELECT {outcome} FROM {s}.workflow_status w {join_outcome} WHERE {now} > 0 AND a = '{' AND {b}";
        let now = "(EXTRACT(EPOCH FROM now()) * 1000)::bigint > 0 AND a = '{' AND {b}";
        assert_eq!(
            Layout::NEWEST.compose(template, "\"{now}\""),
            format!(
                "SELECT COALESCE(o.output, w.output) AS output, COALESCE(o.error, w.error) AS error \
                 FROM \"{{now}}\".workflow_status w LEFT JOIN \"{{now}}\".workflow_output o USING (workflow_uuid) WHERE {now}"
            )
        );
        let without = Layout::of(|table, _| table != "workflow_output");
        assert_eq!(
            without.compose(template, "dbos"),
            format!("SELECT w.output, w.error FROM dbos.workflow_status w  WHERE {now}")
        );
        assert_eq!(without.compose("{creator}, {", "dbos"), "creator_xid, {");
    }

    #[test]
    fn signs_and_parts_are_whole() {
        for (number, (addition, ..)) in SIGNS.into_iter().enumerate() {
            assert_eq!(addition as usize, number);
        }
        assert_eq!(Layout::of(|_, _| true), Layout::NEWEST);
        for (number, part) in PARTS.iter().enumerate() {
            assert!(PARTS[..number].iter().all(|other| other.name != part.name), "{}", part.name);
        }
    }
}
