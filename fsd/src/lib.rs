//! Lambay's file server: plain directories served to many mounts at once.
//!
//! The core (`volume`, `identity`, `locks`, `meter`, `throttle`) knows nothing of the door a request came through.

pub mod locks;
pub mod meter;
pub mod throttle;
