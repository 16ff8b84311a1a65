//! What the world tells: events made from what happened, and sent on their way, or lost, doubled and delayed.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    feed::{self, About},
    options::Options,
    world::{Task, World, parts},
};

impl World {
    /// What a handset says of a message.
    pub(super) fn user_event(&mut self, key: &str, event_type: &str, now: DateTime<Utc>) {
        let Some(message) = self.messages.get(key) else { return };
        let phone = Arc::clone(&message.phone);
        let (agent, message_id) = parts(key);
        let event_id = self.event_id(event_type, key);
        let about = About { agent, phone: &phone, message_id, event_id: &event_id };
        self.emit(feed::user_event(event_type, about, now), key, event_type, now);
    }

    /// What the platform says of a message itself.
    pub(super) fn server_event(&mut self, key: &str, phone: &str, event_type: &str, now: DateTime<Utc>) {
        let (agent, message_id) = parts(key);
        let event_id = self.event_id(event_type, key);
        let about = About { agent, phone, message_id, event_id: &event_id };
        self.emit(feed::server_event(event_type, about, now), key, event_type, now);
    }

    fn event_id(&self, event_type: &str, key: &str) -> String {
        let bytes = self.dice.rng(event_type, key, 0).u128(..).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// Sends an event on its way, or loses, doubles or delays it as the options want.
    fn emit(&mut self, data: Vec<u8>, key: &str, event_type: &str, now: DateTime<Utc>) {
        let Options { events_lost, events_duplicated, events_delayed, events_delay, .. } = self.options;
        let name = format!("{event_type} {key}");
        let happens = |percent, what| self.dice.chance(percent, what, &name, 0);
        let (lost, twice, late) = (
            happens(events_lost, "lost"),
            happens(events_duplicated, "duplicated"),
            happens(events_delayed, "delayed"),
        );
        let envelope_id = (self.dice.rng("envelope", &name, 0).u64(..) >> 4).to_string();
        if lost {
            self.stats.events_lost += 1;
            return;
        }
        if twice {
            self.publish(envelope_id.clone(), data.clone(), now);
        }
        if late {
            self.plan(now + events_delay, Task::Publish { envelope_id, data });
        } else {
            self.publish(envelope_id, data, now);
        }
    }

    /// Pushes any payload, as it is.
    pub(super) fn publish(&mut self, envelope_id: String, data: Vec<u8>, now: DateTime<Utc>) {
        self.stats.events += 1;
        self.feed.publish(envelope_id, data, now);
    }
}
