//! The writer: one thread that makes batches durable, many at a time.
//!
//! While one group is on its way to the disk the next one gathers, so the disk's own pace sets the size of a group; those of a
//! crowd are made larger than that. When the disk fails nothing is acknowledged: the same group is tried again, in a new part of
//! the journal, after growing pauses, for as long as it takes. Before each new try the disk has to take something that is of no
//! value.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{error, info};

use super::home::Home;
use super::journal::Journal;
use super::tree::is_spent;
use super::young::Generation;
use super::{StoreError, Ticket};
use crate::clock;
use crate::spans::{Measured, Spans};

/// A group takes no further batch beyond this.
const GROUP_BYTES: usize = 1 << 20;

/// A group of that many batches comes from many clients at once, or from many answers of the platform. Then the next one is given
/// a moment to gather, also if some of it is there already: each sync costs processor time that those need as well, and one who
/// is alone never waits.
const CROWD: usize = 16;
/// A few times what a good disk takes for a sync. More of it, and fewer than a hundred clients spend their time waiting.
const GATHER: Duration = Duration::from_micros(250);
/// How long that goes on while nobody waits for what was handed over meanwhile.
const GATHER_MAX: Duration = Duration::from_millis(5);

const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Whoever is refused is told to come again after a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the writer is told.
pub(super) enum Order {
    /// Make this durable.
    Batch { ticket: Ticket, stream: Vec<u8> },
    /// What follows belongs to the next generation.
    Turn(Turn),
    /// Do this as soon as everything before it is durable.
    Then(Box<dyn FnOnce() + Send>),
}

/// The beginning of a generation.
pub(super) struct Turn {
    pub(super) generation: Generation,
    pub(super) head: Vec<u8>,
}

/// What both sides of the channel see.
#[derive(Default)]
struct Shared {
    durable: AtomicU64,
    failing: AtomicBool,
    /// The last ticket that somebody waits for.
    awaited: AtomicU64,
    /// How long groups took.
    flushes: Mutex<Spans>,
    /// How the last try failed.
    failure: Mutex<Option<StoreError>>,
}

