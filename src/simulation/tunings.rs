//! Configurations, drawn: policies of every kind of rule, and small limits, so that what is rare in life comes up in minutes.

use std::time::Duration;

use fastrand::Rng;
use jiff::tz::TimeZone;

use crate::engine::{PaceLimits, Settings, Tuning};
use crate::model::{
    AppliesTo, Missed, OnUnknown, Policies, Policy, QuietHours, Region, Rule, Timestamp, TrafficType, UseCase,
};

/// The use cases there are. Of the first two no configuration is without.
pub(super) const USE_CASES: [&str; 4] = ["otp", "notice", "promo", "news"];

/// Zones without summer time, and how many hours they are ahead: the oracle does its own sums.
pub(super) const ZONES: [(&str, i64); 3] = [("UTC", 0), ("Asia/Tokyo", 9), ("America/Bogota", -5)];

const MINUTE: u64 = 60;

pub(super) fn use_case(name: &str) -> UseCase {
    UseCase::new(name).expect("a name of letters is a use case")
}

/// What a seed may and may not have in its configurations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub shadow: bool,
    pub hooks: bool,
    pub quiet: bool,
}

/// The first configuration, or one that a reload brings instead of `before`.
pub(super) fn draw(rng: &mut Rng, start: Timestamp, scope: Scope, before: Option<&Tuning>) -> Tuning {
    let settings = match before.filter(|_| rng.u8(0..3) > 0) {
        Some(before) => before.settings.clone(),
        None => settings(rng),
    };
    let mut policies = Vec::new();
    for (n, name) in USE_CASES.into_iter().enumerate() {
        let name = use_case(name);
        let known = before.and_then(|before| before.policies.get(&name));
        let policy = match known {
            Some(known) if rng.bool() => Policy::clone(known),
            // It goes, if nothing waits in it; else the reload is refused.
            Some(_) if n > 1 && rng.u8(0..4) == 0 => continue,
            Some(known) if rng.bool() => {
                Policy { rule: rule(rng, start), applies_to: applies_to(rng), ..Policy::clone(known) }
            }
            _ => policy(rng, start, scope),
        };
        policies.push((name, policy));
    }
    let policies: Policies = policies.into_iter().collect();
    Tuning { policies, settings, config_hash: format!("{:08x}", rng.u32(..)).into() }
}

fn settings(rng: &mut Rng) -> Settings {
    Settings {
        pace: PaceLimits { in_flight: rng.usize(1..10), per_second: rng.u32(2..60), in_flight_total: rng.usize(1..16) },
        default_region: Region::Global,
        retention: Duration::from_secs([10, 60, 600, 1440][rng.usize(0..4)] * MINUTE),
        outcomes_max: [8, 100, 1_000_000][rng.usize(0..3)],
        early_for: Duration::from_secs(rng.u64(1..120) * MINUTE),
        early_max: [2, 8, 1000][rng.usize(0..3)],
        ..Settings::default()
    }
}

fn policy(rng: &mut Rng, start: Timestamp, scope: Scope) -> Policy {
    let mut seldom = |one_in: u32| rng.u32(0..one_in) == 0;
    let (lead, spread, quiet, hooks) = (seldom(3), seldom(4), seldom(3), seldom(2));
    let (missed, retired, tight) = (seldom(4), seldom(8), seldom(4));
    let secs = |rng: &mut Rng, from, to| Duration::from_secs(rng.u64(from..to));
    Policy {
        rule: rule(rng, start),
        lead: if lead { secs(rng, 1, 90) } else { Duration::ZERO },
        spread: if spread { secs(rng, 5, 600) } else { Duration::ZERO },
        traffic_type: TrafficType::ALL[rng.usize(0..TrafficType::ALL.len())],
        settle: secs(rng, 0, 25),
        on_unknown: [OnUnknown::Send, OnUnknown::Hold, OnUnknown::Drop][rng.usize(0..3)],
        give_up_after: if tight { secs(rng, 5, 60) } else { secs(rng, 60, 3600) },
        fallback_until: if tight { secs(rng, 1, 60) } else { secs(rng, 60, 24 * 3600) },
        not_between: (quiet && scope.quiet).then(|| quiet_hours(rng)),
        calls_max: if hooks && scope.hooks { rng.usize(1..4) } else { 0 },
        missed: if missed { Missed::Moot } else { Missed::Revoke },
        shadow: scope.shadow,
        retired,
        applies_to: applies_to(rng),
        ..Policy::new(Rule::Ttl(Duration::ZERO))
    }
}

fn applies_to(rng: &mut Rng) -> AppliesTo {
    if rng.u8(0..3) == 0 { AppliesTo::New } else { AppliesTo::Pending }
}

fn rule(rng: &mut Rng, start: Timestamp) -> Rule {
    match rng.u8(0..10) {
        0..6 => Rule::Ttl(Duration::from_secs(rng.u64(5..1200))),
        6 => Rule::Ttl(Duration::from_secs(rng.u64(1200..30 * 24 * 3600))),
        7..9 => Rule::ExpiresAt(start.plus(Duration::from_secs(rng.u64(1..90) * MINUTE))),
        _ => Rule::DailyCutoff { at: time_of_day(rng), zone: zone(rng) },
    }
}

fn quiet_hours(rng: &mut Rng) -> QuietHours {
    QuietHours { from: time_of_day(rng), to: time_of_day(rng), zone: zone(rng) }
}

fn time_of_day(rng: &mut Rng) -> jiff::civil::Time {
    jiff::civil::time(rng.i8(0..24), rng.i8(0..60), 0, 0)
}

fn zone(rng: &mut Rng) -> TimeZone {
    let (name, _) = ZONES[rng.usize(0..ZONES.len())];
    TimeZone::get(name).expect("every time zone database has these")
}
