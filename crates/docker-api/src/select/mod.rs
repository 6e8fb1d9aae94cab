//! Which objects an operation means: the filters of lists and prunes.

pub mod cache;
pub mod containers;
pub mod events;
pub mod images;
pub mod networks;
pub mod prune;
pub mod volumes;
