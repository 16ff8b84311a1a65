//! `[use_cases.NAME]`: from a table to a policy, with what is known of the platform held against it.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::civil::{Between, Positive};
use super::env::Env;
use super::fallback;
use super::report::Problem;
use super::section::Section;
use super::value::Value;
use crate::fallback::Spec;
use crate::model::policy::PLATFORM_KEEPS;
use crate::model::{OnUnknown, Policy, QuietHours, Rule, Timestamp, TrafficType};

/// The shortest ttl that the platform recommends for its own. Ours may be shorter, which is of use in trials.
const TTL_RECOMMENDED_MIN: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The keys that each make a deadline. A use case has exactly one of them.
const RULES: [&str; 3] = ["ttl", "expires_at", "daily_cutoff"];

/// The policy of the use case, if it has a rule; and the hook that its grants are handed to, if it has one.
pub(super) fn read(section: &mut Section<'_>, env: &Env, now: Timestamp) -> (Option<Policy>, Option<Spec>) {
    // On whose clocks times of day are meant, here and in the quiet hours.
    let zone: Option<TimeZone> = section.find("time_zone");
    let rule = rule(section, zone.clone());
    let known_rule = rule.is_some();
    // Without a rule the rest is read all the same, so that what is wrong there is told as well.
    let default = Policy::new(rule.unwrap_or(Rule::ExpiresAt(Timestamp::MAX)));
    let traffic_type = section.get("traffic_type", default.traffic_type);
    let mut policy = Policy {
        lead: section.get("lead", default.lead),
        spread: section.get("spread", default.spread),
        traffic_type,
        settle: section.get("settle", default.settle),
        on_unknown: section.get("on_unknown", on_unknown(traffic_type)),
        give_up_after: section.get("give_up_after", Positive(default.give_up_after)).0,
        fallback_until: section.get("fallback_until", default.fallback_until),
        not_between: not_between(section, zone),
        missed: section.get("missed", default.missed),
        max_ttl: section.get("max_ttl", Positive(default.max_ttl)).0,
        shadow: default.shadow,
        retired: section.get("retired", default.retired),
        applies_to: section.get("applies_to", default.applies_to),
        rule: default.rule,
        calls_max: 0,
    };
    judge(section, &policy, now);
    // The last: what is in a table of its own is printed below everything else.
    let hook = section.table("fallback", |section| fallback::read(section, env)).flatten();
    policy.calls_max = hook.as_ref().map_or(0, |hook| hook.calls_max);
    (known_rule.then_some(policy), hook)
}

/// What happens to the fallback where the truth can't be known and nobody has said: somebody who waits for a code in
/// order to get in is better off with two of them than with none; for anything else, nobody wants to be told twice.
fn on_unknown(traffic_type: TrafficType) -> OnUnknown {
    if traffic_type == TrafficType::Authentication { OnUnknown::Send } else { OnUnknown::default() }
}

fn rule(section: &mut Section<'_>, zone: Option<TimeZone>) -> Option<Rule> {
    let ttl = section.find("ttl").map(|Positive(span)| Rule::Ttl(span));
    let expires_at = section.find("expires_at").map(Rule::ExpiresAt);
    let daily_cutoff = daily_cutoff(section, zone);
    let mut given: Vec<_> = RULES.into_iter().filter_map(|key| section.span(key)).collect();
    given.sort_by_key(|span| span.start);
    match given.as_slice() {
        [_] => ttl.or(expires_at).or(daily_cutoff),
        [] => {
            let problem = Problem::error(format!("no deadline in [{}]", section.name())).help(
                "give it ttl = \"10m\", expires_at = \"2026-12-31T23:59:59Z\", \
                 or daily_cutoff = \"21:00\" with a time_zone",
            );
            let problem = match section.header() {
                Some(header) => problem.at(header, "when are its messages to be revoked?"),
                None => problem,
            };
            section.problem(problem);
            None
        }
        [first, others @ ..] => {
            let mut problem = Problem::error(format!("more than one deadline in [{}]", section.name())).help(
                "keep the one that is meant; messages that have deadlines of their own bring them when registered",
            );
            for span in others {
                problem = problem.at(span.clone(), "and this another");
            }
            section.problem(problem.at(first.clone(), "this is one rule"));
            None
        }
    }
}

