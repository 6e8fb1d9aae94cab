//! What the tests of every crate share: scratch roots, leak checks, reference images.
#![forbid(unsafe_code)]

pub mod netns;
