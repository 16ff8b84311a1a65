//! The daemon's promises, kept by the real binary on a real socket and a real store, against the sandbox over real HTTP.
//!
//! One binary, so that it links once; one promise or one flow per module. Nothing here waits for time to pass in place of
//! a signal: what is to come is waited for at the outcomes, the sandbox's events and books, the daemon's log, or its exit.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod caller;
mod daemon;
mod faults;
mod peer;
mod planted;
mod rig;

mod access;
mod batch;
mod books;
mod change;
mod chaos;
mod check;
mod clock;
mod conflict;
mod crash;
mod deadline;
mod disk;
mod evidence;
mod exit_codes;
mod fallback;
mod forms;
mod hold;
mod hostile;
mod list;
mod lost_answer;
mod metrics;
mod notify;
mod outcomes;
mod pace;
mod passed;
mod proxy;
mod recall;
mod refusals;
mod secrets;
mod shadow;
mod stop;
mod table;
mod transfer;
mod two_daemons;
mod unsubscribe;
mod upgrade;
mod webhook;
mod webhook_tee;
