//! Events on their way out: the payloads, the signed envelope, and the numbered feed that both the webhook's pushes and
//! `GET /sandbox/events` read from.

use std::{collections::VecDeque, sync::Arc};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The end of an agent's name in events; requests carry the name without it.
pub(super) const AGENT_DOMAIN: &str = "@rbm.goog";

/// What an event is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) agent: &'a str,
    pub(super) phone: &'a str,
    pub(super) message_id: &'a str,
    pub(super) event_id: &'a str,
}

/// A handset's event: `DELIVERED` or `READ`.
pub(super) fn user_event(event_type: &str, about: About<'_>, now: DateTime<Utc>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct UserEvent<'a> {
        sender_phone_number: &'a str,
        event_type: &'a str,
        event_id: &'a str,
        message_id: &'a str,
        agent_id: String,
        send_time: String,
    }
    bytes(&UserEvent {
        sender_phone_number: about.phone,
        event_type,
        event_id: about.event_id,
        message_id: about.message_id,
        agent_id: format!("{}{AGENT_DOMAIN}", about.agent),
        send_time: timestamp(now),
    })
}

/// The platform's own event: the end of a ttl.
pub(super) fn server_event(event_type: &str, about: About<'_>, now: DateTime<Utc>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ServerEvent<'a> {
        phone_number: &'a str,
        message_id: &'a str,
        agent_id: String,
        event_type: &'a str,
        event_id: &'a str,
        send_time: String,
    }
    bytes(&ServerEvent {
        phone_number: about.phone,
        message_id: about.message_id,
        agent_id: format!("{}{AGENT_DOMAIN}", about.agent),
        event_type,
        event_id: about.event_id,
        send_time: timestamp(now),
    })
}

fn bytes(event: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(event).expect("a struct of strings always serializes")
}

/// An instant as the platform writes it.
pub(super) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The platform's signature of an event: standard base64 of an HMAC-SHA512 over the payload's own bytes.
pub(super) fn sign(client_token: &str, data: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA512, client_token.as_bytes());
    STANDARD.encode(hmac::sign(&key, data))
}

/// An event as it was published.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) number: u64,
    /// The envelope's own id: the same for every push of the same event.
    pub(super) envelope_id: String,
    pub(super) at: DateTime<Utc>,
    /// The event's JSON: what is signed.
    pub(super) data: Vec<u8>,
}

impl Published {
    /// The body of a push.
    pub(super) fn envelope(&self) -> Value {
        json!({
            "message": {
                "data": STANDARD.encode(&self.data),
                "attributes": {"product": "RBM", "type": "event"},
                "messageId": self.envelope_id,
                "publishTime": timestamp(self.at),
            },
            "subscription": "projects/revoked-sandbox/subscriptions/webhook",
        })
    }
}

/// The events published so far, numbered from 1; the oldest fall out.
#[derive(Debug)]
pub(super) struct Feed {
    events: VecDeque<Arc<Published>>,
    last: watch::Sender<u64>,
}

impl Feed {
    /// How many events are kept for a webhook that is down or a reader that is slow.
    const KEPT: usize = 200_000;

    pub(super) fn new() -> Self {
        Feed { events: VecDeque::new(), last: watch::Sender::new(0) }
    }

