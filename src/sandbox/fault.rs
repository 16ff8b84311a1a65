//! Faults: what can be made to go wrong, and for which requests.
//!
//! A fault is *ordered* for the next requests that fit (`POST /sandbox/faults`, or a scenario's timed action), or it
//! strikes by *chance*, drawn per message and attempt from the seed. What a kind does is said at its variant; what it
//! means on the wire is written in `platform.rs`.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{duration::Written, wire::Operation};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
#[clap(rename_all = "camelCase")]
pub enum FaultKind {
    /// 429, with `Retry-After` when one is set.
    TooManyRequests,
    /// 503, or the status that is set.
    ServerError,
    /// Done at once, answered after a delay: a client with less patience never learns the result.
    Slow,
    /// Done at once, answered when all answers that are held are let go (`POST /sandbox/answers:release`).
    Hold,
    /// Done, then the connection is closed without an answer.
    LoseAnswer,
    /// The connection is closed before anything is done.
    Reset,
    /// Answered 200, and yet the handset shows the message shortly after.
    DeliveredAfterRevoke,
    /// 401, though the token is good.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 400, or the status that is set.
    BadRequest,
    /// 404, though nothing was looked up.
    NotFound,
    /// 200 with a body that isn't JSON, as a captive portal answers; nothing is done.
    Garbage,
    /// 302 to elsewhere; nothing is done.
    Redirect,
    /// 200 with 64 MiB of JSON; nothing is done.
    HugeBody,
    /// The request is read and never answered; nothing is done.
    BlackHole,
    /// A ttl fires and can't revoke: `TTL_EXPIRATION_REVOKE_FAILED`, and the message stays queued.
    TtlRevokeFailed,
}

impl FaultKind {
    /// The name it is drawn by.
    pub(super) fn name(self) -> &'static str {
        match self {
            FaultKind::TooManyRequests => "tooManyRequests",
            FaultKind::ServerError => "serverError",
            FaultKind::Slow => "slow",
            FaultKind::Hold => "hold",
            FaultKind::LoseAnswer => "loseAnswer",
            FaultKind::Reset => "reset",
            FaultKind::DeliveredAfterRevoke => "deliveredAfterRevoke",
            FaultKind::Unauthorized => "unauthorized",
            FaultKind::Forbidden => "forbidden",
            FaultKind::BadRequest => "badRequest",
            FaultKind::NotFound => "notFound",
            FaultKind::Garbage => "garbage",
            FaultKind::Redirect => "redirect",
            FaultKind::HugeBody => "hugeBody",
            FaultKind::BlackHole => "blackHole",
            FaultKind::TtlRevokeFailed => "ttlRevokeFailed",
        }
    }
}

/// A kind of fault with its particulars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The status of a [`FaultKind::ServerError`], 503 if none is given; of a [`FaultKind::BadRequest`], 400 if none is given.
    pub status: Option<u16>,
    /// The text of the `Retry-After` header of a 429 or 5xx.
    pub retry_after: Option<String>,
    /// How slow [`FaultKind::Slow`] is, or how shortly after its 200 a message is shown.
    pub delay: Option<Duration>,
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Fault { kind, status: None, retry_after: None, delay: None }
    }
}

/// A fault that strikes a share of the delete requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Chance {
    /// What strikes.
    pub fault: Fault,
    /// How often, in percent.
    pub percent: f64,
}

impl Chance {
    /// Checks the share.
    pub(super) fn new(kind: FaultKind, percent: f64) -> Result<Self, String> {
        if (0.0..=100.0).contains(&percent) {
            Ok(Chance { fault: kind.into(), percent })
        } else {
            Err(format!("{percent} is not a share in percent"))
        }
    }

