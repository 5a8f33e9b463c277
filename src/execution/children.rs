//! Child executions: one for each event that a flow emitted, in a run of the same flow with that event.
//!
//! Their ids follow from the parent and the event's place, so that a re-run after a crash meets its own rows.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{ExecutionRow, StoredFlow, Task};
use crate::flow::engine::Emitted;

/// A child: its row, and the task that its workflow gets.
pub(super) struct Child {
    pub row: ExecutionRow,
    pub task: Json,
}

/// The children of a run, in the order of the events.
pub(super) fn of(parent: &ExecutionRow, task: &Task, flow: &StoredFlow, emitted: &[Emitted]) -> Vec<Child> {
    let timestamp = jiff::Timestamp::now().as_millisecond();
    let child = |(place, event): (usize, &Emitted)| {
        let id = child_id(&parent.id, place);
        let row = ExecutionRow {
            id: id.clone(),
            flow_id: parent.flow_id.clone(),
            owner_id: flow.owner(),
            root_execution_id: Some(parent.root_execution_id.clone().unwrap_or_else(|| parent.id.clone())),
            parent_execution_id: Some(parent.id.clone()),
            status: "created".into(),
            depth: parent.depth.saturating_add(1),
            options: parent.options.clone(),
            integration: without_message(&parent.integration),
            external_events: json!([{"eventName": &*event.name, "payload": event.payload.to_json()}]),
            pinned: None,
        };
        let mut fields = Map::new();
        fields.insert("executionId".into(), id.into());
        fields.insert("parentExecutionId".into(), parent.id.clone().into());
        fields.insert("flowId".into(), parent.flow_id.clone().into());
        fields.extend(flow.flow.version().map(|version| ("flowVersion".to_owned(), version.into())));
        let left = task.max_depth.unwrap_or(0);
        fields.extend((left > 0).then(|| ("maxDepth".to_owned(), (left - 1).into())));
        let inherited = |key: &str| Some((key.to_owned(), task.fields.get(key)?.clone()));
        fields.extend(inherited("maxTimeoutMs"));
        fields.insert("timestamp".into(), timestamp.into());
        fields.extend(["maxRetries", "debug", "inputs"].into_iter().filter_map(inherited));
        Child { row, task: Json::Object(fields) }
    };
    emitted.iter().enumerate().map(child).collect()
}

/// `EX` and 24 characters, as the server's ids have, from a name-based UUID.
fn child_id(parent: &str, place: usize) -> String {
    const ALPHABET: &[u8; 49] = b"346789ABCDEFGHJKLMNPQRTUVWXYabcdefghijkmnpqrtwxyz";
    let mut number = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{parent}/{place}").as_bytes()).as_u128();
    let mut id = String::from("EX");
    for _ in 0..24 {
        // A remainder by 49 is an index of 49 characters; 23 of them hold all of the 128 bits.
        let digit = usize::try_from(number % 49).unwrap_or(0);
        id.push(char::from(ALPHABET[digit]));
        number /= 49;
    }
    id
}

/// A child answers no message of its parent's.
fn without_message(integration: &Json) -> Json {
    let mut integration = integration.clone();
    if let Some(archai) = integration.get_mut("archai").and_then(Json::as_object_mut) {
        archai.shift_remove("messageID");
    }
    integration
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_each_time_and_differ_by_parent_and_place() {
        assert_eq!(child_id("EX1", 0), child_id("EX1", 0));
        let ids = [child_id("EX1", 0), child_id("EX1", 1), child_id("EX2", 0), child_id("EX1/1", 0)];
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 26);
            assert!(!ids[..index].contains(id), "{ids:?}");
        }
    }

    #[test]
    fn the_message_is_left_out_and_the_rest_stays() {
        let integration = json!({"archai": {"chatID": "c", "messageID": 7}, "wallet": {"isConnected": true}});
        assert_eq!(without_message(&integration), json!({"archai": {"chatID": "c"}, "wallet": {"isConnected": true}}));
        assert_eq!(without_message(&json!({})), json!({}));
    }
}
