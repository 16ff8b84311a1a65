//! Seeded chance that doesn't depend on the order of arrival.
//!
//! A generator shared by all requests would give another run each time two of them swap places. So every draw is made
//! from the seed *and* the name of what it is drawn for: the phone, the message and its nth attempt. The same seed
//! then gives the same handsets and the same faults, however the requests interleave.

use std::time::Duration;

use fastrand::Rng;

/// A seed to draw from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice {
    seed: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice { seed }
    }

    /// The generator for one named purpose: always the same one for the same names.
    pub(crate) fn rng(self, purpose: &str, name: &str, nth: u64) -> Rng {
        // FNV-1a, since std promises no stable hash between releases. The separator keeps ("ab","c") and ("a","bc") apart.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let separated = purpose.bytes().chain([0xff]).chain(name.bytes()).chain(nth.to_le_bytes());
        for byte in separated {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Rng::with_seed(hash)
    }

    /// Whether something that happens in `percent` of the cases happens in this one.
    pub(crate) fn chance(self, percent: f64, purpose: &str, name: &str, nth: u64) -> bool {
        percent > 0.0 && self.rng(purpose, name, nth).f64() * 100.0 < percent
    }

    /// A wait between the two bounds.
    pub(crate) fn wait(self, from: Duration, to: Duration, purpose: &str, name: &str) -> Duration {
        from + (to.saturating_sub(from)).mul_f64(self.rng(purpose, name, 0).f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_name_always_draw_the_same() {
        let draws = |seed| (0..32).map(|n| Dice::new(seed).rng("fault", "m", n).u32(..)).collect::<Vec<_>>();
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn a_chance_comes_about_as_often_as_it_says() {
        let hits = (0..10_000).filter(|n| Dice::new(1).chance(5.0, "fault", "message", *n)).count();
        assert!((400..600).contains(&hits), "{hits} of 10000 at 5 %");
        assert!(!Dice::new(1).chance(0.0, "fault", "message", 1));
        assert!(Dice::new(1).chance(100.0, "fault", "message", 1));
    }
}
