//! How many registrations were refused, and why: counted here and not by the engine, as many never come to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::MethodRouter;

use super::api::{Gate, Shared};
use crate::engine::RefusalKind;

const KINDS: [(RefusalKind, &str); 5] = [
    (RefusalKind::Invalid, "invalid"),
    (RefusalKind::Forbidden, "forbidden"),
    (RefusalKind::NotFound, "not_found"),
    (RefusalKind::Conflict, "conflict"),
    (RefusalKind::Unavailable, "unavailable"),
];

/// Since the start, by kind.
#[derive(Debug, Default)]
pub struct Refused([AtomicU64; KINDS.len()]);

impl Refused {
    pub(super) fn count(&self, kind: RefusalKind) {
        for (count, _) in self.0.iter().zip(KINDS).filter(|(_, (of, _))| *of == kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What metrics call each, and how many there were.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(&self.0).map(|((_, name), count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// What these routes answer is counted, whoever refuses: the body, `[access]` or the engine.
pub(super) fn counted(gate: &Shared, routes: MethodRouter<Shared>) -> MethodRouter<Shared> {
    let count = |State(gate): State<Arc<Gate>>, request: Request, next: Next| async move {
        let answer = next.run(request).await;
        if let Some(kind) = kind(answer.status().as_u16()) {
            gate.refused.count(kind);
        }
        answer
    };
    routes.route_layer(from_fn_with_state(Arc::clone(gate), count))
}

fn kind(code: u16) -> Option<RefusalKind> {
    match code {
        403 => Some(RefusalKind::Forbidden),
        404 => Some(RefusalKind::NotFound),
        409 => Some(RefusalKind::Conflict),
        400..500 => Some(RefusalKind::Invalid),
        500.. => Some(RefusalKind::Unavailable),
        _ => None,
    }
}
