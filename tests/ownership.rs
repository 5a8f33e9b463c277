//! One owner: random operations of several executors and clients on few rows, against a model and in real concurrency.
//!
//! `PROPTEST_CASES` makes the runs longer; a failure prints the seed, which `PROPTEST_RNG_SEED` takes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "ownership/collide.rs"]
mod collide;
#[path = "ownership/model.rs"]
mod model;
#[path = "ownership/operation.rs"]
mod operation;
#[path = "ownership/play.rs"]
mod play;
#[path = "ownership/stage.rs"]
mod stage;
mod support;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use stage::Stage;
use tokio::runtime::Builder;

/// Run a property on a stage that all cases share; every case has ids of its own.
fn check<S: Strategy>(
    mut runtime: Builder,
    (cases, shrinks): (u32, u32),
    strategy: &S,
    property: impl AsyncFn(&Stage, S::Value) -> Result<(), TestCaseError>,
) {
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: shrinks, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random(),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let runtime = runtime.enable_all().build().unwrap();
    let stage = runtime.block_on(Stage::new());
    let outcome = TestRunner::new(config).run(strategy, |value| runtime.block_on(property(&stage, value)));
    if let Err(error) = outcome {
        panic!("PROPTEST_RNG_SEED={seed}\n{error}");
    }
}

/// On one thread, so that checkpoints which are sent at the same moment share a batch.
#[test]
fn interleavings_keep_to_the_model() {
    let steps = prop::collection::vec(operation::step(), 20..60);
    check(Builder::new_current_thread(), (48, 400), &steps, play::play);
}

/// On several threads, many operations in flight at a time. Only the seed varies, so there is nothing to shrink.
#[test]
fn colliding_tasks_keep_every_promise() {
    check(Builder::new_multi_thread(), (4, 0), &any::<u64>(), collide::collide);
}

#[test]
fn claims_at_the_same_moment_stay_below_the_limit() {
    check(Builder::new_multi_thread(), (6, 100), &operation::rushes(), play::play);
}

#[test]
fn a_refused_checkpoint_spares_its_neighbours() {
    check(Builder::new_current_thread(), (8, 100), &operation::neighbours(), play::neighbours);
}
