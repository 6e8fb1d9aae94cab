//! `POST /containers/{id}/attach`.

use fluyt_http::Response;
use fluyt_model::Result;

use super::super::call::Call;
use super::super::session::{self, Plain, Terms};
use crate::api::AttachContainer;
use crate::keys::DetachKeys;

/// What a request asks for.
pub fn wanted(call: &Call<'_, '_>) -> AttachContainer {
    AttachContainer {
        logs: call.flag("logs"),
        stream: call.flag("stream"),
        stdin: call.flag("stdin"),
        stdout: call.flag("stdout"),
        stderr: call.flag("stderr"),
        removes: false,
    }
}

/// Answers it.
pub fn attach(call: &mut Call<'_, '_>) -> Result<Response> {
    let keys = DetachKeys::parse(call.text("detachKeys"))?;
    let attached = call.docker.container_attach(call.name(), wanted(call))?;
    let (framed, stdin) = (!attached.tty, call.flag("stdin") && attached.open_stdin);
    let keys = (attached.tty && stdin).then_some(keys);
    let mut session = attached.session;
    Ok(session::response(call, framed, move |duplex| {
        let mut client = Plain::new(duplex, framed);
        session::pump(&mut client, &mut *session, Terms { stdin, keys });
    }))
}
