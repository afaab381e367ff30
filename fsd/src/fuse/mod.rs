//! The FUSE door: the protocol, its two transports, and what each operation does with a volume.

pub mod abi;
pub mod backing;
pub mod classic;
pub mod dispatch;
pub mod link;
pub mod request;
pub mod responder;
pub mod session;
pub mod uring;

mod attributes;
mod directories;
mod files;
mod inbox;
mod locking;
mod names;
mod queue;
mod slow;
