//! What a case does with the debugger: breakpoints, and orders after so many milliseconds.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value as JsonValue;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::CaseError;
use crate::flow::engine::{DebugState, Debugger};

/// How a case drives the debugger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebuggerSpec {
    /// Ids of nodes to stop at.
    pub breakpoints: Vec<String>,
    /// Orders, by the time after the start of the run.
    pub orders: Vec<(Duration, Order)>,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hold what comes.
    Pause,
    /// Let everything go on.
    Continue,
    /// Let go on what is held.
    Step,
    /// End the run.
    Stop,
}

impl Order {
    fn of(word: &str) -> Option<Order> {
        let word = word.to_ascii_lowercase();
        let words = [
            ("pause", Order::Pause),
            ("continue", Order::Continue),
            ("resume", Order::Continue),
            ("step", Order::Step),
            ("stop", Order::Stop),
        ];
        words.into_iter().find(|(start, _)| word.starts_with(start)).map(|(_, order)| order)
    }
}

const SHAPE: &str = "an object such as {\"breakpoints\": [\"NOa\"], \"continueAfterMs\": 100}, with continueAfterMs, stepAfterMs, \
                     stopAfterMs, pauseAfterMs or commands: [{\"command\": \"continue\", \"afterMs\": 100}]";

impl DebuggerSpec {
    /// `None` for a case without one.
    pub(super) fn read(json: &JsonValue) -> Result<Option<DebuggerSpec>, CaseError> {
        let wrong = || CaseError::Shape { part: "run.debugger", expected: SHAPE };
        if json.is_null() {
            return Ok(None);
        }
        let mut spec = DebuggerSpec::default();
        let mut single = (None, None);
        for (key, value) in json.as_object().ok_or_else(wrong)? {
            match (key.as_str(), value) {
                (_, JsonValue::Null) => {}
                ("breakpoints", JsonValue::Array(ids)) => {
                    let ids = ids.iter().map(|id| id.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
                    spec.breakpoints = ids.ok_or_else(wrong)?;
                }
                ("commands" | "actions" | "orders", JsonValue::Array(list)) => {
                    for one in list {
                        let after = one.get("afterMs").or(one.get("after")).and_then(milliseconds);
                        let word =
                            ["command", "action"].iter().find_map(|key| one.get(key)).and_then(JsonValue::as_str);
                        let (after, order) = after.zip(word.and_then(Order::of)).ok_or_else(wrong)?;
                        spec.orders.push((after, order));
                    }
                }
                ("afterMs" | "after", after) => single.0 = Some(milliseconds(after).ok_or_else(wrong)?),
                ("command" | "action" | "then", word) => {
                    single.1 = Some(word.as_str().and_then(Order::of).ok_or_else(wrong)?);
                }
                (key, value) => {
                    let after = milliseconds(value).or_else(|| milliseconds(value.get("afterMs")?));
                    spec.orders.push(after.zip(Order::of(key)).ok_or_else(wrong)?);
                }
            }
        }
        match single {
            (None, None) => {}
            (after, Some(order)) => spec.orders.push((after.unwrap_or_default(), order)),
            (Some(_), None) => return Err(wrong()),
        }
        // Nothing would ever end the pause.
        let pauses = !spec.breakpoints.is_empty() || spec.orders.iter().any(|(_, order)| *order == Order::Pause);
        if pauses && spec.orders.iter().all(|(_, order)| *order == Order::Pause) {
            return Err(wrong());
        }
        spec.orders.sort_by_key(|(after, _)| *after);
        Ok(Some(spec))
    }

    /// Give the orders, until the run is over. One that is to end a pause waits for it, and the last of these ends every
    /// pause that follows, as long after it began: a case never hangs.
    pub(super) async fn drive(&self, debugger: &Debugger, over: &CancellationToken) {
        let began = Instant::now();
        let mut state = debugger.state();
        let mut orders: VecDeque<_> = self.orders.clone().into();
        let mut last = None;
        let driving = async {
            loop {
                let (after, order) = match orders.pop_front() {
                    Some((after, order)) => {
                        sleep_until(began + after).await;
                        (after, order)
                    }
                    None => match last {
                        Some((after, order)) => (after, order),
                        None => return,
                    },
                };
                if order == Order::Pause {
                    debugger.pause();
                    continue;
                }
                if order == Order::Stop {
                    return debugger.stop("stopped by the case");
                }
                let given = debugger.orders();
                let is_held = |state: &DebugState| state.orders >= given && !state.held.is_empty();
                if state.wait_for(is_held).await.is_err() {
                    return;
                }
                if orders.is_empty() && last.is_some() {
                    tokio::time::sleep(after).await;
                }
                last = Some((after, order));
                match order {
                    Order::Step => debugger.step(),
                    _ => debugger.resume(),
                }
            }
        };
        tokio::select! {
            () = driving => {}
            () = over.cancelled() => {}
        }
    }
}

fn milliseconds(json: &JsonValue) -> Option<Duration> {
    json.as_u64().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: JsonValue) -> Result<Option<DebuggerSpec>, CaseError> {
        DebuggerSpec::read(&json)
    }

    #[test]
    fn orders_may_be_written_in_several_ways() {
        let expected = DebuggerSpec {
            breakpoints: vec!["NOa".into()],
            orders: vec![(Duration::from_millis(50), Order::Continue)],
        };
        for json in [
            json!({"breakpoints": ["NOa"], "continueAfterMs": 50}),
            json!({"breakpoints": ["NOa"], "continueMs": 50, "stopAfterMs": null}),
            json!({"breakpoints": ["NOa"], "resumeAfter": 50}),
            json!({"breakpoints": ["NOa"], "continue": {"afterMs": 50}}),
            json!({"breakpoints": ["NOa"], "afterMs": 50, "action": "continue"}),
            json!({"breakpoints": ["NOa"], "commands": [{"afterMs": 50, "command": "CONTINUE"}]}),
        ] {
            assert_eq!(read(json.clone()).unwrap().unwrap(), expected, "{json}");
        }
        assert_eq!(read(json!(null)).unwrap(), None);
        assert_eq!(read(json!({})).unwrap(), Some(DebuggerSpec::default()));
        let stop = read(json!({"breakpoints": ["NOa"], "stepAfterMs": 9, "stopAfterMs": 7})).unwrap().unwrap();
        assert_eq!(stop.orders, [(Duration::from_millis(7), Order::Stop), (Duration::from_millis(9), Order::Step)]);
    }

    #[test]
    fn what_nobody_understands_or_would_never_end_is_refused() {
        for json in [
            json!([]),
            json!({"breakpoints": "NOa", "continueAfterMs": 1}),
            json!({"breakpoints": [1], "continueAfterMs": 1}),
            json!({"breakpoints": ["NOa"]}),
            json!({"pauseAfterMs": 5}),
            json!({"continueAfterMs": "soon"}),
            json!({"jumpAfterMs": 5}),
            json!({"afterMs": 5}),
            json!({"commands": [{"command": "continue"}]}),
        ] {
            assert!(matches!(read(json.clone()), Err(CaseError::Shape { part: "run.debugger", .. })), "{json}");
        }
    }
}
