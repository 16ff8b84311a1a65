//! How a message may change: only forward.

use super::{Broken, broken};
use crate::model::record::TRAIL_MAX;
use crate::model::{Belief, GrantState, Outcome, Record, State};

/// Compares what is written with what stood there.
pub(super) fn check(before: &Record, after: &Record) -> Result<(), Broken> {
    let id = &before.identity.message_id;
    let same = (before.seq, before.phone, before.registered_at) == (after.seq, after.phone, after.registered_at);
    broken!(same, "state moves only forward", "{id} is another message: {before:?}, then {after:?}");
    broken!(
        moves(before.state, after.state),
        "state moves only forward",
        "{id}: {:?}, then {:?}",
        before.state,
        after.state
    );
    broken!(
        before.recall.is_none() || before.recall == after.recall || after.recall.is_none() && after.is_settled(),
        "state moves only forward",
        "{id} was of recall {:?}, and is of {:?}",
        before.recall,
        after.recall
    );
    let seen = (!before.seen.delivered || after.seen.delivered) && (!before.seen.ttl_revoked || after.seen.ttl_revoked);
    broken!(seen, "state moves only forward", "{id}: evidence is forgotten");
    let grants = (before.grant.map(|grant| grant.state), after.grant.map(|grant| grant.state));
    broken!(
        grant_moves(grants),
        "state moves only forward",
        "{id}: its grant was {:?}, and is {:?}",
        grants.0,
        grants.1
    );
    broken!(
        after.grant.is_none() || after.is_settled(),
        "a grant comes with an outcome",
        "{id} has one, and is {:?}",
        after.state
    );
    broken!(after.trail.len() <= TRAIL_MAX, "memory has its bounds", "{id} has a trail of {}", after.trail.len());
    Ok(())
}

fn moves(before: State, after: State) -> bool {
    use State::{Pending, Revoking, Settled, Settling};
    match (before, after) {
        // What is out is not written.
        (_, Revoking { in_flight: true, .. }) => false,
        (Pending, _) | (Revoking { .. }, Revoking { .. } | Settling { .. } | Settled { .. }) => true,
        (Settling { belief, .. }, Revoking { .. }) => belief == Belief::ProbablyDelivered,
        (Settling { .. }, Settling { .. } | Settled { .. }) => true,
        (Settled { outcome, at }, Settled { outcome: then, at: then_at }) => {
            let amended = then == Outcome::Delivered
                && matches!(outcome, Outcome::Revoked | Outcome::Unknown | Outcome::Failed | Outcome::Shadow);
            at == then_at && (then == outcome || amended)
        }
        (Revoking { .. } | Settling { .. }, Pending) | (Settled { .. }, _) => false,
    }
}

fn grant_moves(grants: (Option<GrantState>, Option<GrantState>)) -> bool {
    use GrantState::{Held, Offered, Taken, Void, Withdrawn};
    match grants {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(before), Some(after)) => {
            before == after
                || matches!(
                    (before, after),
                    (Held, Offered | Withdrawn | Void)
                        | (Offered, Withdrawn | Void | Taken)
                        | (Withdrawn | Void, Taken)
                )
        }
    }
}
