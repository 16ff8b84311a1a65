//! The places of a listener: how many connections there are at a time, and which of them makes room when all are taken.
//!
//! A connection that keeps us waiting (it is idle, or its request is not here yet) gives its place up to a new one: the one of
//! the peer with most connections that has done so longest. One whose request is being answered never does. So whoever
//! sends a whole request is served, however many others sit there and say nothing. Nor may a single peer have all places
//! with requests that last, such as streams: the last eighth, and one at least, is for others.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Of a sitter whose request is here.
const OURS: u64 = u64::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Seats<P> {
    max: usize,
    taken: Mutex<Taken<P>>,
    /// A place is free, or whoever has one may make room.
    freed: Arc<Notify>,
    /// Counts rather than tells the time: who has waited longest is all that is asked.
    turns: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Taken<P> {
    next: u64,
    seats: BTreeMap<u64, (P, Sitter)>,
    by_peer: HashMap<P, usize>,
    /// Somebody had to make room, and it was said.
    crowded: bool,
}

/// A connection, as far as its place is concerned. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sitter {
    turns: Arc<AtomicU64>,
    freed: Arc<Notify>,
    /// Since which turn it keeps us waiting.
    since: Arc<AtomicU64>,
    leave: CancellationToken,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat<P: Copy + Eq + Hash> {
    seats: Arc<Seats<P>>,
    number: u64,
    sitter: Sitter,
}

impl<P: Copy + Eq + Hash> Seats<P> {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let taken = Taken { next: 0, seats: BTreeMap::new(), by_peer: HashMap::new(), crowded: false };
        Arc::new(Self { max, taken: Mutex::new(taken), freed: Arc::default(), turns: Arc::default() })
    }

    /// A place for a connection of this peer, as soon as there is one. `None`: it has its share, and all of it is in use.
    pub(super) async fn take(self: &Arc<Self>, peer: P) -> Option<Seat<P>> {
        loop {
            let freed = self.freed.notified();
            {
                let mut taken = self.taken();
                let has_its_share = taken.by_peer.get(&peer).is_some_and(|count| *count >= self.share());
                if !has_its_share && taken.seats.len() < self.max {
                    return Some(self.sit(&mut taken, peer));
                }
                if let Some(number) = taken.who_makes_room(has_its_share.then_some(peer)) {
                    if let Some((_, sitter)) = taken.remove(number) {
                        sitter.leave.cancel();
                    }
                    if !std::mem::replace(&mut taken.crowded, true) {
                        let max = self.max;
                        warn!(max, "all connections are taken: those that keep us waiting make room for new ones");
                    }
                    return Some(self.sit(&mut taken, peer));
                }
                if has_its_share {
                    return None;
                }
            }
            freed.await;
        }
    }

    /// How many places one peer may have.
    fn share(&self) -> usize {
        (self.max - (self.max / 8).max(1)).max(1)
    }

    fn sit(self: &Arc<Self>, taken: &mut Taken<P>, peer: P) -> Seat<P> {
        let (turns, freed) = (Arc::clone(&self.turns), Arc::clone(&self.freed));
        let sitter = Sitter { turns, freed, since: Arc::default(), leave: CancellationToken::new() };
        sitter.keeps_us_waiting();
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(number, (peer, sitter.clone()));
        *taken.by_peer.entry(peer).or_default() += 1;
        Seat { seats: Arc::clone(self), number, sitter }
    }

    fn taken(&self) -> MutexGuard<'_, Taken<P>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Copy + Eq + Hash> Taken<P> {
    fn remove(&mut self, number: u64) -> Option<(P, Sitter)> {
        let (peer, sitter) = self.seats.remove(&number)?;
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
        Some((peer, sitter))
    }

    /// Of those that keep us waiting, of one peer or of all.
    fn who_makes_room(&self, of: Option<P>) -> Option<u64> {
        let waited = self.seats.iter().filter_map(|(number, (peer, sitter))| {
            let since = Some(sitter.since.load(Ordering::Relaxed)).filter(|since| *since != OURS)?;
            let share = self.by_peer.get(peer).copied().unwrap_or(0);
            of.is_none_or(|of| of == *peer).then_some((std::cmp::Reverse(share), since, *number))
        });
        waited.min().map(|(.., number)| number)
    }
}

