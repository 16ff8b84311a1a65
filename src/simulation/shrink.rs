//! From a run that failed to the few acts that it takes: leaves out some, runs again, and keeps what still fails.

use super::plan::Plan;
use super::{Broken, Failure, Plant, play};

/// Runs spent on shrinking at most.
const RUNS_MAX: usize = 600;

/// The shortest way that was found to the same promise broken.
pub(super) fn shrink(plan: Plan, plant: Option<Plant>, broken: Broken) -> Failure {
    let all = plan.acts.len();
    let mut shortest = plan;
    let mut runs = 0;
    let mut fails = |plan: &Plan| {
        runs += 1;
        let same = play(plan, plant, false).is_err_and(|(other, _)| other.promise == broken.promise);
        (same, runs < RUNS_MAX)
    };
    let mut chunk = all.div_ceil(2);
    'all: while chunk > 0 {
        let mut from = 0;
        let mut shrunk = false;
        while from < shortest.acts.len() {
            let mut shorter = shortest.clone();
            shorter.acts.drain(from..(from + chunk).min(shorter.acts.len()));
            let (same, go_on) = fails(&shorter);
            if same {
                (shortest, shrunk) = (shorter, true);
            } else {
                from += chunk;
            }
            if !go_on {
                break 'all;
            }
        }
        // Once more at the smallest size, as long as that helps.
        chunk = if chunk == 1 && !shrunk { 0 } else { (chunk / 2).max(1) };
    }
    let (broken, trace) = play(&shortest, plant, true).err().unwrap_or((broken, Vec::new()));
    Failure { seed: shortest.seed, broken, acts: (all, shortest.acts.len()), trace }
}
