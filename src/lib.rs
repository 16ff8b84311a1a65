//! revoked
pub mod clock;
pub mod engine;
pub mod intake;
pub mod model;
pub mod platform;
pub mod store;