impl<P: Copy + Eq + Hash> Seat<P> {
    pub(super) fn sitter(&self) -> &Sitter {
        &self.sitter
    }
}

impl<P: Copy + Eq + Hash> Drop for Seat<P> {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        // One that made room has been struck off already.
        taken.remove(self.number);
        if taken.crowded && taken.seats.len() <= self.seats.max / 2 {
            taken.crowded = false;
            info!("there is room for connections again");
        }
        self.seats.freed.notify_waiters();
    }
}

impl Sitter {
    /// It is its turn to say something.
    pub(super) fn keeps_us_waiting(&self) {
        self.since.store(self.turns.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Its request is here.
    pub(super) fn is_served(&self) {
        self.since.store(OURS, Ordering::Relaxed);
    }

    /// Whether its request is here and not answered.
    pub(super) fn has_our_attention(&self) -> bool {
        self.since.load(Ordering::Relaxed) == OURS
    }

    /// Waits until it has to make room.
    pub(super) async fn makes_room(&self) {
        self.leave.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn take(seats: &Arc<Seats<u32>>, peer: u32) -> Seat<u32> {
        seats.take(peer).now_or_never().expect("there is room").expect("it has not had its share")
    }

    fn left(seat: &Seat<u32>) -> bool {
        seat.sitter.leave.is_cancelled()
    }

    #[test]
    fn whoever_of_the_most_kept_us_waiting_longest_makes_room() {
        let seats = Seats::new(8);
        let lone = take(&seats, 1);
        let many: Vec<_> = (0..7).map(|_| take(&seats, 2)).collect();
        many[0].sitter.is_served();
        many[1].sitter.is_served();
        many[1].sitter.keeps_us_waiting();
        let _new = take(&seats, 3);
        assert!(left(&many[2]) && many.iter().filter(|seat| left(seat)).count() == 1);
        let _newer = take(&seats, 3);
        assert!(left(&many[3]) && !left(&lone) && !left(&many[0]) && !left(&many[1]));
    }

    #[test]
    fn one_peer_never_has_all_places_whatever_it_does_with_them() {
        let seats = Seats::new(8);
        let busy: Vec<_> = (0..7).map(|_| take(&seats, 1)).collect();
        busy.iter().for_each(|seat| seat.sitter.is_served());
        assert!(matches!(seats.take(1).now_or_never(), Some(None)), "its share is in use");
        let other = take(&seats, 2);
        other.sitter.is_served();
        assert!(seats.take(3).now_or_never().is_none(), "all are in use: it waits");
        let mut waiting = Box::pin(seats.take(3));
        assert!((&mut waiting).now_or_never().is_none());
        drop(other);
        let newcomer = (&mut waiting).now_or_never().flatten().expect("one went");
        newcomer.sitter.is_served();
        let mut waiting = Box::pin(seats.take(4));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(busy.iter().all(|seat| !left(seat)));
        busy[3].sitter.keeps_us_waiting();
        assert!(matches!(waiting.now_or_never(), Some(Some(_))) && left(&busy[3]), "one had its answer");
    }

    #[test]
    fn few_places_are_shared_too() {
        for (max, share) in [(1, 1), (2, 1), (4, 3), (8, 7), (64, 56)] {
            assert_eq!(Seats::<u32>::new(max).share(), share, "of {max}");
        }
    }

    #[test]
    fn what_made_room_is_not_counted_twice_when_it_goes() {
        let seats = Seats::new(8);
        let first = take(&seats, 1);
        let rest: Vec<_> = (0..7).map(|n| take(&seats, 2 + n)).collect();
        let new = take(&seats, 9);
        assert!(left(&first));
        drop((first, new, rest));
        assert!(seats.taken().seats.is_empty() && seats.taken().by_peer.is_empty());
    }
}
