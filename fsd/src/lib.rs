//! Lambay's file server: plain directories served to many mounts at once.
//!
//! The core (`volume`, `mount`, `identity`, `locks`, `meter`, `throttle`) knows nothing of the door a request came through.

#![deny(unsafe_code)]

pub mod admission;
pub mod control;
pub mod depth;
pub mod fuse;
pub mod identity;
pub mod inode;
pub mod later;
pub mod locks;
pub mod lot;
pub mod meter;
pub mod mount;
pub mod naming;
pub mod nfs;
pub mod pacing;
pub mod requests;
pub mod roots;
pub mod server;
pub mod shards;
pub mod spreading;
#[allow(unsafe_code)]
pub mod sys;
pub mod throttle;
pub mod usage;
pub mod volume;
pub mod waiting;
