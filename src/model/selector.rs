//! Which messages an order is about: those of a use case, of an agent, with a tag; all that is given must match.

use std::fmt;

use super::{AgentId, LaneSpec, UseCase};

/// What holds and recalls are about. `None` matches everything; whoever makes one sees to it that something is given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Selector {
    /// Only of this use case.
    pub use_case: Option<UseCase>,
    /// Only of this agent.
    pub agent: Option<AgentId>,
    /// Only with this tag.
    pub tag: Option<Box<str>>,
}

impl Selector {
    /// Whether any message of such a lane may match: all of them do if there is no tag.
    pub fn covers(&self, lane: &LaneSpec) -> bool {
        self.use_case.as_ref().is_none_or(|name| *name == lane.use_case)
            && self.agent.as_ref().is_none_or(|agent| *agent == lane.agent)
    }

    /// Whether a message of such a lane with these tags matches.
    pub fn matches(&self, lane: &LaneSpec, tags: &[Box<str>]) -> bool {
        self.tag.as_ref().is_none_or(|tag| tags.contains(tag)) && self.covers(lane)
    }
}

/// For the log and for refusals: `use case otp, tag "spring"`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.use_case.as_ref().map(|name| format!("use case {name}")),
            self.agent.as_ref().map(|agent| format!("agent {agent}")),
            self.tag.as_ref().map(|tag| format!("tag {tag:?}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, TrafficType};

    #[test]
    fn all_that_is_given_must_match() {
        let use_case = |name| UseCase::new(name).unwrap();
        let agent = |name| AgentId::new(name).unwrap();
        let lane = LaneSpec {
            use_case: use_case("otp"),
            agent: agent("bot"),
            region: Region::Global,
            traffic_type: TrafficType::Promotion,
            pinned: None,
        };
        let tags: [Box<str>; 2] = ["spring".into(), "blue".into()];
        let of = |name, who, tag: Option<&str>| Selector { use_case: name, agent: who, tag: tag.map(Into::into) };
        for (selector, covers, matches) in [
            (of(Some(use_case("otp")), None, None), true, true),
            (of(Some(use_case("promo")), None, None), false, false),
            (of(None, Some(agent("bot")), None), true, true),
            (of(None, Some(agent("other")), Some("blue")), false, false),
            (of(None, None, Some("blue")), true, true),
            (of(None, None, Some("red")), true, false),
            (of(Some(use_case("otp")), Some(agent("bot")), Some("spring")), true, true),
            (of(Some(use_case("otp")), Some(agent("bot")), Some("autumn")), true, false),
        ] {
            assert_eq!((selector.covers(&lane), selector.matches(&lane, &tags)), (covers, matches), "{selector}");
        }
    }
}
