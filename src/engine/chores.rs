//! What is done beside the work, a stride at a time: so that none of it keeps a message waiting.

use std::time::Duration;

use tracing::warn;

use super::core::{Core, Effect};
use crate::clock::Now;
use crate::store::Store;

/// The wheel's entry for what concerns no route.
pub(super) const CHORES: usize = usize::MAX;
/// How soon it is tried again after the store could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl<S: Store> Core<S> {
    /// One stride of each chore. Comes back until all are done.
    pub(super) fn chores(&mut self, now: Now) {
        let strides = [self.count_on(), self.sift(now.wall)];
        let wait = strides.into_iter().filter_map(|stride| match stride {
            Ok(more) => more.then_some(Duration::ZERO),
            Err(error) => {
                warn!(%error, "the store can't be read; trying again");
                Some(READ_AGAIN)
            }
        });
        if let Some(wait) = wait.max() {
            self.effects.push(Effect::Arm(CHORES, wait));
        }
    }
}
