//! The world behind the API: messages, handsets, and what happens to them as time passes.
//!
//! It is a simulation without a clock: each method is told what time it is, and [`World::settle`] lets everything happen
//! that was due by then. Whoever holds the world settles it first and acts second, so a message whose delivery was due a
//! moment before a DELETE is delivered when the DELETE looks, whether or not a timer has run in between.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::{
    books::{DeleteRequest, MessageBook, State, Stats},
    fault::{FaultKind, Orders, Target},
    feed::Feed,
    handset::{Behaviour, Handset},
    options::Options,
    pace::Paces,
    platform::Outage,
    scenario::Happening,
    token::Tokens,
    wire::Operation,
};
use crate::dice::Dice;

/// A message's key, `agentId/messageId`: neither part can contain a slash.
pub(super) type Key = Arc<str>;

/// An online handset shows a message after a time between these.
const ONLINE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(80));
/// A message that is read is read this long after it was shown.
const READ: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));
/// A message that is delivered although its DELETE was answered 200 is shown this long after.
const SHOWN_ANYWAY: Duration = Duration::from_millis(300);

/// A message in the platform's books.
#[derive(Debug)]
pub(super) struct Message {
    number: u64,
    pub(super) phone: Arc<str>,
    pub(super) state: State,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    shown_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    /// How many DELETEs there were, kept or not.
    deletes: u64,
    delete_requests: Vec<DeleteRequest>,
    /// The answer to its create, given again when the id is used again.
    pub(super) created_answer: Arc<str>,
}

/// What is to happen at some time.
#[derive(Debug)]
pub(super) enum Task {
    Show { key: Key, era: u32 },
    ShowAnyway { key: Key },
    Read { key: Key },
    Expire { key: Key },
    Return { phone: Arc<str>, era: u32 },
    Publish { envelope_id: String, data: Vec<u8> },
    Happen(Happening),
}

/// All that exists in the sandbox.
pub(super) struct World {
    pub(super) options: Options,
    pub(super) dice: Dice,
    pub(super) messages: HashMap<Key, Message>,
    handsets: HashMap<Arc<str>, Handset>,
    agenda: BTreeMap<(DateTime<Utc>, u64), Task>,
    /// Numbers messages and breaks ties in the agenda.
    counter: u64,
    pub(super) orders: Orders,
    pub(super) outage: Outage,
    pub(super) answers_held: watch::Sender<()>,
    pub(super) paces: Paces,
    pub(super) tokens: Tokens,
    pub(super) feed: Feed,
    pub(super) stats: Stats,
}

/// A message to be created.
pub(super) struct NewMessage<'a> {
    pub(super) agent: &'a str,
    pub(super) phone: &'a str,
    pub(super) message_id: &'a str,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) answer: String,
}

impl World {
    pub(super) fn new(mut options: Options, tokens: Tokens, now: DateTime<Utc>) -> Self {
        let actions = std::mem::take(&mut options.actions);
        let mut world = World {
            dice: Dice::new(options.seed),
            messages: HashMap::new(),
            handsets: HashMap::new(),
            agenda: BTreeMap::new(),
            counter: 0,
            orders: Orders::default(),
            outage: Outage::None,
            answers_held: watch::Sender::new(()),
            paces: Paces::new(options.rate),
            tokens,
            feed: Feed::new(),
            stats: Stats::default(),
            options,
        };
        for action in actions {
            world.plan(now + action.after, Task::Happen(action.happening));
        }
        world
    }

    /// Empties the books and puts every handset back to the behaviour drawn for it. Tokens stay good, readers of the
    /// events keep their place, and timed actions that are still to come still come.
    pub(super) fn reset(&mut self) {
        self.messages.clear();
        self.handsets.clear();
        self.agenda.retain(|_, task| matches!(task, Task::Happen(_)));
        self.orders.clear();
        self.outage = Outage::None;
        self.paces = Paces::new(self.options.rate);
        self.feed.clear();
        self.stats = Stats::default();
    }

