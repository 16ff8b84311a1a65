//! Taking in the body of a request: within bounds of size, time and memory.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::access::Peer;
use super::api::{Failure, error};
use super::room::Rooms;

/// Longest time a request's body may take, once there is room for it.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Longest time a larger one waits for that room: those who have it are done sooner.
const ROOM_TIME: Duration = Duration::from_secs(40);
/// Longest time the rest of a body that is too large may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);
/// A registration is far shorter. Of what is longer only so many are taken in at once, so that clients who begin to send and
/// never end cost little memory, however many there are.
const SMALL_BYTES: usize = 64 * 1024;
static ROOMS: Rooms = Rooms::new(32);

/// A body that is still to come, and whose it is.
pub(super) struct Posted {
    body: Body,
    /// `None` where the kernel does not say.
    uid: Option<u32>,
}

impl<S: Sync> FromRequest<S> for Posted {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        let uid = request.extensions().get().map(|peer: &Peer| peer.uid);
        Ok(Self { body: request.into_body(), uid })
    }
}

impl Posted {
    pub(super) fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// See [`discard`].
    pub(super) async fn discard(self) {
        discard(self.body).await;
    }
}

/// The whole body, within bounds of size and time.
pub(super) async fn read_body(posted: Posted, bytes_max: usize) -> Result<Bytes, Failure> {
    read(posted, bytes_max, &ROOMS).await
}

async fn read(Posted { mut body, uid }: Posted, bytes_max: usize, rooms: &Rooms) -> Result<Bytes, Failure> {
    let mut frames = Limited::new(&mut body, bytes_max);
    let mut whole = Vec::new();
    let read = async {
        if in_time(gather(&mut frames, &mut whole, SMALL_BYTES)).await? == Part::Some {
            let _room = tokio::time::timeout(ROOM_TIME, rooms.enter(uid)).await.map_err(|_| Cause::NoRoom)?;
            in_time(gather(&mut frames, &mut whole, usize::MAX)).await?;
        }
        Ok(())
    };
    let Err(cause) = read.await else { return Ok(whole.into()) };
    if matches!(cause, Cause::TooLarge | Cause::NoRoom) {
        discard(body).await;
    }
    Err(match cause {
        Cause::BrokeOff => error(400, "INVALID_ARGUMENT", "the body broke off"),
        Cause::TooLarge => {
            let words = format!("the body is larger than {bytes_max} bytes: split it, or raise the limit in [server]");
            error(400, "INVALID_ARGUMENT", &words)
        }
        Cause::TooSlow => error(408, "DEADLINE_EXCEEDED", "the body took too long"),
        Cause::NoRoom => {
            error(503, "UNAVAILABLE", "too many large bodies are on their way: send fewer at a time, or smaller ones")
        }
    })
}

enum Cause {
    TooLarge,
    BrokeOff,
    TooSlow,
    NoRoom,
}

#[derive(PartialEq, Eq)]
enum Part {
    All,
    Some,
}

async fn in_time(gathering: impl Future<Output = Result<Part, axum::BoxError>>) -> Result<Part, Cause> {
    match tokio::time::timeout(BODY_TIME, gathering).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => Err(Cause::TooLarge),
        Ok(Err(_)) => Err(Cause::BrokeOff),
        Err(_) => Err(Cause::TooSlow),
    }
}

/// Takes in frames until there are more bytes than `enough`, or all of them.
async fn gather(frames: &mut Limited<&mut Body>, whole: &mut Vec<u8>, enough: usize) -> Result<Part, axum::BoxError> {
    while let Some(frame) = frames.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        whole.extend_from_slice(&data);
        if whole.len() > enough {
            return Ok(Part::Some);
        }
    }
    Ok(Part::All)
}

/// Lets a client finish writing what nobody wants: one that is cut off sees a broken pipe instead of the answer.
pub(super) async fn discard(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whoever takes longer is cut off after all.
    let _ = tokio::time::timeout(DISCARD_TIME, rest).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    const MAX: usize = 4 * SMALL_BYTES;

    /// So many bytes, and then either the end or silence.
    fn body(bytes: usize, ends: bool) -> Body {
        let first = stream::once(async move { Ok::<_, Infallible>(Bytes::from(vec![b' '; bytes])) });
        if ends { Body::from_stream(first) } else { Body::from_stream(first.chain(stream::pending())) }
    }

    fn posted(uid: u32, bytes: usize, ends: bool) -> Posted {
        Posted { body: body(bytes, ends), uid: Some(uid) }
    }

    async fn code(uid: u32, bytes: usize, ends: bool, rooms: &Rooms) -> u16 {
        read(posted(uid, bytes, ends), MAX, rooms).await.map_or_else(|failure| failure.code(), |_| 200)
    }

    #[tokio::test(start_paused = true)]
    async fn each_body_has_its_own_answer() {
        let rooms = Rooms::new(4);
        assert_eq!(code(1, 10, true, &rooms).await, 200);
        assert_eq!(code(1, MAX, true, &rooms).await, 200);
        assert_eq!(code(1, MAX + 1, true, &rooms).await, 400);
        assert_eq!(code(1, 10, false, &rooms).await, 408);
        assert_eq!(code(1, MAX, false, &rooms).await, 408);
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_many_large_bodies_and_ends_none_keeps_nobody_else_out() {
        let rooms = Rooms::new(4);
        let mut stuck: Vec<_> = (0..9).map(|_| Box::pin(code(1, MAX, false, &rooms))).collect();
        assert!(stuck.iter_mut().all(|one| one.now_or_never().is_none()));
        assert_eq!(code(2, MAX, true, &rooms).now_or_never(), Some(200));
        assert_eq!(code(1, SMALL_BYTES, true, &rooms).now_or_never(), Some(200), "small ones need no room");
        // Three had room at once, three when those were too slow, and the rest is told why it had none.
        let codes = futures_util::future::join_all(stuck).await;
        assert_eq!(codes, [408, 408, 408, 408, 408, 408, 503, 503, 503]);
        let again: Vec<_> = (0..3).map_while(|_| rooms.enter(Some(1)).now_or_never()).collect();
        assert!(again.len() == 3 && rooms.enter(Some(2)).now_or_never().is_some(), "all of it is free again");
    }
}