    /// Reads `loseAnswer=0.5`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (kind, percent) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form loseAnswer=0.5"))?;
        let kind =
            <FaultKind as clap::ValueEnum>::from_str(kind, false).map_err(|_| format!("there is no fault {kind:?}"))?;
        let percent = percent.parse().map_err(|_| format!("{percent:?} is not a share in percent"))?;
        Chance::new(kind, percent)
    }
}

/// An order for a fault, as the control API and the scenario file write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Order {
    kind: FaultKind,
    #[serde(default = "once")]
    count: u32,
    #[serde(default = "on_delete")]
    on: Operation,
    #[serde(alias = "agent_id")]
    agent_id: Option<String>,
    phone: Option<String>,
    #[serde(alias = "message_id")]
    message_id: Option<String>,
    status: Option<u16>,
    #[serde(alias = "retry_after")]
    retry_after: Option<RetryAfter>,
    delay: Option<Written>,
}

/// Seconds as a number, or any header text (an HTTP date, or something no client should trust).
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum RetryAfter {
    Seconds(u32),
    Text(String),
}

fn once() -> u32 {
    1
}

fn on_delete() -> Operation {
    Operation::Delete
}

impl Order {
    /// Refuses an order that could never strike, or that sets what its kind doesn't use; names the field.
    pub(super) fn check(&self) -> Result<(), String> {
        use FaultKind::{BadRequest, DeliveredAfterRevoke, ServerError, Slow, TooManyRequests, TtlRevokeFailed};
        let unused = |field: &str| Err(format!("{field}: not used by a fault of this kind"));
        if self.count == 0 {
            return Err("count: must be at least 1".into());
        }
        match (self.kind, self.status) {
            (_, None) | (ServerError, Some(500..600)) => {}
            (ServerError, Some(_)) => return Err("status: must be a 5xx".into()),
            // These mean something else, and have kinds of their own.
            (BadRequest, Some(401 | 403 | 404 | 429)) => return Err("status: is of another kind".into()),
            (BadRequest, Some(400..500)) => {}
            (BadRequest, Some(_)) => return Err("status: must be a 4xx".into()),
            (_, Some(_)) => return unused("status"),
        }
        if self.retry_after.is_some() && !matches!(self.kind, TooManyRequests | ServerError) {
            return unused("retryAfter");
        }
        if let Some(RetryAfter::Text(text)) = &self.retry_after
            && hyper::header::HeaderValue::from_str(text).is_err()
        {
            return Err("retryAfter: can't be a header's value".into());
        }
        if self.delay.is_some() && !matches!(self.kind, Slow | DeliveredAfterRevoke) {
            return unused("delay");
        }
        if self.on != Operation::Delete && matches!(self.kind, DeliveredAfterRevoke | TtlRevokeFailed) {
            return unused("on");
        }
        Ok(())
    }

    fn fits(&self, target: &Target<'_>) -> bool {
        fn same(wanted: Option<&String>, given: &str) -> bool {
            wanted.is_none_or(|wanted| wanted == given)
        }
        self.on == target.on
            && same(self.agent_id.as_ref(), target.agent)
            && same(self.phone.as_ref(), target.phone)
            && same(self.message_id.as_ref(), target.message_id)
    }

    fn fault(&self) -> Fault {
        Fault {
            kind: self.kind,
            status: self.status,
            retry_after: self.retry_after.as_ref().map(|after| match after {
                RetryAfter::Seconds(seconds) => seconds.to_string(),
                RetryAfter::Text(text) => text.clone(),
            }),
            delay: self.delay.map(|Written(delay)| delay),
        }
    }
}

/// What a fault can be aimed at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) on: Operation,
    pub(super) agent: &'a str,
    pub(super) phone: &'a str,
    pub(super) message_id: &'a str,
}

/// The orders not used up yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Orders(VecDeque<Order>);

impl Orders {
    /// More than this many open orders is a mistake in a test, not a test.
    const MOST: usize = 10_000;

