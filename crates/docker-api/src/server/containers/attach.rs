//! `POST /containers/{id}/attach`, and the same by a web socket.

use fluyt_http::Response;
use fluyt_model::Result;

use super::super::call::Call;
use super::super::session::{self, Plain, Terms};
use super::super::websocket::{self, WebSocket};
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
        detach_keys: call.text("detachKeys").to_owned(),
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

/// Answers `GET /containers/{id}/attach/ws`: output is not framed, whatever stream it comes from.
pub fn by_web_socket(call: &mut Call<'_, '_>) -> Result<Response> {
    let keys = DetachKeys::parse(call.text("detachKeys"))?;
    let mut wanted = wanted(call);
    // What is not asked for by name is wanted: browsers cannot ask for much.
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        (wanted.stdin, wanted.stdout, wanted.stderr) = (true, true, true);
    }
    wanted.stream |= !wanted.logs;
    let attached = call.docker.container_attach(call.name(), wanted.clone())?;
    let stdin = wanted.stdin && attached.open_stdin;
    let keys = (attached.tty && stdin).then_some(keys);
    let mut session = attached.session;
    websocket::response(call, move |duplex| {
        let mut client = WebSocket::new(duplex);
        session::pump(&mut client, &mut *session, Terms { stdin, keys });
    })
}
