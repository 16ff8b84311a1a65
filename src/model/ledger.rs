//! The books: what became of messages, by use case and hour, as counters that cost nothing to keep for weeks.
//!
//! Each step of a message books what it changed ([`entries`]), in the same write as the change itself; so the books agree
//! with the messages after any crash. Nothing here grows with the number of messages: a page holds one number per kind of
//! event, and spans of time go into buckets of 6 % width.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Grant, GrantState, Outcome, Record, Report, State, Step, Timestamp, UseCase, What};

/// An hour since the epoch: a page of the books.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hour(pub u32);

const HOUR_MS: i64 = 3_600_000;
/// Pages are kept so long; older ones are torn out.
pub const KEPT: Duration = Duration::from_secs(8 * 24 * 3600);

impl Hour {
    /// The hour of an instant.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.millis() / HOUR_MS).unwrap_or(u32::MAX))
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.0) * HOUR_MS)
    }
}

/// What is counted. The numbers are stored: never give one to something else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cell(pub u16);

impl Cell {
    /// Messages registered for the first time.
    pub const REGISTERED: Self = Self(0);
    /// DELETEs that left and count, of messages that have settled.
    pub const ATTEMPTS: Self = Self(1);
    /// Delivered after the deadline.
    pub const DELIVERED_LATE: Self = Self(2);
    /// Delivered although a DELETE had left: the two crossed.
    pub const RACED: Self = Self(3);
    /// Settled by an event, without a DELETE.
    pub const AVOIDED: Self = Self(4);
    /// Grants: handed out …
    pub const GRANT_OFFERED: Self = Self(5);
    /// … held back for somebody to decide …
    pub const GRANT_HELD: Self = Self(6);
    /// … taken back …
    pub const GRANT_WITHDRAWN: Self = Self(7);
    /// … come too late to be of use.
    pub const GRANT_VOID: Self = Self(8);
    /// The message arrived after its grant was taken note of: the user may have got it twice.
    pub const DUPLICATE: Self = Self(9);

    /// A hook took the grant.
    pub const GRANT_TAKEN: Self = Self(10);

    const SETTLED: u16 = 32;
    const AMENDED: u16 = 48;
    const LATENESS: u16 = 512;
    const DELIVERED_AFTER: u16 = 1024;
    const CENSORED_AFTER: u16 = 1536;

    /// Messages that settled so. One that is amended later stays counted here.
    pub fn settled(outcome: Outcome) -> Self {
        Self(Self::SETTLED + place(outcome))
    }

    /// Messages that had settled so, and were found delivered.
    pub fn amended(from: Outcome) -> Self {
        Self(Self::AMENDED + place(from))
    }

    /// First DELETEs that left so long after they were due.
    pub fn lateness(late: Duration) -> Self {
        Self(Self::LATENESS + Bucket::of(late).0)
    }

    /// Messages delivered so long after they were sent.
    fn delivered_after(span: Duration) -> Self {
        Self(Self::DELIVERED_AFTER + Bucket::of(span).0)
    }

    /// Messages taken out of the race so long after they were sent, undelivered as far as is known.
    fn censored_after(span: Duration) -> Self {
        Self(Self::CENSORED_AFTER + Bucket::of(span).0)
    }
}

fn place(outcome: Outcome) -> u16 {
    let place = Outcome::ALL.iter().position(|other| *other == outcome);
    place.and_then(|place| u16::try_from(place).ok()).unwrap_or(0)
}

/// A span of time, told to a sixteenth of its power of two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bucket(u16);

impl Bucket {
    const BITS: u32 = 4;
    const PER_OCTAVE: u64 = 1 << Self::BITS;
    /// The last one: everything beyond some 49 days.
    const LAST: u16 = 463;

    /// Which it falls into.
    pub fn of(span: Duration) -> Self {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        let octave = ms.checked_ilog2().unwrap_or(0).saturating_sub(Self::BITS);
        let bucket = u64::from(octave) * Self::PER_OCTAVE + (ms >> octave);
        Self(u16::try_from(bucket).unwrap_or(Self::LAST).min(Self::LAST))
    }

    /// Where it begins. It ends where the next one begins.
    pub fn start(self) -> Duration {
        let bucket = u64::from(self.0);
        let octave = (bucket / Self::PER_OCTAVE).saturating_sub(1);
        Duration::from_millis((bucket - octave * Self::PER_OCTAVE) << octave)
    }

