//! What the oracle knows of one message, from what was asked and what it saw written.

use std::time::Duration;

use super::{Moment, Word};
use crate::engine::{Draft, EvidenceKind, Own, Tuning};
use crate::model::{Answer, Identity, LaneId, Phone, QuietHours, Record, Rule, Timestamp, UseCase};
use crate::simulation::tunings::ZONES;

const DAY_MS: i64 = 24 * 3_600_000;

/// One registration, until it is removed. An id that is used again begins another life.
pub(super) struct Life {
    pub identity: Identity,
    pub phone: Phone,
    /// When it was first written.
    pub begun: Moment,
    pub registered_at: Timestamp,
    /// Since when it is registered as it is.
    pub since: Moment,
    pub use_case: UseCase,
    pub lane: LaneId,
    pub tags: Vec<Box<str>>,
    pub send_time: Timestamp,
    pub own: Option<Timestamp>,
    pub zone: Option<Box<str>>,
    /// The rules its deadline may follow: one, unless a crash left open which.
    pub rules: Vec<Rule>,
    /// All it ever followed.
    pub rules_before: Vec<Rule>,
    /// It waits for its deadline, as far as is written.
    pub pending: bool,
    /// The latest time at which something of it was written: a decision stands, also after the clock was taken back.
    pub latest: Timestamp,
    /// Its registration was acknowledged.
    pub sure: bool,
    /// It is not there any more, and may not be.
    pub removed: bool,
    /// A crash took it before it was on disk.
    pub lost: bool,
    pub deletes: Vec<Delete>,
}

/// A DELETE that left.
pub(super) struct Delete {
    pub at: Moment,
    /// The disk took what has to be written before.
    pub fenced: bool,
    /// What the daemon was told, and when.
    pub answer: Option<(Answer, Moment)>,
    /// The daemon died and does not know what came of it.
    pub forgotten: bool,
    /// And it need not.
    pub excused: bool,
}

impl Life {
    pub(super) fn new(record: &Record, use_case: &UseCase, begun: Moment, rule: Option<Rule>) -> Self {
        let mut life = Self {
            identity: record.identity.clone(),
            phone: record.phone,
            begun,
            registered_at: record.registered_at,
            since: begun,
            use_case: use_case.clone(),
            lane: record.lane,
            tags: Vec::new(),
            send_time: record.send_time,
            own: None,
            zone: None,
            rules: rule.iter().cloned().collect(),
            rules_before: rule.into_iter().collect(),
            pending: true,
            latest: begun.now.wall,
            sure: false,
            removed: false,
            lost: false,
            deletes: Vec::new(),
        };
        life.see(record, use_case);
        life
    }

    /// Takes over what was written. True if it is registered otherwise than before, but for its deadline.
    pub(super) fn see(&mut self, record: &Record, use_case: &UseCase) -> bool {
        self.pending = record.state == crate::model::State::Pending;
        // Later the deadline that applied stands there.
        if !self.pending {
            return false;
        }
        let changed = (&self.use_case, self.send_time, &self.tags) != (use_case, record.send_time, &record.tags);
        self.use_case = use_case.clone();
        self.lane = record.lane;
        self.tags = record.tags.clone();
        self.send_time = record.send_time;
        self.own = record.deadline;
        self.zone = record.time_zone.clone();
        changed
    }

    pub(super) fn follows(&mut self, rules: Vec<Rule>) {
        self.rules_before.extend(rules.iter().cloned());
        self.rules = rules;
    }

    /// All deadlines it may have.
    pub(super) fn deadlines(&self) -> Vec<Timestamp> {
        match self.own {
            Some(own) => vec![own],
            None => self.rules.iter().map(|rule| deadline(rule, self.send_time)).collect(),
        }
    }

