//! `checkpoint` and `restore`: known by name, so that who asks is told that there is no such thing here.

use fluyt_model::error::{Error, Result};

use super::Context;
use super::args::{Flag, Parsed};

/// None: the commands do not get as far as their flags.
pub(super) static FLAGS: [Flag; 0] = [];

fn refuse(verb: &str) -> Result<i32> {
    Err(Error::unsupported(format!("{verb} is not supported"))
        .with_hint("stop the container and start it again, or keep its data in a volume"))
}

/// `checkpoint`.
pub(super) fn checkpoint(_: &Context, _: &Parsed) -> Result<i32> {
    refuse("checkpoint")
}

/// `restore`.
pub(super) fn restore(_: &Context, _: &Parsed) -> Result<i32> {
    refuse("restore")
}
