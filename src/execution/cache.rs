//! Parsed flows kept in memory, bounded by their number and by the size of their documents.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::StoredFlow;

/// Bytes of documents that are kept, more or less; the parsed flows take a few times as much.
const MOST_BYTES: usize = 64 << 20;

/// What a kept flow is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The newest one of this id; whether it still is, its tag says.
    Newest(String),
    /// The content of this hash, which never changes.
    Content(String),
}

/// Flows by key, of which the longest unused go first.
pub(super) struct FlowCache {
    most: usize,
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    clock: u64,
    bytes: usize,
    flows: HashMap<Key, One>,
}

struct One {
    tag: String,
    flow: StoredFlow,
    used: u64,
}

impl FlowCache {
    /// For at most so many flows.
    pub fn new(most: usize) -> FlowCache {
        FlowCache { most, most_bytes: MOST_BYTES, kept: Mutex::default() }
    }

    /// A flow, with the tag it was kept under.
    pub fn get(&self, key: &Key) -> Option<(String, StoredFlow)> {
        let mut kept = self.lock();
        kept.clock += 1;
        let now = kept.clock;
        let one = kept.flows.get_mut(key)?;
        one.used = now;
        Some((one.tag.clone(), one.flow.clone()))
    }

    /// Keep a flow, in place of the one under the same key.
    pub fn put(&self, key: Key, tag: String, flow: &StoredFlow) {
        let mut kept = self.lock();
        let used = kept.clock;
        kept.bytes += flow.document.len();
        if let Some(before) = kept.flows.insert(key, One { tag, flow: flow.clone(), used }) {
            kept.bytes -= before.flow.document.len();
        }
        while kept.flows.len() > self.most || kept.bytes > self.most_bytes {
            let oldest = kept.flows.iter().min_by_key(|(_, one)| one.used).map(|(key, _)| key.clone());
            let Some(gone) = oldest.and_then(|oldest| kept.flows.remove(&oldest)) else { return };
            kept.bytes -= gone.flow.document.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner) // whole after each change
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{flow::Flow, nodes::Registry};

    fn flow(bytes: usize) -> StoredFlow {
        let stored = json!({"id": "f", "metadata": {"schemaVersion": "v2"}, "nodes": [], "edges": []});
        let flow = Flow::load(&stored, &Registry::standard()).unwrap().flow;
        StoredFlow { flow, id: "f".into(), version: 1, hash: "h".into(), document: "x".repeat(bytes).into() }
    }

    #[test]
    fn neither_number_nor_bytes_are_exceeded_and_the_longest_unused_goes_first() {
        let cache = FlowCache { most: 3, most_bytes: 100, kept: Mutex::default() };
        let key = |name: &str| Key::Newest(name.into());
        for name in ["a", "b", "c"] {
            cache.get(&key(name));
            cache.put(key(name), "1".into(), &flow(10));
        }
        cache.get(&key("a"));
        cache.put(key("d"), "1".into(), &flow(10));
        assert!(cache.get(&key("b")).is_none() && cache.get(&key("a")).is_some());
        cache.put(key("a"), "2".into(), &flow(80));
        assert_eq!(cache.get(&key("a")).unwrap().0, "2");
        assert_eq!(cache.lock().bytes, 100);
        cache.put(key("d"), "2".into(), &flow(11));
        assert!(cache.lock().bytes <= 100);
        cache.put(key("huge"), "1".into(), &flow(101));
        assert!(cache.get(&key("huge")).is_none());
        let kept = cache.lock();
        assert_eq!(kept.bytes, kept.flows.values().map(|one| one.flow.document.len()).sum::<usize>());
    }
}
