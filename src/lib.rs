//! `revoked` keeps track of the RCS business messages that agents send, and revokes what is not delivered by its deadline.
//!
//! An agent registers each message it sends over a unix socket, and hands on the delivery events that its webhook gets
//! ([`intake`]). What is registered is on disk before the answer leaves ([`store`]). One owner decides, one thing after the
//! other, what is due and what each piece of evidence means ([`engine`], by the rules in [`model`]). At its deadline a
//! message that is still undelivered is revoked with one DELETE ([`platform`]), as fast as the platform lets us. How it ended, and
//! whether an SMS may go out instead, is told to the agent at least once and in order; or a hook sends it ([`fallback`]).
//!
//! The modules, in the order of that flow:

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that can't go on should say where"))]

// What everybody speaks: the decisions, as plain values and pure functions; the time, and spans of it.
pub mod clock;
pub mod model;
pub mod spans;

// The way of a message: in, kept, decided, sent; and the SMS instead.
pub mod engine;
pub mod fallback;
pub mod intake;
pub mod platform;
pub mod store;

// Around it: what the file says, the process, the control program.
pub mod config;
pub mod ctl;
pub mod daemon;
mod secret;

// The other side, to run against; all of it at a glance; what it does on this host; and what it does when all goes wrong.
pub mod bench;
mod child;
pub mod demo;
mod dice;
#[cfg(test)]
mod fuzz_tests;
mod progress;
pub mod sandbox;
pub mod simulation;
mod usage;
