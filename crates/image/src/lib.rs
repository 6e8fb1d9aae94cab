//! The image store of one data root: blobs, layers, images, archives in and out, collection, checks.
//!
//! A plain blocking library; several processes may use one root at once. It knows no containers (who uses an
//! image is told by the caller), no registry protocol, no terminal.
//!
//! # Map
//! - [`Store::open`] is the way in; it is cheap enough for every command.
//! - Content: [`Store::blobs`] reads, [`Store::lease`] then [`Lease::blobs`] writes. What a lease found or wrote
//!   stays until the lease is dropped, by then a record must reference it.
//! - Records: [`Db`], shared with the engine through [`Db::migrate`].
//!
//! # On disk
//! See ARCHITECTURE.md, "Data root". This crate owns `db.sqlite` (with the engine), `blobs/`, `ingest/`, `leases/`,
//! `gc.lock`, `layers/` and `l/`.
#![forbid(unsafe_code)]

mod abandoned;
pub mod archive;
pub mod blobs;
pub mod cache;
mod cache_use;
pub mod changes;
pub mod db;
pub mod digest;
mod failpoint;
pub mod filter;
pub mod fsck;
pub mod gc;
pub mod images;
pub mod index;
pub mod layer;
pub mod layout;
pub mod lease;
pub mod lists;
pub mod oci;
pub mod origins;
pub mod packing;
pub mod platform;
pub mod progress;
mod records;
pub mod remove;
pub mod rootfs;
mod store;
pub mod time;
pub mod usage;
mod web;

pub use archive::bundle::Root;
pub use archive::commit::{CommitOptions, ImportOptions};
pub use archive::load::Loaded;
pub use archive::save::SaveOptions;
pub use blobs::{Blobs, Ingest};
pub use cache::{CacheRecord, NewLayer};
pub use changes::Instruction;
pub use db::{Db, Part, Seen};
pub use digest::Digest;
pub use filter::Filters;
pub use fsck::{Finding, Report};
pub use gc::Collected;
pub use images::{Image, Name, NewImage};
pub use layer::Limits;
pub use layer::unpack::{LayerRef, LayerSource};
pub use layout::Layout;
pub use lease::Lease;
pub use lists::{ManifestList, Member};
pub use oci::{Descriptor, Document, ImageConfig, Index, Manifest, Platform};
pub use origins::Origin;
pub use packing::Packing;
pub use progress::{Outcome, Progress, Silent};
pub use remove::{ImageUse, Removed};
pub use rootfs::{Change, ChangeKind};
pub use store::Store;
