//! What a use case wants: its deadline rule, and what to do around it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::deadline::human;
use super::{QuietHours, Rule, Timestamp, TrafficType, UseCase};

/// Undelivered messages are purged by the platform after 30 days; nothing is left to revoke later than that.
pub const PLATFORM_KEEPS: Duration = Duration::from_secs(30 * 24 * 3600);

/// The policy of one use case, as the configuration gives it.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// Gives each message its deadline.
    pub rule: Rule,
    /// Revoke that much before the deadline, so that the SMS is out in time.
    pub lead: Duration,
    /// Revocations may start that much before, evenly, so that a campaign is through when it ends. Zero: they start then.
    pub spread: Duration,
    /// How urgent, where the message itself does not say.
    pub traffic_type: TrafficType,
    /// How long to wait for a `DELIVERED` that crosses the DELETE.
    pub settle: Duration,
    /// Whether a fallback is granted where the truth can't be known.
    pub on_unknown: OnUnknown,
    /// How long after the deadline attempts are given up.
    pub give_up_after: Duration,
    /// How long after the deadline a fallback is still of use.
    pub fallback_until: Duration,
    /// When no fallback may go out: its message then settles when they are over.
    pub not_between: Option<QuietHours>,
    /// Calls at a time of the hook that its grants are handed to. None: agents find them in the outcome log.
    pub calls_max: usize,
    /// What becomes of deadlines that passed while the daemon was down.
    pub missed: Missed,
    /// The longest time from send to deadline that an agent may ask for itself.
    pub max_ttl: Duration,
    /// Nothing is revoked, and so nothing is granted: what the platform's own ttl takes is somebody else's to replace.
    pub shadow: bool,
    /// Keeps its rule for what is pending, takes no new messages.
    pub retired: bool,
    /// Whom a changed rule concerns.
    pub applies_to: AppliesTo,
}

impl Policy {
    /// A policy with this rule and everything else at its default.
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            lead: Duration::ZERO,
            spread: Duration::ZERO,
            traffic_type: TrafficType::default(),
            settle: Duration::from_secs(10),
            on_unknown: OnUnknown::default(),
            give_up_after: Duration::from_secs(3600),
            fallback_until: Duration::from_secs(24 * 3600),
            not_between: None,
            calls_max: 0,
            missed: Missed::default(),
            max_ttl: PLATFORM_KEEPS,
            shadow: false,
            retired: false,
            applies_to: AppliesTo::default(),
        }
    }

    /// The deadline: the message's own if it has one, else by the rule.
    pub fn deadline(&self, anchor: Timestamp, own: Option<Timestamp>) -> Timestamp {
        own.unwrap_or_else(|| self.rule.deadline(anchor))
    }

    /// When a message's DELETE is due at the latest. Where the policy spreads, it may leave up to `spread` earlier.
    pub fn release(&self, deadline: Timestamp) -> Timestamp {
        deadline.minus(self.lead)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)?;
        if !self.lead.is_zero() {
            write!(f, ", lead {}", human(self.lead))?;
        }
        if !self.spread.is_zero() {
            write!(f, ", spread {}", human(self.spread))?;
        }
        if self.retired { f.write_str(", retired") } else { Ok(()) }
    }
}

/// Whether a fallback is granted where the message may or may not have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// Grant it: a duplicate is better than a user who is locked out.
    Send,
    /// Keep it back until somebody decides.
    #[default]
    Hold,
    /// Grant nothing.
    Drop,
}

/// Whom a rule concerns when a reload brings it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppliesTo {
    /// Everything that has no deadline of its own, also what is pending already.
    #[default]
    Pending,
    /// Only what is registered from then on; what is pending keeps the rule it had.
    New,
}

/// What becomes of a deadline that passed while the daemon was down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Revoke at once: a late revocation is still useful.
    #[default]
    Revoke,
    /// Settle it as `moot`: whatever the message said is of no consequence any more.
    Moot,
}

/// All policies of one loaded configuration.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Policies(BTreeMap<UseCase, Arc<Policy>>);

impl Policies {
    /// The policy of a use case.
    pub fn get(&self, use_case: &UseCase) -> Option<&Arc<Policy>> {
        self.0.get(use_case)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&UseCase, &Arc<Policy>)> {
        self.0.iter()
    }
}

impl FromIterator<(UseCase, Policy)> for Policies {
    fn from_iter<I: IntoIterator<Item = (UseCase, Policy)>>(all: I) -> Self {
        Self(all.into_iter().map(|(name, policy)| (name, Arc::new(policy))).collect())
    }
}
