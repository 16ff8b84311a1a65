//! Room for batches: each may hold its whole body in memory, so few are taken in at a time.
//!
//! A body may come as slowly as a client likes, within its time: so no user ever has all of the places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::Peer;
use crate::engine::Refusal;

/// Batches taken in at once.
const BATCHES_MAX: usize = 4;
/// And of one user.
const SHARE: usize = BATCHES_MAX - 1;
/// Longest time that is waited for others to make room.
const ROOM_TIME: Duration = Duration::from_secs(20);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    /// What each user may still have; only of those who have something.
    shares: Mutex<HashMap<Option<u32>, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _share: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Room {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(BATCHES_MAX)), shares: Mutex::default() }
    }
}

impl Room {
    /// A place for a batch of this peer's user, as soon as there is one.
    ///
    /// # Errors
    /// 503 if others take too long with theirs.
    pub(super) async fn take(&self, peer: Option<Peer>) -> Result<Place, Refusal> {
        let share = self.share(peer.map(|peer| peer.uid));
        // First of one's own share: who waits for that must not keep a place from others.
        let places =
            async { Some((share.acquire_owned().await.ok()?, Arc::clone(&self.all).acquire_owned().await.ok()?)) };
        match tokio::time::timeout(ROOM_TIME, places).await {
            Ok(Some((share, of_all))) => Ok(Place { _share: share, _of_all: of_all }),
            _ => Err(Refusal::unavailable(format!(
                "as many batches are being taken in as there may be ({SHARE} of one user, {BATCHES_MAX} of all): try again"
            ))),
        }
    }

    fn share(&self, uid: Option<u32>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a place, or waits for one, holds on to their share.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        Arc::clone(shares.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(SHARE))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn take(room: &Room, uid: u32) -> Option<Place> {
        room.take(Some(Peer { uid, gid: 0 })).now_or_never().map(Result::unwrap)
    }

    #[tokio::test]
    async fn no_user_has_all_places_however_slow_their_bodies_are() {
        let room = Room::default();
        let mut slow: Vec<_> = (0..SHARE).map(|_| take(&room, 1).unwrap()).collect();
        assert!(take(&room, 1).is_none(), "their share is in use");
        let other = take(&room, 2).unwrap();
        assert!(take(&room, 3).is_none(), "all are in use");
        drop(other);
        assert!(take(&room, 1).is_none() && take(&room, 3).is_some());
        slow.pop();
        assert!(take(&room, 1).is_some());
        drop(slow);
        assert!(take(&room, 1).is_some());
        assert_eq!(room.shares.lock().unwrap().len(), 1, "who has nothing is forgotten");
    }
}