fn daily_cutoff(section: &mut Section<'_>, zone: Option<TimeZone>) -> Option<Rule> {
    let at: Option<Time> = section.find("daily_cutoff");
    let quiet = section.span("not_between");
    match (section.span("daily_cutoff"), section.span("time_zone")) {
        (Some(cutoff), None) => section.problem(
            Problem::error("`daily_cutoff` without `time_zone`")
                .at(cutoff, "on whose clocks?")
                .help("add the zone of the people who get the messages, such as time_zone = \"Europe/Berlin\""),
        ),
        (None, Some(zone)) if quiet.is_none() => section.problem(
            Problem::error("`time_zone` without `daily_cutoff` or `not_between`")
                .at(zone, "means nothing here")
                .help("only those two are times of day; `ttl` and `expires_at` are the same in every zone"),
        ),
        _ => {}
    }
    Some(Rule::DailyCutoff { at: at?, zone: zone? })
}

fn not_between(section: &mut Section<'_>, zone: Option<TimeZone>) -> Option<QuietHours> {
    let Between(from, to) = section.find("not_between")?;
    if let (Some(span), None) = (section.span("not_between"), section.span("time_zone")) {
        section.problem(Problem::error("`not_between` without `time_zone`").at(span, "on whose clocks?").help(
            "add the zone of the recipients, such as time_zone = \"Europe/Berlin\"; a message may bring its own",
        ));
    }
    Some(QuietHours { from, to, zone: zone? })
}

/// What can be said of values that are right each by itself.
fn judge(section: &mut Section<'_>, policy: &Policy, now: Timestamp) {
    let longest = match policy.rule {
        Rule::Ttl(ttl) => {
            if ttl > PLATFORM_KEEPS {
                section.problem_at("ttl", beyond_reach("ttl"), "more than 30 days");
            } else if ttl < TTL_RECOMMENDED_MIN {
                let problem = Problem::warning("hardly a message is delivered that fast")
                    .help("the platform recommends at least 10s; this is of use in trials only");
                section.problem_at("ttl", problem, "less than 10 seconds");
            }
            ttl
        }
        Rule::ExpiresAt(at) => {
            if at <= now && !policy.retired {
                let problem = Problem::warning(format!("the deadline of [{}] has passed", section.name())).help(
                    "what is pending is revoked at once, new messages are refused; \
                     set retired = true if that is meant",
                );
                section.problem_at("expires_at", problem, "in the past");
            }
            PLATFORM_KEEPS
        }
        Rule::DailyCutoff { .. } => DAY,
    };
    if policy.lead >= longest {
        let problem = Problem::error("`lead` leaves no time at all")
            .help("it is taken off the deadline: messages would be revoked as they are sent");
        section.problem_at("lead", problem, format!("not less than {}", longest.show()));
    }
    if !policy.spread.is_zero() && matches!(policy.rule, Rule::Ttl(_)) {
        let problem = Problem::error("`spread` with a `ttl`")
            .help("deadlines that follow each message's own send time are spread already; leave it out");
        section.problem_at("spread", problem, "only for deadlines that many messages share");
    }
    if policy.max_ttl > PLATFORM_KEEPS {
        section.problem_at("max_ttl", beyond_reach("max_ttl"), "more than 30 days");
    }
    // The settle window begins when the revocation is answered, at the earliest `lead` before the deadline.
    if policy.settle > policy.lead.saturating_add(policy.fallback_until) {
        let problem = Problem::warning(format!("no fallback is ever granted in [{}]", section.name()))
            .help("a grant comes at the end of the settle window: let `fallback_until` be longer than `settle`");
        let key = if section.span("fallback_until").is_some() { "fallback_until" } else { "settle" };
        section.problem_at(key, problem, "over before the settle window is");
    }
}

fn beyond_reach(key: &str) -> Problem {
    Problem::error(format!("`{key}` is longer than the platform keeps a message"))
        .help("undelivered messages are purged after 30 days, then nothing is left to revoke: \"30d\" is the most")
}
