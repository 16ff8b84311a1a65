//! Reads the daemon's outcomes beside a load, as an agent does: with a cursor, a page at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::load::Client;
use crate::clock;
use crate::intake::wire::{OutcomeView, OutcomesView};

/// A reader at work. What it makes of each outcome is `T`.
pub(super) struct Reader<T> {
    seen: Arc<Mutex<T>>,
    stop: CancellationToken,
    reading: JoinHandle<anyhow::Result<()>>,
}

impl<T: Default + Send + 'static> Reader<T> {
    /// `take` is handed each outcome and the instant at which it was read.
    pub(super) fn start(socket: PathBuf, take: impl Fn(&mut T, OutcomeView, Duration) + Send + 'static) -> Self {
        let (seen, stop) = (Arc::<Mutex<T>>::default(), CancellationToken::new());
        let (shared, stopped) = (Arc::clone(&seen), stop.clone());
        let reading = tokio::spawn(async move {
            let mut client = Client::connect(&socket).await?;
            let mut cursor = "0".to_owned();
            loop {
                // Asked before the page is read: the last page holds all there was when the reader was told to stop.
                let last = stopped.is_cancelled();
                let path = format!("/v1/outcomes?after={cursor}&wait=0.2s&pageSize=1000");
                let page: OutcomesView = serde_json::from_slice(&client.get(&path).await?)?;
                let (now, empty) = (clock::now().mono, page.outcomes.is_empty());
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                page.outcomes.into_iter().for_each(|outcome| take(&mut seen, outcome, now));
                drop(seen);
                cursor = page.next_cursor;
                if last && empty {
                    return Ok(());
                }
            }
        });
        Self { seen, stop, reading }
    }

    /// What was seen so far.
    pub(super) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads on to the end of what there is, and hands over what was seen.
    pub(super) async fn end(self) -> anyhow::Result<T> {
        self.stop.cancel();
        self.reading.await??;
        Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
