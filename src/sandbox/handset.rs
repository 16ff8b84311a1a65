//! Handsets: who is reachable, and when.
//!
//! A phone's behaviour is drawn once from the seed and the number, by the shares of a [`Mix`], so a CI run meets the same
//! handsets every time; the control API can overrule it for a single phone.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use super::world::Key;
use crate::dice::Dice;

/// How a handset takes the messages sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Reachable: a message is shown within tens of milliseconds.
    Online,
    /// Reachable over a poor network: each message takes this long.
    Slow(Duration),
    /// Not reachable until it is told to connect.
    Offline,
    /// Not reachable now, back online after this time.
    Returns(Duration),
}

/// The shares, in percent, of handsets that behave in each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Share of [`Behaviour::Online`].
    pub online: u8,
    /// Share of [`Behaviour::Slow`].
    pub slow: u8,
    /// Share of [`Behaviour::Offline`].
    pub offline: u8,
    /// Share of [`Behaviour::Returns`].
    pub returns: u8,
}

impl Default for Mix {
    fn default() -> Self {
        Mix { online: 100, slow: 0, offline: 0, returns: 0 }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Mix { online: 0, ..Mix::default() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, share) = part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form online=70"))?;
            let share = share.parse().map_err(|_| format!("{share:?} is not a share in percent"))?;
            match name.trim() {
                "online" => mix.online = share,
                "slow" => mix.slow = share,
                "offline" => mix.offline = share,
                "returns" => mix.returns = share,
                other => {
                    return Err(format!("no handset behaves {other:?}: there are online, slow, offline and returns"));
                }
            }
        }
        let sum: u32 = [mix.online, mix.slow, mix.offline, mix.returns].map(u32::from).iter().sum();
        if sum != 100 {
            return Err(format!("the shares of the handsets add up to {sum}, not to 100"));
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mix { online, slow, offline, returns } = self;
        write!(f, "online={online},slow={slow},offline={offline},returns={returns}")
    }
}

impl Mix {
    /// The behaviour of one phone: the same whenever it is asked for.
    pub(super) fn draw(self, dice: Dice, phone: &str, slow: Duration, returns: Duration) -> Behaviour {
        let point = dice.rng("handset", phone, 0).u8(0..100);
        if point < self.online {
            Behaviour::Online
        } else if point < self.online + self.slow {
            // A poor network is not equally poor for everybody: half to one and a half times the usual.
            Behaviour::Slow(dice.wait(slow / 2, slow + slow / 2, "slow", phone))
        } else if point < self.online + self.slow + self.offline {
            Behaviour::Offline
        } else {
            Behaviour::Returns(returns)
        }
    }
}

/// One handset and what waits for it.
#[derive(Debug)]
pub(super) struct Handset {
    pub(super) behaviour: Behaviour,
    /// Counts changes of behaviour. A delivery that was planned under an older one is void.
    pub(super) era: u32,
    /// Messages not shown yet, in the order they were created.
    pub(super) waiting: BTreeMap<u64, Key>,
}

impl Handset {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Handset { behaviour, era: 0, waiting: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_reads_back_as_it_is_written() {
        let mix: Mix = "online=70, slow=10,offline=10,returns=10".parse().unwrap();
        assert_eq!(mix.to_string().parse(), Ok(mix));
    }

    #[test]
    fn a_mix_that_does_not_add_up_is_refused_with_the_reason() {
        assert!("online=70".parse::<Mix>().unwrap_err().contains("add up to 70"));
        assert!("online=70,asleep=30".parse::<Mix>().unwrap_err().contains("asleep"));
        assert!("online".parse::<Mix>().unwrap_err().contains("online=70"));
        assert!("online=300".parse::<Mix>().unwrap_err().contains("300"));
    }

    #[test]
    fn phones_are_drawn_by_the_shares_and_keep_their_behaviour() {
        let mix: Mix = "online=70,slow=10,offline=10,returns=10".parse().unwrap();
        let draw = |seed, n: u32| {
            let (slow, returns) = (Duration::from_secs(4), Duration::from_secs(9));
            mix.draw(Dice::new(seed), &format!("+1555{n:07}"), slow, returns)
        };
        let online = (0..2000).filter(|n| draw(3, *n) == Behaviour::Online).count();
        assert!((1300..1500).contains(&online), "{online} of 2000 at 70 %");
        assert!((0..200).all(|n| draw(3, n) == draw(3, n)));
        assert!((0..200).any(|n| draw(3, n) != draw(4, n)));
    }
}