/// The store's side. Dropping it makes everything durable that still can be.
pub(super) struct Writer {
    orders: Option<Sender<Order>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts with a journal that was just made from `first.head`.
    pub(super) fn start(
        home: Arc<Home>,
        journal: Journal,
        first: Turn,
        broken: Arc<AtomicBool>,
        on_durable: impl Fn(Result<Ticket, StoreError>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (orders, inbox) = channel();
        let shared = Arc::new(Shared::default());
        let work = Work {
            home,
            journal: Some(journal),
            generation: first.generation,
            part: 0,
            head: first.head,
            broken,
            shared: shared.clone(),
            on_durable,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || work.run(&inbox))
            .map_err(|error| StoreError::Io(format!("starting the writer: {error}")))?;
        Ok(Self { orders: Some(orders), shared, thread: Some(thread) })
    }

    /// Whether the last try to write failed.
    pub(super) fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Acquire)
    }

    /// How, if it did.
    pub(super) fn failure(&self) -> Option<StoreError> {
        if !self.is_failing() {
            return None;
        }
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last ticket that is durable.
    pub(super) fn durable(&self) -> Ticket {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// How long it took to make groups of batches durable.
    pub(super) fn flushes(&self) -> Measured {
        self.shared.flushes.lock().unwrap_or_else(PoisonError::into_inner).measured()
    }

    /// Somebody waits for this ticket: nobody is waited for any longer than a crowd's moment.
    pub(super) fn hurry(&self, ticket: Ticket) {
        self.shared.awaited.store(ticket, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Hands over an order. The thread listens for as long as this side lives; if it ever broke down, so would the process.
    pub(super) fn send(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It ends by panic only if sled does, and has said so by then.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Work<F> {
    home: Arc<Home>,
    /// `None` after a failure.
    journal: Option<Journal>,
    generation: Generation,
    part: u32,
    head: Vec<u8>,
    broken: Arc<AtomicBool>,
    shared: Arc<Shared>,
    on_durable: F,
}

impl<F: Fn(Result<Ticket, StoreError>)> Work<F> {
    fn run(mut self, inbox: &Receiver<Order>) {
        let mut queue = VecDeque::new();
        loop {
            if queue.is_empty() {
                match inbox.recv() {
                    Ok(order) => queue.push_back(order),
                    Err(_) => return,
                }
            }
            queue.extend(inbox.try_iter());
            let carried_out = match queue.pop_front() {
                Some(Order::Turn(turn)) => self.turn(turn, &mut queue, inbox),
                Some(Order::Then(act)) => {
                    act();
                    true
                }
                Some(batch @ Order::Batch { .. }) => {
                    queue.push_front(batch);
                    self.group(&mut queue, inbox)
                }
                None => true,
            };
            if !carried_out {
                return;
            }
        }
    }

    /// Begins a generation.
    fn turn(&mut self, turn: Turn, queue: &mut VecDeque<Order>, inbox: &Receiver<Order>) -> bool {
        (self.journal, self.generation, self.part, self.head) = (None, turn.generation, 0, turn.head);
        self.until_written(&[], queue, inbox)
    }

    /// Writes the batches at the front of the queue as one.
    fn group(&mut self, queue: &mut VecDeque<Order>, inbox: &Receiver<Order>) -> bool {
        let (mut last, mut batches, mut group) = (0, 0, Vec::new());
        while let Some(Order::Batch { ticket, stream }) =
            queue.pop_front_if(|order| matches!(order, Order::Batch { .. }))
        {
            last = ticket;
            batches += 1;
            if group.is_empty() {
                group = stream;
            } else {
                group.extend_from_slice(&stream);
            }
            if group.len() >= GROUP_BYTES {
                break;
            }
        }
        let begun = clock::mono();
        let done = self.until_written(&group, queue, inbox);
        if done {
            let took = clock::mono() - begun;
            self.shared.flushes.lock().unwrap_or_else(PoisonError::into_inner).record(took);
            self.shared.durable.store(last, Ordering::Release);
            (self.on_durable)(Ok(last));
            if is_spent() {
                // By the runs, then.
                (self.on_durable)(Err(StoreError::Spent));
            }
            self.gather(batches, last, queue, inbox);
        }
        done
    }

    /// Gives a crowd a moment to come again, and more of it as long as nobody waits.
    fn gather(&self, batches: usize, done: Ticket, queue: &mut VecDeque<Order>, inbox: &Receiver<Order>) {
        queue.extend(inbox.try_iter());
        let waiting = queue.iter().map(|order| if let Order::Batch { stream, .. } = order { stream.len() } else { 0 });
        if batches < CROWD || waiting.sum::<usize>() >= GROUP_BYTES {
            return;
        }
        let until = clock::mono() + GATHER_MAX;
        std::thread::sleep(GATHER);
        // Whoever begins to wait wakes this thread; so may an earlier one, or the channel, which does no harm.
        while self.shared.awaited.load(Ordering::Acquire) <= done
            && let Some(left) = until.checked_sub(clock::mono())
        {
            std::thread::park_timeout(left);
        }
    }

    /// Tries until the disk takes it. `false`: the store was closed meanwhile, and the disk still does not.
    fn until_written(&mut self, stream: &[u8], queue: &mut VecDeque<Order>, inbox: &Receiver<Order>) -> bool {
        let (mut pause, mut closed) = (PAUSE_MIN, false);
        loop {
            let Err(error) = self.write(stream) else {
                if self.shared.failing.swap(false, Ordering::AcqRel) {
                    info!(name: "disk_well", "the store can be written again");
                    // Which whoever refuses meanwhile should hear even if no batch waits.
                    (self.on_durable)(Ok(self.shared.durable.load(Ordering::Acquire)));
                }
                return true;
            };
            // What a failed fdatasync left in the page cache can't be trusted again: begin anew elsewhere.
            self.journal = None;
            self.part += 1;
            *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            if !self.shared.failing.swap(true, Ordering::AcqRel) {
                error!(name: "disk_fails", "{error}: registrations are refused, what is known is revoked; trying again until it works");
            }
            (self.on_durable)(Err(if is_spent() { StoreError::Spent } else { error }));
            if closed {
                return false;
            }
            // All of it, whatever comes in: the disk is not well sooner for being asked at each event.
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
            closed = loop {
                match inbox.try_recv() {
                    Ok(order) => queue.push_back(order),
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Disconnected) => break true,
                }
            };
        }
    }

    fn write(&mut self, stream: &[u8]) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(StoreError::Io("the disk is broken on request".to_owned()));
        }
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => {
                if self.shared.failing.load(Ordering::Acquire) {
                    self.home.probe(self.head.len())?;
                }
                none.insert(Journal::create(&self.home, self.generation, self.part, &self.head)?)
            }
        };
        if stream.is_empty() { Ok(()) } else { journal.append(stream, &self.home) }
    }
}