    /// Where the next one begins.
    pub fn end(self) -> Duration {
        Self(self.0 + 1).start()
    }
}

/// Counts by cell. Corrections make single numbers negative: only sums over a time mean anything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts(BTreeMap<Cell, i64>);

impl Counts {
    /// Counts `n` more.
    pub fn add(&mut self, cell: Cell, n: i64) {
        *self.0.entry(cell).or_default() += n;
    }

    /// How many.
    pub fn get(&self, cell: Cell) -> u64 {
        self.0.get(&cell).map_or(0, |n| u64::try_from(*n).unwrap_or(0))
    }

    /// All cells in which something stands.
    pub fn iter(&self) -> impl Iterator<Item = (Cell, i64)> {
        self.0.iter().map(|(cell, n)| (*cell, *n))
    }

    /// How late first DELETEs left.
    pub fn lateness(&self) -> Vec<(Bucket, u64)> {
        self.histogram(Cell::LATENESS)
    }

    /// How long deliveries took.
    pub fn delivered_after(&self) -> Vec<(Bucket, u64)> {
        self.histogram(Cell::DELIVERED_AFTER)
    }

    /// After what time those were taken out of the race that had not arrived.
    pub fn censored_after(&self) -> Vec<(Bucket, u64)> {
        self.histogram(Cell::CENSORED_AFTER)
    }

    fn histogram(&self, first: u16) -> Vec<(Bucket, u64)> {
        let cells = self.0.range(Cell(first)..=Cell(first + Bucket::LAST));
        cells
            .filter_map(|(cell, n)| Some((Bucket(cell.0 - first), u64::try_from(*n).ok().filter(|n| *n > 0)?)))
            .collect()
    }
}

impl Extend<(Cell, i64)> for Counts {
    fn extend<I: IntoIterator<Item = (Cell, i64)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(cell, n)| self.add(cell, n));
    }
}

impl FromIterator<(Cell, i64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (Cell, i64)>>(entries: I) -> Self {
        let mut counts = Self::default();
        counts.extend(entries);
        counts
    }
}

/// All pages.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ledger(BTreeMap<(Hour, UseCase), Counts>);

impl Ledger {
    /// Books what was counted in an hour.
    pub fn book(&mut self, hour: Hour, use_case: &UseCase, entries: impl IntoIterator<Item = (Cell, i64)>) {
        let key = (hour, use_case.clone());
        let page = self.0.entry(key).or_default();
        page.extend(entries);
    }

    /// Tears out the pages before an hour.
    pub fn forget(&mut self, before: Hour) {
        self.0.retain(|(hour, _), _| *hour >= before);
    }

    /// The earliest hour of which there is a page.
    pub fn first(&self) -> Option<Hour> {
        self.0.keys().next().map(|(hour, _)| *hour)
    }

    /// The latest one.
    pub fn last(&self) -> Option<Hour> {
        self.0.keys().next_back().map(|(hour, _)| *hour)
    }

    /// Every page.
    pub fn pages(&self) -> impl Iterator<Item = (Hour, &UseCase, &Counts)> {
        self.0.iter().map(|((hour, use_case), page)| (*hour, use_case, page))
    }

    /// The sums from an hour on, by use case.
    pub fn since(&self, from: Hour) -> BTreeMap<UseCase, Counts> {
        let mut sums: BTreeMap<UseCase, Counts> = BTreeMap::new();
        for (_, use_case, page) in self.pages().filter(|(hour, ..)| *hour >= from) {
            sums.entry(use_case.clone()).or_default().extend(page.iter());
        }
        sums
    }
}

