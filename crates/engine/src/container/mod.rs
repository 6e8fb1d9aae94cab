//! Containers: made, started, told things, looked at, removed.

mod archive;
pub mod attend;
pub mod copy;
pub mod create;
pub mod exec;
pub(crate) mod ids;
mod journal;
mod keeper;
pub(crate) mod known;
pub(crate) mod log_spec;
pub mod logs;
pub mod recorded;
pub mod remove;
pub mod start;
pub mod stats;
pub mod tell;
pub mod top;
pub mod view;
pub mod wait;