    /// All deadlines it may ever have had.
    pub(super) fn deadlines_ever(&self) -> impl Iterator<Item = Timestamp> {
        let by_rule = self.rules_before.iter().map(|rule| deadline(rule, self.send_time));
        self.own.into_iter().chain(by_rule)
    }

    /// The earliest instant at which a DELETE may leave.
    pub(super) fn earliest(&self, tuning: &Tuning) -> Timestamp {
        let Some(policy) = tuning.policies.get(&self.use_case) else { return Timestamp::EPOCH };
        let ahead = policy.lead + if self.own.is_some() { Duration::ZERO } else { policy.spread };
        self.deadlines().into_iter().min().unwrap_or(Timestamp::EPOCH).minus(ahead)
    }

    /// A DELETE is out, in this run of the daemon.
    pub(super) fn is_out(&self, run: u64) -> bool {
        self.deletes.last().is_some_and(|delete| delete.answer.is_none() && !delete.forgotten && delete.at.run == run)
    }

    /// What was told of its delivery, as far as it is about this handset.
    pub(super) fn told_of<'a>(
        &'a self,
        words: &'a [Word],
        kinds: impl Fn(&EvidenceKind) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Word> {
        words.iter().filter(move |word| {
            word.evidence()
                .is_some_and(|told| told.identity == self.identity && told.phone == self.phone && kinds(&told.kind))
        })
    }
}

pub(super) fn is_delivery(kind: &EvidenceKind) -> bool {
    matches!(kind, EvidenceKind::Delivered | EvidenceKind::Read)
}

/// Whether a record is what this draft asks for.
pub(super) fn is_as_drafted(record: &Record, use_case: &UseCase, draft: &Draft, now: Timestamp) -> bool {
    // While the clock is not believed, nothing was sent later than now.
    [draft.send_time.unwrap_or(now), draft.send_time.map_or(now, |sent| sent.min(now))]
        .into_iter()
        .any(|sent| is_as_drafted_at(record, use_case, draft, sent))
}

fn is_as_drafted_at(record: &Record, use_case: &UseCase, draft: &Draft, send_time: Timestamp) -> bool {
    let own = draft.own.map(|own| match own {
        Own::At(at) => at,
        Own::Ttl(ttl) => send_time.plus(ttl),
    });
    (record.phone, record.send_time, record.deadline) == (draft.phone, send_time, own)
        && (use_case, &record.tags, &record.fallback) == (&draft.use_case, &draft.tags, &draft.fallback)
        && record.time_zone == draft.time_zone
}

/// A deadline by its rule, summed up by hand.
pub(super) fn deadline(rule: &Rule, sent: Timestamp) -> Timestamp {
    match rule {
        Rule::Ttl(span) => sent.plus(*span),
        Rule::ExpiresAt(at) => *at,
        Rule::DailyCutoff { at, zone } => {
            let ahead = ahead_ms(zone.iana_name());
            let local = sent.millis() + ahead;
            let cutoff = local / DAY_MS * DAY_MS + of_day_ms(*at);
            let next = if cutoff > local { cutoff } else { cutoff + DAY_MS };
            Timestamp::from_millis(next - ahead)
        }
    }
}

/// Whether no SMS may go out to somebody in that zone.
pub(super) fn is_quiet(hours: &QuietHours, zone: Option<&str>, now: Timestamp) -> bool {
    let local = (now.millis() + ahead_ms(zone.or(hours.zone.iana_name()))) % DAY_MS;
    let (from, to) = (of_day_ms(hours.from), of_day_ms(hours.to));
    if from <= to { from <= local && local < to } else { local >= from || local < to }
}

fn ahead_ms(zone: Option<&str>) -> i64 {
    let hours = ZONES.into_iter().find(|(name, _)| Some(*name) == zone).map_or(0, |(_, hours)| hours);
    hours * 3_600_000
}

fn of_day_ms(at: jiff::civil::Time) -> i64 {
    (i64::from(at.hour()) * 60 + i64::from(at.minute())) * 60_000
}
