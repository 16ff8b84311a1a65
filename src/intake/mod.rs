//! The gate: how agents and events get in, and answers out.
//!
//! HTTP/1.1 with JSON on a unix socket, so that no client needs a library of ours. Field names and the JSON mapping are the
//! platform's own. The platform's events may come straight to a [`webhook`], too. This room checks that what comes in is well formed, and turns it into what the engine understands; it
//! must not know the store or the platform's client, and decides nothing about messages.

pub mod access;
mod api;
mod batch;
mod body;
pub mod books;
pub mod desk;
mod events;
pub mod export;
mod exposition;
#[cfg(test)]
mod fuzz_tests;
pub mod holds;
mod metrics;
mod parse;
pub mod recalls;
mod refused;
mod room;
mod seats;
pub mod server;
pub mod signature;
pub mod socket;
mod transfer;
mod tune;
pub mod webhook;
pub mod wire;

pub use api::{Gate, Limits, metrics_router, router};
pub use refused::Refused;
pub use transfer::Lines as ExportLines;
