//! Room for what costs memory while it is taken in: so many at a time, and never all of them of one user.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// So much room. No user ever has all of it: a quarter at least is for others.
#[derive(Debug)]
pub(super) struct Rooms {
    max: usize,
    all: Semaphore,
    /// Who has or waits for some.
    shares: Mutex<BTreeMap<Option<u32>, Weak<Semaphore>>>,
}

/// Room for one, until it is dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    _of_all: SemaphorePermit<'a>,
    _of_share: OwnedSemaphorePermit,
}

impl Rooms {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, all: Semaphore::const_new(max), shares: Mutex::new(BTreeMap::new()) }
    }

    /// Waits for room; in vain for as long as others keep theirs.
    pub(super) async fn enter(&self, uid: Option<u32>) -> Room<'_> {
        // Of one's own first: who waits for that stands in nobody's way. Neither is ever closed.
        let never = "nobody closes it";
        let of_share = self.share(uid).acquire_owned().await.expect(never);
        Room { _of_all: self.all.acquire().await.expect(never), _of_share: of_share }
    }

    fn share(&self, uid: Option<u32>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&uid).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.max - self.max.div_ceil(4)));
        shares.insert(uid, Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn no_user_has_all_of_it_however_little_there_is() {
        let rooms = Rooms::new(5);
        let enter = |uid| rooms.enter(Some(uid)).now_or_never();
        let mut slow: Vec<_> = (0..3).map(|_| enter(1).unwrap()).collect();
        assert!(enter(1).is_none(), "their share is in use");
        let others = [enter(2).unwrap(), enter(3).unwrap()];
        assert!(enter(4).is_none(), "all of it is in use");
        drop(others);
        assert!(enter(1).is_none() && enter(4).is_some());
        slow.pop();
        assert!(enter(1).is_some());
    }
}
