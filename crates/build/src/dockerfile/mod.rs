//! The Dockerfile front end: text in, typed instructions out. Pure: no files, no clock, no network.
//!
//! - [`lines`] knows directives, comments, continuations and here-documents; [`parse`] each instruction's grammar;
//!   [`mount`] that of `RUN --mount`.
//! - [`expand`] replaces variables, when the time for it has come: a plan does, in [`crate::plan`].
//! - [`lint`] collects what could be better; [`fault`] says what is wrong, and where.

pub mod expand;
pub mod fault;
mod glob;
pub mod instruction;
pub mod lines;
pub mod lint;
pub mod mount;
pub mod parse;
pub(crate) mod suggest;

pub use expand::{Env, Expanded, Lexer};
pub use fault::{Fault, Lines};
pub use instruction::{Dockerfile, Instruction, Stage, Step};
pub use parse::parse;

/// A text in double quotes, as BuildKit's messages have it.
pub(crate) use fluyt_gotmpl::quote as quoted;