    pub(super) fn place(&mut self, order: Order) -> Result<(), String> {
        order.check()?;
        if self.0.len() == Self::MOST {
            return Err(format!("kind: {} orders are open already", Self::MOST));
        }
        self.0.push_back(order);
        Ok(())
    }

    /// Uses up one of the oldest order that fits: a request's own fault, or with `ttl` the failure of an expiry.
    pub(super) fn take(&mut self, target: &Target<'_>, ttl: bool) -> Option<Fault> {
        let fits = |order: &Order| (order.kind == FaultKind::TtlRevokeFailed) == ttl && order.fits(target);
        let at = self.0.iter().position(fits)?;
        let order = &mut self.0[at];
        let fault = order.fault();
        order.count -= 1;
        if order.count == 0 {
            self.0.remove(at);
        }
        Some(fault)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'_> = Target { on: Operation::Delete, agent: "shop", phone: "+15550001", message_id: "m1" };

    fn order(json: &str) -> Order {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_order_strikes_as_often_as_it_says_and_only_what_it_is_aimed_at() {
        let mut orders = Orders::default();
        orders.place(order(r#"{"kind":"serverError","count":2,"phone":"+15550001","status":500}"#)).unwrap();
        assert_eq!(orders.take(&Target { phone: "+15550002", ..TARGET }, false), None);
        assert_eq!(orders.take(&Target { on: Operation::Create, ..TARGET }, false), None);
        for _ in 0..2 {
            assert_eq!(orders.take(&TARGET, false).unwrap().status, Some(500));
        }
        assert_eq!(orders.take(&TARGET, false), None);
    }

    #[test]
    fn a_ttl_failure_waits_for_a_ttl() {
        let mut orders = Orders::default();
        orders.place(order(r#"{"kind":"ttlRevokeFailed"}"#)).unwrap();
        assert_eq!(orders.take(&TARGET, false), None);
        assert_eq!(orders.take(&TARGET, true).unwrap().kind, FaultKind::TtlRevokeFailed);
    }

    #[test]
    fn a_retry_after_is_seconds_or_any_text() {
        let mut orders = Orders::default();
        orders.place(order(r#"{"kind":"tooManyRequests","retryAfter":7}"#)).unwrap();
        orders.place(order(r#"{"kind":"tooManyRequests","retryAfter":"Sun, 22 Nov 2026 17:10:00 GMT"}"#)).unwrap();
        assert_eq!(orders.take(&TARGET, false).unwrap().retry_after.unwrap(), "7");
        assert!(orders.take(&TARGET, false).unwrap().retry_after.unwrap().ends_with("GMT"));
    }

    #[test]
    fn an_order_that_makes_no_sense_is_refused_by_the_name_of_its_field() {
        for (json, field) in [
            (r#"{"kind":"slow","count":0}"#, "count"),
            (r#"{"kind":"slow","status":500}"#, "status"),
            (r#"{"kind":"serverError","status":200}"#, "status"),
            (r#"{"kind":"badRequest","status":404}"#, "status"),
            (r#"{"kind":"badRequest","status":500}"#, "status"),
            (r#"{"kind":"reset","retryAfter":1}"#, "retryAfter"),
            (r#"{"kind":"tooManyRequests","retryAfter":"\n"}"#, "retryAfter"),
            (r#"{"kind":"reset","delay":"1s"}"#, "delay"),
            (r#"{"kind":"deliveredAfterRevoke","on":"create"}"#, "on"),
        ] {
            assert!(order(json).check().unwrap_err().starts_with(field), "{json}");
        }
    }

    #[test]
    fn a_chance_is_written_kind_equals_percent() {
        assert_eq!(Chance::parse("loseAnswer=0.5"), Chance::new(FaultKind::LoseAnswer, 0.5));
        for wrong in ["loseAnswer", "loseanswer=1", "slow=101", "slow=-1", "slow=x", "slow=NaN"] {
            assert!(Chance::parse(wrong).is_err(), "{wrong}");
        }
    }
}
