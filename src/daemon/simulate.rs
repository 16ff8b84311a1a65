//! `revoked simulate`: seeds, on all processors, for as long as somebody likes.

use std::cell::Cell;
use std::io::Write as _;

use serde_json::json;

use crate::clock;
use crate::progress::Progress;
use crate::simulation::{self, Failure, Sweep};

/// Run the daemon's decisions in a world where everything goes wrong
///
/// Simulates agents, handsets, the platform, hooks, the disk and the clock in
/// virtual time, with everything from lost answers to crashes, and checks
/// after each event that every promise is kept. One seed is one run, the same
/// each time. If a promise is broken it says which, by which seed, and what
/// it takes; the exit code is then 1. Needs no set-up and touches nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many seeds to run
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    /// Run this seed and no other
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Stop when so many of them have failed
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    failures: usize,
    /// Print nothing but one JSON object at the end
    #[arg(long)]
    json: bool,
}

thread_local! {
    /// The seed this thread is at.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs them. True if every promise was kept.
pub(super) fn main(args: &Args) -> anyhow::Result<bool> {
    // Where a panic ends the process nothing else would tell by which seed to see it again.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(seed) = SEED.get() {
            anstream::eprintln!("seed {seed} panics:");
        }
        usual(panic);
    }));
    let (first, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let (progress, start) = (Progress::new(), clock::now().mono);
    let sweep = simulation::sweep(first, seeds, args.failures, |seed, sums| {
        SEED.set(Some(seed));
        if let (Some(sums), false) = (sums, args.json) {
            let (done, events, failed) = (sums.seeds, sums.tally.events, sums.failures.len());
            // At once: the rest may take hours.
            if let Some(failure) = sums.failures.last().filter(|failure| failure.seed == seed) {
                progress.end();
                anstream::println!("{failure}");
            }
            progress.say(|| format!("{done} of {seeds} seeds, {events} events, {failed} failed"));
        }
    });
    if !args.json {
        progress.end();
    }
    let took = (clock::now().mono - start).as_secs_f64();
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", report(first, &sweep, took))?;
    } else {
        let Sweep { seeds, tally, failures } = &sweep;
        writeln!(
            out,
            "{seeds} seeds from {first} on in {took:.1} s: {} events, {} messages, {} DELETEs, {} outcomes, {} crashes and \
             restarts, {:.1} virtual days. {}",
            tally.events,
            tally.messages,
            tally.deletes,
            tally.outcomes,
            tally.crashes,
            tally.seconds as f64 / 86_400.0,
            match failures.len() {
                0 => "Every promise was kept.".to_owned(),
                failed => format!("{failed} broke a promise."),
            }
        )?;
    }
    Ok(sweep.failures.is_empty())
}

fn report(first: u64, sweep: &Sweep, took: f64) -> serde_json::Value {
    let failure = |failure: &Failure| {
        let (of, takes) = failure.acts;
        json!({
            "seed": failure.seed,
            "promise": failure.broken.promise,
            "words": failure.broken.words,
            "acts": of,
            "actsItTakes": takes,
            "trace": failure.trace,
        })
    };
    json!({
        "firstSeed": first,
        "seeds": sweep.seeds,
        "tookSeconds": (took * 1000.0).round() / 1000.0,
        "sums": sweep.tally,
        "failures": sweep.failures.iter().map(failure).collect::<Vec<_>>(),
    })
}
