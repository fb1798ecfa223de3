//! The engine in a storm: clients come, go, stall and recover, publications race, the broker answers late, deliveries are
//! late or lost. Everything is drawn from a seed, time is a number and there are no sockets, so that a failing seed fails
//! again: `SIMULATION_SEED=17 cargo test -p duplex-engine --test simulation`.
//!
//! The oracle (`client.rs`) knows what was published and checks every frame that every client gets.

mod dice;
mod weather;
mod client;
mod world;

use dice::Dice;
use world::World;

/// Seeds of a run.
const SEEDS: u64 = 2_500;
/// What happens in each.
const STEPS: usize = 250;

#[test]
fn whatever_happens_nobody_misses_anything_without_being_told() {
    let one = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let mut sum = world::Tally::default();
    for seed in one.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        let run = std::panic::catch_unwind(|| live(seed));
        match run {
            Ok(tally) => sum.add(&tally),
            Err(panic) => {
                eprintln!("seed {seed} failed; run it again with SIMULATION_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{sum:?}");
    if one.is_none() {
        sum.check_that_it_was_a_storm();
    }
}

fn live(seed: u64) -> world::Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(Dice::new(seed));
        for _ in 0..STEPS {
            world.step().await;
        }
        world.end().await
    })
}
