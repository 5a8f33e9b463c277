//! Thousands of bad days: leases, claims, drains and recovery of several workers, played in simulated time against a model
//! of the database. The decisions about the lease are those of the real [`LeaseClock`](super::clock::LeaseClock).
//!
//! Each schedule follows from its seed. Requests and answers are late, overtake each other or get lost; processes stand
//! still, die, drain, come back, and come twice with one id; clocks run fast and slow, and jump. Then it becomes calm, and
//! every row has to end. `FIREFLOW_SIMULATION_SEED` repeats one schedule, and `FIREFLOW_SIMULATIONS` plays as many as it says.

mod database;
mod mutation;
mod process;
mod world;

use std::time::Instant;

use mutation::Mutation;
use world::World;

/// What a schedule came to.
#[derive(Debug, Default)]
struct Tally {
    events: u64,
    losses: u64,
    takeovers: u64,
    zombies: u64,
    fenced: u64,
    drains: u64,
    twins: u64,
}

/// Play one schedule; an error is a promise that didn't hold.
fn play(seed: u64, mutation: Option<Mutation>) -> Result<Tally, String> {
    World::new(seed, mutation).run()
}

/// A promise that didn't hold, with all that led to it.
fn report(seed: u64, broken: &str) -> String {
    let mut world = World::new(seed, None).telling();
    let _ = world.run(); // the same again
    format!("{}FIREFLOW_SIMULATION_SEED={seed}: {broken}", world.story())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[test]
fn every_promise_holds_on_bad_days() {
    if let Some(seed) = number("FIREFLOW_SIMULATION_SEED") {
        println!("{:?}", play(seed, None).unwrap_or_else(|broken| panic!("{}", report(seed, &broken))));
        return;
    }
    let schedules = number("FIREFLOW_SIMULATIONS").unwrap_or(3_000);
    let first: u64 = rand::random_range(0..1 << 48);
    let began = Instant::now();
    let mut total = Tally::default();
    for seed in first..first + schedules {
        let tally = play(seed, None).unwrap_or_else(|broken| panic!("{}", report(seed, &broken)));
        total.events += tally.events;
        total.losses += tally.losses;
        total.takeovers += tally.takeovers;
        total.zombies += tally.zombies;
        total.fenced += tally.fenced;
        total.drains += tally.drains;
        total.twins += tally.twins;
    }
    let a_second = u128::from(schedules) * 1000 / began.elapsed().as_millis().max(1);
    println!("{schedules} schedules from seed {first}, {a_second} a second: {total:?}");
    // A simulation in which nothing goes wrong would show nothing.
    let happened = [total.losses, total.takeovers, total.zombies, total.fenced, total.drains, total.twins];
    assert!(happened.iter().all(|count| *count > schedules / 200), "{total:?}");
}

/// Every rule is needed: without it, some schedule breaks a promise.
#[test]
fn each_mutation_is_caught() {
    for mutation in Mutation::ALL {
        let began = Instant::now();
        let found = (0..10_000).find_map(|seed| play(seed, Some(mutation)).err().map(|broken| (seed, broken)));
        let Some((seed, broken)) = found else { panic!("{mutation:?} is not caught") };
        println!("{mutation:?}: after {seed} schedules, {:?}: {broken}", began.elapsed());
    }
}

#[test]
fn a_schedule_follows_from_its_seed() {
    for seed in 0..20 {
        let stories = [(); 2].map(|()| {
            let mut world = World::new(seed, None).telling();
            let _ = world.run();
            world.story()
        });
        assert_eq!(stories[0], stories[1], "seed {seed}");
    }
}
