//! Reads of many executions that begin at the same moment, as one.
//!
//! Batching is natural, as the writer's: while one question is under way, those who come meanwhile wait for the next one,
//! which is for all of them. Who asks alone waits for nobody. There is no task: whoever has the turn asks for all.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, oneshot};

/// Keys in one question.
const MOST: usize = 256;

/// Keys that wait for their values.
pub(super) struct Gather<K, V> {
    waiting: Mutex<Vec<(K, oneshot::Sender<V>)>>,
    turn: Turn<()>,
}

impl<K, V> Default for Gather<K, V> {
    fn default() -> Self {
        Gather { waiting: Mutex::default(), turn: Turn::default() }
    }
}

impl<K: Clone, V> Gather<K, V> {
    /// The value of a key. `ask` gets keys, this one or others, and gives a value for each in their order; it begins after
    /// this call did.
    ///
    /// # Errors
    /// Those of `ask`, for the one who asked; the others ask again.
    pub async fn get<E, F>(&self, key: K, ask: impl Fn(Vec<K>) -> F) -> Result<V, E>
    where
        F: Future<Output = Result<Vec<V>, E>>,
    {
        loop {
            let (sender, mut answer) = oneshot::channel();
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((key.clone(), sender));
            // Those that were claimed together get here one after the other.
            tokio::task::yield_now().await;
            let _turn = tokio::select! {
                biased;
                answered = &mut answer => match answered {
                    Ok(value) => return Ok(value),
                    Err(_) => continue, // who asked failed, or was dropped
                },
                turn = self.turn.lock() => turn,
            };
            match answer.try_recv() {
                Ok(value) => return Ok(value),
                Err(oneshot::error::TryRecvError::Closed) => continue,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let asked: Vec<_> = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let most = waiting.len().min(MOST);
                waiting.drain(..most).collect()
            };
            let keys: Vec<K> = asked.iter().map(|(key, _)| key.clone()).collect();
            let values = ask(keys).await?;
            for ((_, sender), value) in asked.into_iter().zip(values) {
                let _ = sender.send(value); // who was dropped meanwhile needs none
            }
            // Unless there were more than fit.
            if let Ok(value) = answer.try_recv() {
                return Ok(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn who_comes_while_a_question_is_under_way_shares_the_next_one() {
        let (gather, asked) = (Arc::new(Gather::default()), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..600_u32).map(|key| {
            let (gather, asked) = (gather.clone(), asked.clone());
            tokio::spawn(async move {
                let ask = |keys: Vec<u32>| {
                    asked.fetch_add(1, Relaxed);
                    async move {
                        tokio::task::yield_now().await;
                        Ok::<_, ()>(keys.iter().map(|key| key * 2).collect())
                    }
                };
                (key, gather.get(key, ask).await)
            })
        });
        for task in futures_util::future::join_all(tasks).await {
            let (key, value) = task.unwrap();
            assert_eq!(value, Ok(key * 2));
        }
        assert!(asked.load(Relaxed) <= 5, "{asked:?}");
    }

    #[tokio::test]
    async fn an_error_is_for_who_asked_and_a_dropped_question_is_asked_again() {
        let gather = Arc::new(Gather::<u32, u32>::default());
        let (holds, mut held) = tokio::sync::mpsc::channel::<()>(1);
        let first = {
            let gather = gather.clone();
            tokio::spawn(async move {
                let ask = |_| async {
                    let _ = holds.send(()).await;
                    std::future::pending::<Result<Vec<u32>, ()>>().await
                };
                gather.get(1, ask).await
            })
        };
        held.recv().await.unwrap();
        let second = {
            let gather = gather.clone();
            tokio::spawn(async move { gather.get(2, async |keys| Ok::<_, ()>(keys)).await })
        };
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap(), Ok(2));
        assert_eq!(gather.get(3, async |_| Err::<Vec<u32>, _>("refused")).await, Err("refused"));
        assert_eq!(gather.get(4, async |keys| Ok::<_, ()>(keys)).await, Ok(4));
    }
}
