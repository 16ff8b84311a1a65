//! Taking in the body of a request: within bounds of size, time and memory.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::Semaphore;

use super::api::{Failure, error};
use crate::engine::{Refusal, RefusalKind};

/// Longest time a request's body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Longest time the rest of a body that is too large may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);
/// A registration is far shorter. Of what is longer only so many are taken in at once, so that clients who begin to send and
/// never end cost little memory, however many there are.
const SMALL_BYTES: usize = 64 * 1024;
static LARGE: Semaphore = Semaphore::const_new(32);

/// The whole body, within bounds of size and time.
pub(super) async fn read_body(mut body: Body, bytes_max: usize) -> Result<Bytes, Failure> {
    match tokio::time::timeout(BODY_TIME, gather(&mut body, bytes_max)).await {
        Ok(Ok(whole)) => Ok(whole.into()),
        Ok(Err(_)) => {
            discard(body).await;
            Err(Refusal {
                kind: RefusalKind::Invalid,
                message: format!(
                    "the body is larger than {bytes_max} bytes, or broke off: split it, or raise the limit in [server]"
                ),
                field: None,
            }
            .into())
        }
        Err(_) => Err(error(408, "DEADLINE_EXCEEDED", "the body took too long")),
    }
}

async fn gather(body: &mut Body, bytes_max: usize) -> Result<Vec<u8>, axum::BoxError> {
    let (mut whole, mut room) = (Vec::new(), None);
    let mut frames = Limited::new(body, bytes_max);
    while let Some(frame) = frames.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if room.is_none() && whole.len() + data.len() > SMALL_BYTES {
            room = Some(LARGE.acquire().await?);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// Lets a client finish writing what nobody wants: one that is cut off sees a broken pipe instead of the answer.
pub(super) async fn discard(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whoever takes longer is cut off after all.
    let _ = tokio::time::timeout(DISCARD_TIME, rest).await;
}