    /// Appends an event and wakes all who wait for one.
    pub(super) fn publish(&mut self, envelope_id: String, data: Vec<u8>, now: DateTime<Utc>) {
        let number = *self.last.borrow() + 1;
        if self.events.len() == Self::KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(Published { number, envelope_id, at: now, data }));
        self.last.send_replace(number);
    }

    /// At most `most` events with a number above `after`, in order.
    pub(super) fn after(&self, after: u64, most: usize) -> Vec<Arc<Published>> {
        let first = self.events.front().map_or(1, |event| event.number);
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip).take(most).map(Arc::clone).collect()
    }

    /// The number of the last event, now and whenever it changes.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Forgets the events but goes on counting, so that a reader's place stays good.
    pub(super) fn clear(&mut self) {
        self.events.clear();
    }

    /// Wakes the readers though nothing was published, since something else changed for them.
    pub(super) fn nudge(&self) {
        self.last.send_modify(|_| ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "SJENCPGJESMGUFPY";

    #[test]
    fn signatures_match_the_vectors_computed_elsewhere() {
        for (data, signature) in [
            (
                "eyJzZW5kZXJQaG9uZU51bWJlciI6IisxMjIyMzMzNDQ0NCIsImV2ZW50VHlwZSI6IkRFTElWRVJFRCIsImV2ZW50SWQiOiJNeEV2dC0wMDAxIiwibWVzc2FnZUlkIjoiOGYxNGU0NWYtY2VlYS00NjdmLWEwYTYtMWYwZTZiMGYzYTExIiwiYWdlbnRJZCI6IndlbGNvbWUtYm90QHJibS5nb29nIiwic2VuZFRpbWUiOiIyMDI2LTExLTIyVDE3OjAwOjAwLjEyMzQ1NloifQ==",
                "Pg0iCrZ72t00N1Z7zYoRcDgdRqGXtzMRtFKbxrqmDw/eqOjzK6o0E9zV+1Dy7z8SVSGkrYoAc0eEPE1J3Zov8g==",
            ),
            (
                "eyJwaG9uZU51bWJlciI6IisxMjIyMzMzNDQ0NCIsIm1lc3NhZ2VJZCI6IjhmMTRlNDVmLWNlZWEtNDY3Zi1hMGE2LTFmMGU2YjBmM2ExMSIsImFnZW50SWQiOiJ3ZWxjb21lLWJvdEByYm0uZ29vZyIsImV2ZW50VHlwZSI6IlRUTF9FWFBJUkFUSU9OX1JFVk9LRUQiLCJldmVudElkIjoic3J2LTAwMDEiLCJzZW5kVGltZSI6IjIwMjYtMTEtMjJUMTc6MTA6MDAuNTAwWiJ9",
                "QvkeeUEUEddhBSStTDtol45eGrpP6lmKvJoO2Ce/RUZ7Wi0z33uxR0LeN666RqGlod1tv/Yt/M9Au2VrMV0y0w==",
            ),
        ] {
            assert_eq!(sign(KEY, &STANDARD.decode(data).unwrap()), signature);
        }
    }

    #[test]
    fn a_user_event_has_the_fields_of_the_first_vector_in_its_order() {
        let at = "2026-11-22T17:00:00.123456Z".parse().unwrap();
        let about = About {
            agent: "welcome-bot",
            phone: "+12223334444",
            message_id: "8f14e45f-ceea-467f-a0a6-1f0e6b0f3a11",
            event_id: "MxEvt-0001",
        };
        assert_eq!(
            sign(KEY, &user_event("DELIVERED", about, at)),
            "Pg0iCrZ72t00N1Z7zYoRcDgdRqGXtzMRtFKbxrqmDw/eqOjzK6o0E9zV+1Dy7z8SVSGkrYoAc0eEPE1J3Zov8g==",
        );
    }

    #[test]
    fn the_feed_is_read_from_any_place_and_clearing_keeps_the_count() {
        let mut feed = Feed::new();
        let now = DateTime::UNIX_EPOCH;
        let numbers = |feed: &Feed, after| feed.after(after, 10).iter().map(|e| e.number).collect::<Vec<_>>();
        for n in 0..3 {
            feed.publish(format!("e{n}"), Vec::new(), now);
        }
        assert_eq!(numbers(&feed, 0), [1, 2, 3]);
        assert_eq!(numbers(&feed, 2), [3]);
        assert_eq!(numbers(&feed, 9), [0; 0]);
        feed.clear();
        feed.publish("e4".into(), Vec::new(), now);
        assert_eq!(numbers(&feed, 0), [4]);
        assert_eq!(numbers(&feed, u64::MAX - 1), [0; 0]);
    }
}
