//! Builds of `docker buildx` and `docker build` through the engine's socket: BuildKit's conversation, carried out by
//! `fluyt build`.
//!
//! Each build is a process of its own, this program's `build` with its flags: what the client asks for as attributes
//! becomes flags ([`flags`]), what the process tells becomes BuildKit's status ([`status`]), and what it needs of the
//! client (credentials: [`credentials`]; files, secrets and agents: [`builder`]) comes over the client's session. So an engine
//! that lives long keeps nothing of a build, and a build that goes wrong takes nothing with it.

mod builder;
pub mod credentials;
mod flags;
mod handler;
pub mod hidden;
mod status;

pub use handler::WithBuildKit;
