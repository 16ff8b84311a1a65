//! revoked
pub mod model;
pub mod store;
