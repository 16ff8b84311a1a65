//! Which agents a question is about, where it is not about all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::AgentId;

/// Some agents. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agents(Arc<BTreeSet<AgentId>>);

impl Agents {
    /// Whether this is one of them.
    pub fn has(&self, agent: &AgentId) -> bool {
        self.0.contains(agent)
    }

    /// Each of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &AgentId> {
        self.0.iter()
    }
}

impl FromIterator<AgentId> for Agents {
    fn from_iter<I: IntoIterator<Item = AgentId>>(agents: I) -> Self {
        Self(Arc::new(agents.into_iter().collect()))
    }
}

/// Where nothing is said, all are meant.
pub fn meant(agents: Option<&Agents>, agent: &AgentId) -> bool {
    agents.is_none_or(|agents| agents.has(agent))
}
