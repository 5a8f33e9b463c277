//! `[queue]`, or several of them: `[[queue]]`.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::Queue;

/// The queues that a worker serves: one at least.
#[derive(Clone, Debug, PartialEq)]
pub struct Queues {
    first: Queue,
    others: Vec<Queue>,
}

impl Queues {
    /// These; nothing when there are none.
    pub fn new(queues: impl IntoIterator<Item = Queue>) -> Option<Queues> {
        let mut queues = queues.into_iter();
        Some(Queues { first: queues.next()?, others: queues.collect() })
    }

    /// The first one, to which commands enqueue unless told otherwise.
    pub fn first(&self) -> &Queue {
        &self.first
    }

    /// The first one, to be changed.
    pub fn first_mut(&mut self) -> &mut Queue {
        &mut self.first
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queue> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Whether there are several.
    pub fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// Their names, with commas.
    pub fn names(&self) -> String {
        self.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Most executions that they run at once in a process, together.
    pub fn worker_concurrency(&self) -> u32 {
        self.iter().fold(0, |sum, queue| sum.saturating_add(queue.worker_concurrency))
    }
}

impl Default for Queues {
    fn default() -> Queues {
        Queue::default().into()
    }
}

impl From<Queue> for Queues {
    fn from(first: Queue) -> Queues {
        Queues { first, others: Vec::new() }
    }
}

impl Serialize for Queues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.are_several() { serializer.collect_seq(self.iter()) } else { self.first.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Queues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queues, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Queues;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table [queue], or several [[queue]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Queues, A::Error> {
                Queue::deserialize(MapAccessDeserializer::new(map)).map(Queues::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Queues, A::Error> {
                let queues = Vec::<Queue>::deserialize(SeqAccessDeserializer::new(seq))?;
                Queues::new(queues).ok_or_else(|| serde::de::Error::custom("a worker needs a queue; the list is empty"))
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}