/// What a step that was taken at `now` adds to the page of its hour; `before` is the grant that its message had until then.
pub fn entries(before: Option<Grant>, record: &Record, step: &Step, now: Timestamp) -> Counts {
    let mut counts = Counts::default();
    if let Some(grant) = record.grant
        && before.is_none_or(|before| before.state != grant.state)
    {
        counts.add(grant_cell(grant.state), 1);
    }
    let State::Settled { outcome, .. } = record.state else { return counts };
    let tried = record.attempts.count > 0 || record.attempts.unknown;
    match step.report {
        Some(Report::Settled) => {
            counts.add(Cell::settled(outcome), 1);
            // Only now: an attempt that is out is not stored with its message, and a crash would book it twice.
            counts.extend(record.attempts.lateness.map(|late| (Cell::lateness(late), 1)));
            if record.attempts.count > 0 && outcome != Outcome::Shadow {
                counts.add(Cell::ATTEMPTS, i64::from(record.attempts.count));
            }
            if !tried && matches!(outcome, Outcome::Delivered | Outcome::Revoked) {
                counts.add(Cell::AVOIDED, 1);
            }
            match outcome {
                Outcome::Delivered => delivered(&mut counts, record, tried, now),
                _ => counts.add(censored(record, now), 1),
            }
        }
        // A recall that takes a grant back leaves the outcome what it was.
        Some(Report::Amended(from)) if from != outcome => {
            counts.add(Cell::amended(from), 1);
            // It was not out of the race after all.
            counts.add(censored(record, now), -1);
            delivered(&mut counts, record, tried && from != Outcome::Shadow, now);
            // It would have been withdrawn, had it not been acknowledged or taken before.
            if record.grant.is_some_and(|grant| matches!(grant.state, GrantState::Offered | GrantState::Taken)) {
                counts.add(Cell::DUPLICATE, 1);
            }
        }
        // A call that crossed the delivery which took its grant back.
        Some(Report::Taken) if outcome == Outcome::Delivered => counts.add(Cell::DUPLICATE, 1),
        Some(Report::Amended(_) | Report::Granted | Report::Taken | Report::Voided) | None => {}
    }
    counts
}

fn grant_cell(state: GrantState) -> Cell {
    match state {
        GrantState::Offered => Cell::GRANT_OFFERED,
        GrantState::Held => Cell::GRANT_HELD,
        GrantState::Withdrawn => Cell::GRANT_WITHDRAWN,
        GrantState::Void => Cell::GRANT_VOID,
        GrantState::Taken => Cell::GRANT_TAKEN,
    }
}

fn delivered(counts: &mut Counts, record: &Record, tried: bool, now: Timestamp) {
    let told = |what| matches!(what, What::Delivered | What::Read);
    let at = record.trail.iter().find(|note| told(note.what)).map_or(now, |note| note.at);
    counts.add(Cell::delivered_after(at.since(record.send_time)), 1);
    // A settled record carries the deadline that applied.
    if record.deadline.is_some_and(|deadline| at > deadline) {
        counts.add(Cell::DELIVERED_LATE, 1);
    }
    if tried {
        counts.add(Cell::RACED, 1);
    }
}

/// When it was taken out of the race: with the first answer to its DELETE, since from then on it may be gone; if there was none,
/// when it settled. The same before and after an amendment.
fn censored(record: &Record, now: Timestamp) -> Cell {
    let gone = |what| matches!(what, What::Answered | What::TtlRevoked);
    let answered = record.trail.iter().find(|note| gone(note.what)).map(|note| note.at);
    let settled = match record.state {
        State::Settled { at, .. } => at,
        _ => now,
    };
    Cell::censored_after(answered.unwrap_or(settled).since(record.send_time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_span_and_is_narrow(ms in 0_u64..40 * 24 * 3_600_000) {
            let span = Duration::from_millis(ms);
            let bucket = Bucket::of(span);
            prop_assert!(bucket.start() <= span && span < bucket.end());
            let width = bucket.end() - bucket.start();
            prop_assert!(width <= Duration::from_millis(1).max(span / 16));
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap_to_the_last() {
        for bucket in 0..=Bucket::LAST {
            assert_eq!(Bucket::of(Bucket(bucket).start()), Bucket(bucket));
            assert!(Bucket(bucket).start() < Bucket(bucket).end());
        }
        assert_eq!(Bucket::of(Duration::MAX), Bucket(Bucket::LAST));
    }

    #[test]
    fn sums_begin_with_the_hour_that_is_asked_for_and_old_pages_are_torn_out() {
        let mut ledger = Ledger::default();
        let otp = UseCase::new("otp").unwrap();
        for hour in 1..=3 {
            ledger.book(Hour(hour), &otp, [(Cell::REGISTERED, i64::from(hour))]);
        }
        assert_eq!(ledger.since(Hour(2))[&otp].get(Cell::REGISTERED), 5);
        ledger.forget(Hour(3));
        assert_eq!(ledger.since(Hour(0))[&otp].get(Cell::REGISTERED), 3);
    }
}
