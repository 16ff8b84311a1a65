//! Holds and recalls: what surely keeps a message back, and what may have called it back.

use super::life::Life;
use super::{Broken, Heard, Oracle, Request, Word, broken};
use crate::engine::Said as Subscribed;
use crate::model::{Selector, TrafficType};

fn matches(of: &Selector, life: &Life) -> bool {
    of.use_case.as_ref().is_none_or(|name| *name == life.use_case)
        && of.agent.as_ref().is_none_or(|agent| *agent == life.identity.agent)
        && of.tag.as_ref().is_none_or(|tag| life.tags.contains(tag))
}

impl Word {
    fn hold(&self) -> Option<&Selector> {
        match &self.request {
            Request::Hold(of) => Some(of),
            _ => None,
        }
    }

    fn hold_or_release(&self) -> Option<&Selector> {
        match &self.request {
            Request::Hold(of) | Request::Release(of) => Some(of),
            _ => None,
        }
    }

    /// What a user said of an agent's promotions: this one, of this one's.
    fn subscription(&self, life: &Life) -> Option<&Subscribed> {
        let Request::Subscribe(said) = &self.request else { return None };
        (said.agent == life.identity.agent && said.phone == life.phone).then_some(said)
    }

    fn recalls(&self) -> Option<&Selector> {
        if let Request::Recall(of) = &self.request { Some(of) } else { None }
    }
}

impl Oracle {
    /// Whether no later word is about the same hold.
    fn is_last_word(&self, word: usize, of: &Selector) -> bool {
        let later = self.words[word + 1..].iter().filter(|word| word.may_be_done());
        !later.filter_map(Word::hold_or_release).any(|other| other == of)
    }

    /// Holds that may be in force.
    pub(crate) fn holds(&self) -> Vec<Selector> {
        let mut all: Vec<Selector> = self.words.iter().filter_map(Word::hold).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// The hold that surely keeps a message back.
    pub(super) fn hold_on(&self, life: &Life) -> Option<&Selector> {
        let in_force = |(n, word): (usize, &'_ Word)| {
            word.hold().is_some_and(|of| word.is_done() && matches(of, life) && self.is_last_word(n, of))
        };
        (0..).zip(&self.words).find(|(n, word)| in_force((*n, *word))).and_then(|(_, word)| word.hold())
    }

    /// A hold was acknowledged: since it was asked for, nothing of it may have left.
    pub(super) fn held(&self, word: usize, of: &Selector) -> Result<(), Broken> {
        if !self.is_last_word(word, of) {
            return Ok(());
        }
        for life in self.lives.iter().filter(|life| !life.removed && matches(of, life)) {
            let left = self.left_since(life, word);
            let id = &life.identity.message_id;
            broken!(!left || self.may_be_recalled(life), "what is held is not revoked", "{id} left under hold {of}");
        }
        Ok(())
    }

    /// It is a promotion, and its user surely wants none, and has said so before this round.
    pub(super) fn is_unsubscribed(&self, life: &Life, round: u64) -> bool {
        let promotion = self.lanes.get(&life.lane).is_some_and(|spec| spec.traffic_type == TrafficType::Promotion);
        let said = || self.words.iter().filter_map(|word| Some((word, word.subscription(life)?)));
        let ended = said().filter(|(word, said)| said.ended && word.is_done() && word.at.round < round);
        promotion
            && ended.map(|(word, _)| word.at.round).max().is_some_and(|since| {
                !said().any(|(word, said)| !said.ended && word.may_be_done() && word.at.round >= since)
            })
    }

    /// Its user may want no promotions.
    pub(super) fn may_be_unsubscribed(&self, life: &Life) -> bool {
        self.words.iter().any(|word| word.may_be_done() && word.subscription(life).is_some_and(|said| said.ended))
    }

    /// A recall may be about it.
    pub(super) fn may_be_recalled(&self, life: &Life) -> bool {
        self.words.iter().filter(|word| word.may_be_done()).filter_map(Word::recalls).any(|of| matches(of, life))
    }

    /// A recall is surely about it, and has been since before this round.
    pub(super) fn is_recalled(&self, life: &Life, round: u64) -> bool {
        let mut recalls = (0..).zip(&self.words).filter_map(|(n, word)| Some((n, word, word.recalls()?)));
        recalls.any(|(n, word, of)| {
            // The same one twice is one: it is about what was there when it was first asked for.
            let same = |other: &&Word| {
                other.recalls() == Some(of)
                    && (other.heard[..] == [Heard::Never] || other.recall.is_some() && other.recall == word.recall)
            };
            let first = self.words[..=n].iter().filter(same).map(|word| word.at.round).min();
            word.is_done()
                && word.at.round < round
                && matches(of, life)
                && first.is_some_and(|first| life.since.round < first)
        })
    }
}