    /// When something happens next by itself.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.agenda.first_key_value().map(|((due, _), _)| *due)
    }

    /// Nothing is planned, and no event waits for the webhook.
    pub(super) fn is_at_rest(&self) -> bool {
        self.agenda.is_empty() && self.stats.pushes + self.stats.pushes_given_up >= self.stats.events
    }

    /// Lets happen what was due by `now`.
    pub(super) fn settle(&mut self, now: DateTime<Utc>) {
        while let Some(first) = self.agenda.first_entry().filter(|first| first.key().0 <= now) {
            let ((due, _), task) = first.remove_entry();
            self.perform(task, due);
        }
    }

    pub(super) fn plan(&mut self, due: DateTime<Utc>, task: Task) {
        self.counter += 1;
        self.agenda.insert((due, self.counter), task);
    }

    fn perform(&mut self, task: Task, now: DateTime<Utc>) {
        match task {
            Task::Show { key, era } => {
                let message = self.messages.get(&key).filter(|message| message.state == State::Queued);
                let handset = message.and_then(|message| self.handsets.get(&message.phone));
                if handset.is_some_and(|handset| handset.era == era) {
                    self.show(&key, now);
                }
            }
            Task::ShowAnyway { key } => self.show(&key, now),
            Task::Read { key } => self.user_event(&key, "READ", now),
            Task::Expire { key } => self.expire(&key, now),
            Task::Return { phone, era } => {
                if self.handsets.get(&phone).is_some_and(|handset| handset.era == era) {
                    self.connect(&phone, now);
                }
            }
            Task::Publish { envelope_id, data } => self.publish(envelope_id, data, now),
            Task::Happen(happening) => self.happen(happening, now),
        }
    }

    /// Finds a message.
    pub(super) fn message(&self, agent: &str, message_id: &str) -> Option<&Message> {
        self.messages.get(format!("{agent}/{message_id}").as_str())
    }

    /// Whether chance has it that a message is shown before its create is answered, if its handset is reachable.
    pub(super) fn is_early(&self, agent: &str, message_id: &str) -> bool {
        self.dice.chance(self.options.early_events, "early", &format!("{agent}/{message_id}"), 0)
    }

    /// Puts a message into the queue of its handset. `at_once` shows it before this returns, if the handset is
    /// reachable: then its event is out before create has answered.
    pub(super) fn create(&mut self, new: NewMessage<'_>, at_once: bool, now: DateTime<Utc>) {
        self.stats.creates += 1;
        self.counter += 1;
        let number = self.counter;
        let key: Key = format!("{}/{}", new.agent, new.message_id).into();
        let phone: Arc<str> = new.phone.into();
        let message = Message {
            number,
            phone: Arc::clone(&phone),
            state: State::Queued,
            created_at: now,
            expires_at: new.expires_at,
            shown_at: None,
            revoked_at: None,
            deletes: 0,
            delete_requests: Vec::new(),
            created_answer: new.answer.into(),
        };
        self.messages.insert(Arc::clone(&key), message);
        if let Some(expires_at) = new.expires_at {
            self.plan(expires_at, Task::Expire { key: Arc::clone(&key) });
        }
        let handset = self.handset(&phone, now);
        handset.waiting.insert(number, Arc::clone(&key));
        match (handset.behaviour, handset.era) {
            (Behaviour::Online | Behaviour::Slow(_), _) if at_once => self.show(&key, now),
            (behaviour, era) => self.plan_showing(&key, behaviour, era, now),
        }
    }

    /// The handset with this number; it comes into being with its first message.
    fn handset(&mut self, phone: &Arc<str>, now: DateTime<Utc>) -> &mut Handset {
        if !self.handsets.contains_key(phone) {
            let Options { handsets, slow_delay, returns_after, .. } = self.options;
            let behaviour = handsets.draw(self.dice, phone, slow_delay, returns_after);
            self.handsets.insert(Arc::clone(phone), Handset::new(behaviour));
            if let Behaviour::Returns(after) = behaviour {
                self.plan(now + after, Task::Return { phone: Arc::clone(phone), era: 0 });
            }
        }
        self.handsets.get_mut(phone).expect("inserted above if it was missing")
    }

    fn plan_showing(&mut self, key: &Key, behaviour: Behaviour, era: u32, now: DateTime<Utc>) {
        let wait = match behaviour {
            Behaviour::Online => self.dice.wait(ONLINE.0, ONLINE.1, "online", key),
            Behaviour::Slow(delay) => delay,
            Behaviour::Offline | Behaviour::Returns(_) => return,
        };
        self.plan(now + wait, Task::Show { key: Arc::clone(key), era });
    }

    /// Changes a handset's behaviour, for what waits already too.
    pub(super) fn set_handset(&mut self, phone: &str, behaviour: Behaviour, now: DateTime<Utc>) {
        let phone: Arc<str> = phone.into();
        let handset = self.handset(&phone, now);
        handset.behaviour = behaviour;
        handset.era += 1;
        let era = handset.era;
        let waiting: Vec<Key> = handset.waiting.values().cloned().collect();
        for key in &waiting {
            self.plan_showing(key, behaviour, era, now);
        }
        if let Behaviour::Returns(after) = behaviour {
            self.plan(now + after, Task::Return { phone, era });
        }
    }

    /// Brings a handset online now and shows it what waits.
    pub(super) fn connect(&mut self, phone: &str, now: DateTime<Utc>) {
        let phone: Arc<str> = phone.into();
        let handset = self.handset(&phone, now);
        handset.behaviour = Behaviour::Online;
        handset.era += 1;
        let waiting: Vec<Key> = handset.waiting.values().cloned().collect();
        for key in &waiting {
            self.show(key, now);
        }
    }

    /// Takes a message out of its queue; `false` if it isn't in one.
    pub(super) fn revoke(&mut self, agent: &str, phone: &str, message_id: &str, now: DateTime<Utc>) -> bool {
        let key = format!("{agent}/{message_id}");
        let Some(message) = self.messages.get_mut(key.as_str()) else { return false };
        if message.state != State::Queued || *message.phone != *phone {
            return false;
        }
        message.state = State::Revoked;
        message.revoked_at = Some(now);
        self.leave_queue(&key);
        true
    }

    /// Lets a handset show a message although it was revoked.
    pub(super) fn show_anyway(&mut self, agent: &str, message_id: &str, delay: Option<Duration>, now: DateTime<Utc>) {
        let key = format!("{agent}/{message_id}").into();
        self.plan(now + delay.unwrap_or(SHOWN_ANYWAY), Task::ShowAnyway { key });
    }

    /// Counts a DELETE of a message and tells which one it is; `None` if there is no such message.
    pub(super) fn count_delete(&mut self, agent: &str, message_id: &str) -> Option<u64> {
        let message = self.messages.get_mut(format!("{agent}/{message_id}").as_str())?;
        message.deletes += 1;
        Some(message.deletes)
    }

    /// Notes how a DELETE of a message was answered.
    pub(super) fn note_delete(&mut self, agent: &str, message_id: &str, request: DeleteRequest) {
        let message = self.messages.get_mut(format!("{agent}/{message_id}").as_str());
        if let Some(message) = message.filter(|m| m.delete_requests.len() < MessageBook::REQUESTS_KEPT) {
            message.delete_requests.push(request);
        }
    }

    fn show(&mut self, key: &str, now: DateTime<Utc>) {
        let Some(message) = self.messages.get_mut(key) else { return };
        if message.shown_at.is_some() {
            return;
        }
        message.state = State::Delivered;
        message.shown_at = Some(now);
        self.stats.shown += 1;
        self.leave_queue(key);
        let Options { read, read_only, .. } = self.options;
        if self.dice.chance(read_only, "read only", key, 0) {
            return self.user_event(key, "READ", now);
        }
        self.user_event(key, "DELIVERED", now);
        if self.dice.chance(read, "read", key, 0) {
            let wait = self.dice.wait(READ.0, READ.1, "read after", key);
            self.plan(now + wait, Task::Read { key: key.into() });
        }
    }

    fn expire(&mut self, key: &str, now: DateTime<Utc>) {
        let Some(message) = self.messages.get(key).filter(|message| message.state == State::Queued) else { return };
        let phone = Arc::clone(&message.phone);
        let (agent, message_id) = parts(key);
        let target = Target { on: Operation::Delete, agent, phone: &phone, message_id };
        let by_chance = self.options.faults.iter().any(|chance| {
            chance.fault.kind == FaultKind::TtlRevokeFailed && self.dice.chance(chance.percent, "ttl", key, 0)
        });
        let failed = by_chance || self.orders.take(&target, true).is_some();
        let event_type = if failed { "TTL_EXPIRATION_REVOKE_FAILED" } else { "TTL_EXPIRATION_REVOKED" };
        if failed {
            *self.stats.faults.entry(FaultKind::TtlRevokeFailed).or_default() += 1;
        } else {
            if let Some(message) = self.messages.get_mut(key) {
                message.state = State::Expired;
            }
            self.leave_queue(key);
        }
        self.server_event(key, &phone, event_type, now);
    }

    fn leave_queue(&mut self, key: &str) {
        let Some(message) = self.messages.get(key) else { return };
        if let Some(handset) = self.handsets.get_mut(&message.phone) {
            handset.waiting.remove(&message.number);
        }
    }

    /// The book of one message.
    pub(super) fn book(&self, agent: &str, message_id: &str) -> Option<MessageBook> {
        let (key, message) = self.messages.get_key_value(format!("{agent}/{message_id}").as_str())?;
        Some(book(key, message))
    }

    /// The books of all messages, in the order they were created.
    pub(super) fn books(&self) -> Vec<MessageBook> {
        let mut messages: Vec<_> = self.messages.iter().collect();
        messages.sort_unstable_by_key(|(_, message)| message.number);
        messages.into_iter().map(|(key, message)| book(key, message)).collect()
    }
}

