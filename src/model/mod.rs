//! The decisions, and nothing else.
//!
//! Identity, policy, deadline, evidence, settlement and retry as plain values and pure functions. Time and randomness
//! come in as arguments; what is to be done leaves as data. This room knows `std`, `serde`, `chrono` (and `jiff` for
//! civil time in [`deadline`]); it must not know tokio, sled, reqwest, tracing or any clock. That is what lets the
//! engine be driven by a test, and the promises be checked under virtual time.

pub mod agents;
pub mod curve;
pub mod deadline;
pub mod grant;
pub mod hold;
pub mod id;
pub mod lane;
pub mod ledger;
pub mod policy;
pub mod quiet;
pub mod recall;
pub mod record;
pub mod retry;
pub mod selector;
pub mod step;
#[cfg(test)]
mod step_tests;
pub mod subscription;
pub mod time;

pub use agents::Agents;
pub use deadline::Rule;
pub use grant::{Call, Called, Grant, GrantState};
pub use hold::Hold;
pub use id::{AgentId, Identity, MessageId, Phone, Region, TrafficType, UseCase};
pub use lane::{LaneId, LaneSpec, Place, Position, Queue};
pub use policy::{AppliesTo, Missed, OnUnknown, Policies, Policy};
pub use quiet::QuietHours;
pub use recall::Recall;
pub use record::{Attempts, Belief, Note, Outcome, Record, Seen, State, What};
pub use selector::Selector;
pub use step::{Answer, Event, Input, Report, Step, step};
pub use subscription::Subscription;
pub use time::Timestamp;
