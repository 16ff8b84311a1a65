//! What is asked of the engine, and when it is answered: not before what the answer rests on is on disk.

use super::core::Core;
use super::handle::{Command, Reply};
use super::replies::Refusal;
use crate::clock::Now;
use crate::store::Store;

impl<S: Store> Core<S> {
    /// Does what is asked.
    pub(super) fn command(&mut self, command: Command, now: Now) {
        match command {
            Command::Register(drafts, reply) => {
                if let Err(error) = self.store.writable() {
                    let _ = reply.send(Err(Refusal::unavailable(error.to_string())));
                    return;
                }
                let results = self.register(drafts, now.wall);
                self.reply_when_durable(reply, results);
            }
            Command::Evidence(evidence, reply) => match self.learn(evidence, now.wall) {
                Ok(effects) => self.reply_when_durable(reply, effects),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Subscription(said, reply) => {
                if let Err(refusal) = self.takes_in() {
                    let _ = reply.send(Err(refusal));
                    return;
                }
                let effect = self.listen(said, now.wall);
                self.reply_when_durable(reply, effect);
            }
            Command::Act(identity, verb, reply) => match self.act(&identity, verb, now.wall) {
                Ok(described) => self.reply_when_durable(reply, described),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Get(identity, reply) => match self.get(&identity) {
                // What is shown may be acted on, a grant above all: not before a crash can't take it back.
                Ok(described) => self.reply_when_durable(reply, described),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::List { filter, limit, after, reply } => match self.list(&filter, limit, after.as_deref()) {
                Ok(page) => self.reply_when_durable(reply, page),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Outcomes { after, limit, agents, reply } => {
                drop(reply.send(self.outcomes(after, limit, agents.as_ref())));
            }
            Command::Ack { agents, cursor, reply } => match self.ack(agents.as_ref(), cursor) {
                Ok(cursor) => self.reply_when_durable(reply, cursor),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Plan(tuning, reply) => drop(reply.send(self.plan(&tuning, now))),
            Command::Retune(tuning, reply) => match self.retune(*tuning, now) {
                Ok(plan) => self.reply_when_durable(reply, plan),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Forecast { step, steps, agents, reply } => {
                drop(reply.send(Ok(self.forecast(step, steps, agents.as_ref(), now.wall))));
            }
            Command::Books(span, reply) => {
                let books = self.books(span, now.wall);
                self.reply_when_durable(reply, books);
            }
            Command::Explain(identity, reply) => match self.explain(&identity, now) {
                Ok(explained) => self.reply_when_durable(reply, explained),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Export(lease, reply) => match self.begin_export(lease, now.wall) {
                Ok(head) => self.reply_when_durable(reply, head),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::ExportSlice(reply) => match self.export_slice() {
                // It may not hold what a crash here could take back.
                Ok(slice) => self.reply_when_durable(reply, slice),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Import(log, items, reply) => {
                if let Err(error) = self.store.writable() {
                    let _ = reply.send(Err(Refusal::unavailable(error.to_string())));
                    return;
                }
                let results = self.import(log, items, now.wall);
                self.reply_when_durable(reply, results);
            }
            Command::Status(agents, reply) => drop(reply.send(Ok(self.status(agents.as_ref(), now)))),
            Command::Hold(of, reason, reply) => {
                let held = self.hold(of, reason, now.wall);
                self.reply_when_done(reply, held);
            }
            Command::Release(which, reply) => {
                let released = self.release(&which, now.wall);
                self.reply_when_done(reply, released);
            }
            Command::Recall(of, reason, reply) => {
                let begun = self.recall(of, reason, now.wall);
                self.reply_when_done(reply, begun);
            }
            Command::Survey(survey, reply) => {
                let counted = self.survey(*survey, now).map_err(|error| Refusal::unavailable(error.to_string()));
                drop(reply.send(counted));
            }
            Command::Recalls(None, reply) => self.reply_when_durable(reply, self.recalls.all()),
            Command::Recalls(Some(id), reply) => {
                let found = self.recall_status(id).map(|recall| vec![recall]);
                self.reply_when_done(reply, found);
            }
            Command::Received { id, limit, after, reply } => {
                let page = self.received(id, limit, after.as_deref());
                self.reply_when_done(reply, page);
            }
            Command::AcceptClock(reply) => {
                let accepted = self.accept_clock(now);
                self.reply_when_done(reply, accepted);
            }
            Command::Holds(reply) => drop(reply.send(Ok(self.holds()))),
        }
    }

    /// A refusal needs no disk.
    fn reply_when_done<T: Send + 'static>(&mut self, reply: Reply<T>, done: Result<T, Refusal>) {
        match done {
            Ok(value) => self.reply_when_durable(reply, value),
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    /// Answers when everything written so far is on disk: also what was only read may not be older than that.
    fn reply_when_durable<T: Send + 'static>(&mut self, reply: Reply<T>, value: T) {
        if self.last_ticket <= self.durable_ticket {
            let _ = reply.send(Ok(value));
            return;
        }
        let waiter = move |written: Result<(), Refusal>| drop(reply.send(written.map(|()| value)));
        self.store.hurry();
        self.waiting.push_back((self.last_ticket, Box::new(waiter)));
    }
}
