//! Evidence that comes before its message: kept for a while, within bounds, and applied when the message comes.

use std::collections::{HashMap, VecDeque};

use crate::model::{Identity, Phone, Timestamp};
use crate::store::{Change, EarlyEvent};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct EarlyEvents {
    by_identity: HashMap<Identity, EarlyEvent>,
    /// In the order of coming; may name some that are gone.
    order: VecDeque<(Timestamp, Identity)>,
}

impl EarlyEvents {
    pub(super) fn recover(stored: &[EarlyEvent]) -> Self {
        let mut order: Vec<_> = stored.iter().map(|event| (event.at, event.identity.clone())).collect();
        order.sort_by_key(|(at, _)| *at);
        let by_identity = stored.iter().map(|event| (event.identity.clone(), event.clone())).collect();
        Self { by_identity, order: order.into() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &EarlyEvent> {
        self.by_identity.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_identity.len()
    }

    /// Keeps an event, unless one that says as much is there. Makes room for it and forgets what is too old: who is asked says
    /// until when one is kept that came then.
    pub(super) fn keep(
        &mut self,
        event: EarlyEvent,
        max: usize,
        kept_until: impl Fn(Timestamp) -> Timestamp,
        changes: &mut Vec<Change>,
    ) -> bool {
        let now = event.at;
        while let Some((at, identity)) = self.order.front() {
            let known = self.by_identity.get(identity).is_some_and(|event| event.at == *at);
            // One that takes the place of another, or says no more than it, needs none.
            let fits = self.by_identity.len() < max || self.by_identity.contains_key(&event.identity);
            if known && kept_until(*at) > now && fits {
                break;
            }
            if known {
                self.by_identity.remove(identity);
                changes.push(Change::EarlyGone(identity.clone()));
            }
            self.order.pop_front();
        }
        let stronger = self.by_identity.get(&event.identity).is_none_or(|known| event.kind > known.kind);
        if !stronger || max == 0 {
            return false;
        }
        self.order.push_back((event.at, event.identity.clone()));
        changes.push(Change::Early(event.clone()));
        self.by_identity.insert(event.identity.clone(), event);
        true
    }

    /// Takes out what is known of a message that has just come, if it is about the same handset.
    pub(super) fn take(&mut self, identity: &Identity, phone: Phone, changes: &mut Vec<Change>) -> Option<EarlyEvent> {
        if self.by_identity.get(identity)?.phone != phone {
            return None;
        }
        changes.push(Change::EarlyGone(identity.clone()));
        self.by_identity.remove(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentId, MessageId};
    use crate::store::EarlyKind;

    #[test]
    fn an_event_that_comes_twice_drives_out_no_other() {
        let event = |id: &str, at| EarlyEvent {
            identity: Identity { agent: AgentId::new("bot").unwrap(), message_id: MessageId::new(id).unwrap() },
            phone: Phone::from_digits(12_223_334_444),
            at: Timestamp::from_millis(at),
            kind: EarlyKind::Delivered,
        };
        let hour = |at: Timestamp| at.plus(std::time::Duration::from_secs(3600));
        let (mut early, mut changes) = (EarlyEvents::default(), Vec::new());
        assert!(early.keep(event("first", 1), 2, hour, &mut changes));
        assert!(early.keep(event("second", 2), 2, hour, &mut changes));
        assert!(!early.keep(event("second", 3), 2, hour, &mut changes));
        assert!(!early.keep(event("first", 4), 2, hour, &mut changes));
        assert_eq!((early.len(), changes.len()), (2, 2), "{changes:?}");
        assert!(early.keep(event("third", 5), 2, hour, &mut changes));
        assert!(
            early.by_identity.keys().all(|identity| identity.message_id.as_str() != "first"),
            "the oldest makes room"
        );
    }
}