pub(super) fn parts(key: &str) -> (&str, &str) {
    key.split_once('/').expect("keys are made of two parts and a slash")
}

fn book(key: &str, message: &Message) -> MessageBook {
    let (agent_id, message_id) = parts(key);
    MessageBook {
        agent_id: agent_id.into(),
        phone: message.phone.to_string(),
        message_id: message_id.into(),
        state: message.state,
        created_at: message.created_at,
        expires_at: message.expires_at,
        shown_at: message.shown_at,
        revoked_at: message.revoked_at,
        delete_requests: message.delete_requests.clone(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::sandbox::key::AccountKey;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn world(options: Options) -> World {
        let key = AccountKey::provide(None, "http://127.0.0.1:1").unwrap();
        let tokens = Tokens::new(&key, "http://127.0.0.1:1", options.token_lifetime, Dice::new(1));
        World::new(options, tokens, start())
    }

    fn create(world: &mut World, phone: &str, message_id: &str, expires_at: Option<DateTime<Utc>>) {
        let new = NewMessage { agent: "shop", phone, message_id, expires_at, answer: String::new() };
        world.create(new, false, start());
    }

    fn events(world: &World) -> Vec<String> {
        let event_type = |data: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(data).unwrap()["eventType"].as_str().unwrap().to_owned()
        };
        world.feed.after(0, 100).iter().map(|event| event_type(&event.data)).collect()
    }

    #[test]
    fn what_was_due_before_a_delete_has_happened_when_it_looks() {
        let mut world = world(Options::default());
        create(&mut world, "+15550100", "m1", None);
        let due = world.next_due().unwrap();
        let later = due + TimeDelta::hours(1);
        world.settle(later);
        assert!(!world.revoke("shop", "+15550100", "m1", later));
        assert_eq!(
            world.book("shop", "m1").unwrap().shown_at,
            Some(due),
            "shown when it was due, not when it was seen"
        );
    }

    #[test]
    fn a_revoked_message_is_shown_by_no_handset_and_expires_by_no_ttl() {
        let mut world = world(Options::default());
        create(&mut world, "+15550100", "m1", Some(start() + TimeDelta::seconds(10)));
        assert!(world.revoke("shop", "+15550100", "m1", start()));
        world.connect("+15550100", start());
        world.settle(start() + TimeDelta::days(1));
        assert_eq!(world.book("shop", "m1").unwrap().state, State::Revoked);
        assert!(events(&world).is_empty());
    }

    #[test]
    fn a_handset_that_went_offline_shows_what_was_on_its_way_only_when_it_is_back() {
        let mut world = world(Options::default());
        create(&mut world, "+15550100", "m1", None);
        create(&mut world, "+15550100", "m2", None);
        world.set_handset("+15550100", Behaviour::Offline, start());
        world.settle(start() + TimeDelta::days(1));
        assert!(events(&world).is_empty());
        world.set_handset("+15550100", Behaviour::Returns(Duration::from_secs(60)), start() + TimeDelta::days(1));
        world.settle(start() + TimeDelta::days(2));
        assert_eq!(events(&world), ["DELIVERED", "DELIVERED"]);
        let shown = |id| world.book("shop", id).unwrap().shown_at.unwrap() - start();
        assert_eq!((shown("m1"), shown("m1")), (TimeDelta::seconds(86_460), shown("m2")));
    }

    #[test]
    fn a_delete_for_another_phone_or_agent_touches_nothing() {
        let mut world = world(Options { handsets: "offline=100".parse().unwrap(), ..Options::default() });
        create(&mut world, "+15550100", "m1", None);
        assert!(!world.revoke("shop", "+15550101", "m1", start()));
        assert!(!world.revoke("bank", "+15550100", "m1", start()));
        assert_eq!(world.book("shop", "m1").unwrap().state, State::Queued);
    }

    #[test]
    fn events_are_lost_doubled_and_delayed_as_the_options_want() {
        let published = |options: Options, seconds| {
            let mut world = world(options);
            create(&mut world, "+15550100", "m1", None);
            world.settle(start() + TimeDelta::seconds(seconds));
            events(&world).len()
        };
        assert_eq!(published(Options { events_lost: 100.0, ..Options::default() }, 9), 0);
        assert_eq!(published(Options { events_duplicated: 100.0, ..Options::default() }, 9), 2);
        let delayed = Options { events_delayed: 100.0, events_delay: Duration::from_secs(5), ..Options::default() };
        assert_eq!((published(delayed.clone(), 4), published(delayed, 9)), (0, 1));
        assert_eq!(published(Options { read: 100.0, ..Options::default() }, 9), 2);
    }
}
