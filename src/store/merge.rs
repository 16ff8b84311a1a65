//! Several sorted sources read as one; where they disagree about a key, the newest is right.

use std::iter::Peekable;

use super::StoreError;
use super::key::Key;
use super::run::Item;
use super::tree::Bytes;

type Source<'a> = Peekable<Box<dyn Iterator<Item = Item> + 'a>>;

/// See the module's documentation. Keys that hold nothing are passed on as such.
pub(super) struct Merge<'a> {
    sources: Vec<Source<'a>>,
}

impl<'a> Merge<'a> {
    /// Newest first.
    pub(super) fn new(sources: impl Iterator<Item = Box<dyn Iterator<Item = Item> + 'a>>) -> Self {
        Self { sources: sources.map(Iterator::peekable).collect() }
    }

    fn step(&mut self) -> Result<Option<(Key, Option<Bytes>)>, StoreError> {
        let mut next: Option<Key> = None;
        for source in &mut self.sources {
            match source.peek() {
                Some(Ok((key, _))) => next = Some(next.map_or(*key, |next| next.min(*key))),
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
        }
        let Some(next) = next else { return Ok(None) };
        let is_next = |item: &Item| item.as_ref().is_ok_and(|(key, _)| *key == next);
        let mut newest = None;
        for source in &mut self.sources {
            let item = source.next_if(is_next).transpose()?;
            newest = newest.or(item);
        }
        Ok(newest)
    }
}

impl Iterator for Merge<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.step().transpose()
    }
}
