//! The platform's own books: when the first DELETE of a message came in, told by the other side's clock reading.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::rig::Rig;
use crate::model::Timestamp;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Book {
    message_id: String,
    delete_requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Books {
    messages: Vec<Book>,
}

/// When the first DELETE of each message came in, of those that were sent through the platform.
pub(super) async fn first_deletes(rig: &Rig) -> anyhow::Result<BTreeMap<String, DateTime<Utc>>> {
    let books: Books = rig.ask_platform("messages").await?;
    let first = |book: Book| Some((book.message_id, book.delete_requests.first()?.at));
    Ok(books.messages.into_iter().filter_map(first).collect())
}

/// How long after its deadline, in microseconds.
pub(super) fn micros_late(at: DateTime<Utc>, deadline: Timestamp) -> u64 {
    let late = (at - deadline.to_chrono()).num_microseconds().unwrap_or(i64::MAX);
    u64::try_from(late).unwrap_or(0)
}
