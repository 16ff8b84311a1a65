//! What is asked of the daemon, through the same door as the servers' requests, and what it says.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::plan::Plan;
use crate::engine::{
    Books, Described, Draft, Evidence, EvidenceEffect, Filter, Handle, Outcomes, Refusal, Registered,
    Said as Subscribed, Status, Verb, Which,
};
use crate::model::{AgentId, Agents, Identity, Recall, Selector};
use crate::store::Cursor;

/// How far back the books are looked into.
pub(super) const BOOKS: Duration = Duration::from_secs(7 * 24 * 3600);

/// A request.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Register(Vec<Draft>),
    Tell(Evidence),
    Subscribe(Subscribed),
    Do(Identity, Verb),
    Hold(Selector),
    Release(Selector),
    Recall(Selector),
    Reload(usize),
    Acknowledge(Option<AgentId>, Cursor),
    /// Outcomes behind a cursor, for one of the readers.
    Read {
        reader: usize,
        agent: Option<AgentId>,
        after: Cursor,
        limit: usize,
    },
    /// Everything there is to see; only that it is answered counts.
    Look,
    Status,
    /// Every message as it is.
    List,
    Recalls,
    Books,
    /// Somebody says that the clock is right.
    AcceptClock,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(super) enum Said {
    Registered(Vec<Result<Registered, Refusal>>),
    Learnt(Vec<EvidenceEffect>),
    /// Of a subscription.
    Heard(EvidenceEffect),
    Done,
    Held,
    Released,
    /// The number of the recall.
    Recalled(u64),
    Reloaded,
    Noted,
    Read(Outcomes),
    Looked,
    Status(Box<Status>),
    Listed(Vec<Described>),
    Recalls(Vec<Recall>),
    Books(Books),
    Accepted,
}

type Answering = Pin<Box<dyn Future<Output = Result<Said, Refusal>>>>;

/// A request that is not answered yet.
pub(super) struct Asked {
    pub request: Request,
    /// Under which number the oracle knows it.
    pub word: usize,
    /// How often it was asked before.
    pub tries: u32,
    /// No round has been taken since.
    pub is_new: bool,
    pub answer: Option<Result<Said, Refusal>>,
    answering: Answering,
}

impl Asked {
    pub(super) fn new(request: Request, word: usize, tries: u32, handle: Handle, plan: &Plan) -> Self {
        let answering = ask(request.clone(), handle, plan);
        Self { request, word, tries, is_new: true, answer: None, answering }
    }

    /// Whether the answer is there. The first look is what sends the request.
    pub(super) fn look(&mut self) -> bool {
        if self.answer.is_none()
            && let Poll::Ready(answer) = self.answering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.answer = Some(answer);
        }
        self.answer.is_some()
    }
}

fn ask(request: Request, handle: Handle, plan: &Plan) -> Answering {
    match request {
        Request::Register(drafts) => Box::pin(async move { handle.register(drafts).await.map(Said::Registered) }),
        Request::Tell(evidence) => Box::pin(async move { handle.evidence(vec![evidence]).await.map(Said::Learnt) }),
        Request::Subscribe(said) => Box::pin(async move { handle.subscription(said).await.map(Said::Heard) }),
        Request::Do(identity, verb) => Box::pin(async move { handle.act(identity, verb).await.map(|_| Said::Done) }),
        Request::Hold(of) => Box::pin(async move { handle.hold(of, None).await.map(|_| Said::Held) }),
        Request::Release(of) => Box::pin(async move { handle.release(Which::Of(of)).await.map(|_| Said::Released) }),
        Request::Recall(of) => {
            Box::pin(async move { handle.recall(of, None).await.map(|recall| Said::Recalled(recall.id)) })
        }
        Request::Reload(n) => {
            let tuning = plan.tunings[n].clone();
            Box::pin(async move { handle.retune(tuning).await.map(|_| Said::Reloaded) })
        }
        Request::Acknowledge(agent, cursor) => {
            Box::pin(async move { handle.ack(agent.map(only), cursor).await.map(|_| Said::Noted) })
        }
        Request::Read { agent, after, limit, .. } => {
            Box::pin(async move { handle.outcomes(Some(after), limit, agent.map(only)).await.map(Said::Read) })
        }
        Request::Look => {
            let tuning = plan.tunings[plan.tunings.len() - 1].clone();
            Box::pin(async move {
                // Nothing waits for the first before the last is asked, but that a page is turned.
                let mut after = None;
                loop {
                    let page = handle.list(Filter::default(), 7, after).await?;
                    for message in &page.messages {
                        handle.explain(message.record.identity.clone()).await.map(drop).or_else(gone)?;
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                handle.forecast(Duration::from_secs(60), 30, None).await?;
                handle.plan(tuning).await.map(drop).or_else(gone)?;
                handle.books(BOOKS).await?;
                handle.holds().await?;
                handle.recalls(None).await?;
                Ok(Said::Looked)
            })
        }
        Request::AcceptClock => Box::pin(async move { handle.accept_clock().await.map(|_| Said::Accepted) }),
        Request::Recalls => Box::pin(async move { handle.recalls(None).await.map(Said::Recalls) }),
        Request::Books => Box::pin(async move { handle.books(BOOKS).await.map(Said::Books) }),
        Request::List => {
            Box::pin(
                async move { handle.list(Filter::default(), 1000, None).await.map(|page| Said::Listed(page.messages)) },
            )
        }
        Request::Status => {
            Box::pin(async move { handle.status(None).await.map(|status| Said::Status(Box::new(status))) })
        }
    }
}

/// One agent, and no other.
fn only(agent: AgentId) -> Agents {
    [agent].into_iter().collect()
}

/// What is not there any more, or may not be done: no wonder.
fn gone(refusal: Refusal) -> Result<(), Refusal> {
    use crate::engine::RefusalKind::{Conflict, NotFound};
    if matches!(refusal.kind, NotFound | Conflict) { Ok(()) } else { Err(refusal) }
}
