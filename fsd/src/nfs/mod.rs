//! The network door: NFSv4.1 (RFC 8881) over TCP, for everybody who is not on this machine's FUSE.
//!
//! `xdr` and `rpc` are the wire, `operation` what may be asked, `compound` how a request runs; `clients`, `holdings` and
//! `recovery` are the state that the protocol has; `export` and `handle` say what can be reached. What a file system does is
//! the core's business, as it is for FUSE.

mod attributes;
mod clients;
mod compound;
mod connection;
pub mod control;
mod data;
mod door;
mod export;
mod handle;
mod holdings;
mod inspection;
mod locking;
mod namespace;
mod opening;
mod operation;
mod place;
mod recovery;
mod rpc;
mod sessions;
mod slots;
mod status;
mod tls;
pub mod visit;
mod xdr;
