//! revoked
pub mod clock;
pub mod model;
pub mod store;
pub mod platform;
pub mod engine;
