//! Commands in containers.

use std::collections::BTreeMap;

use fluyt_http::Response;
use fluyt_model::{Error, Kind, Result};
use serde::Deserialize;

use super::call::{Call, done, json};
use super::route::{Route, get, post};
use super::session::{self, Client, Plain, Terms};
use crate::api::{StartExec, Stream};
use crate::keys::DetachKeys;
use crate::types::ExecOptions;

/// Their operations.
pub const ROUTES: &[Route] = &[
    post("/containers/*/exec", create),
    post("/exec/*/start", start),
    post("/exec/*/resize", resize),
    get("/exec/*/json", inspect),
];

fn create(call: &mut Call<'_, '_>) -> Result<Response> {
    let mut options = call.json::<ExecOptions>()?.unwrap_or_default();
    if options.cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    if call.version.0 < 42 {
        options.console_size = None;
    }
    DetachKeys::parse(&options.detach_keys)?;
    let id = call.docker.exec_create(call.name(), &options)?;
    json(201, &BTreeMap::from([("Id", id)]))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartBody {
    detach: bool,
    tty: bool,
    console_size: Option<[u16; 2]>,
}

fn start(call: &mut Call<'_, '_>) -> Result<Response> {
    let body = call.json::<StartBody>()?.unwrap_or_default();
    let inspected = call.docker.exec_inspect(call.name())?;
    let size = body.console_size.filter(|_| body.tty && call.version.0 >= 42).map(|[r, c]| (r, c));
    call.docker.exec_check(call.name())?;
    let how = StartExec { detach: body.detach, tty: body.tty, size };
    if body.detach {
        call.docker.exec_start(call.name(), how)?;
        return done(200);
    }
    let framed = !body.tty;
    let stdin = inspected.open_stdin;
    let keys = (body.tty && stdin).then(|| DetachKeys::parse(&inspected.detach_keys)).transpose()?;
    if inspected.running {
        return Err(Error::conflict(format!("Error: Exec command {} is already running", inspected.id)));
    }
    if inspected.exit_code.is_some() {
        return Err(Error::conflict(format!("Error: Exec command {} has already run", inspected.id)));
    }
    let started = call.docker.exec_start(call.name(), how);
    // Somebody else was quicker, or the container has ended: nothing was run.
    if let Err(error) = started.as_ref()
        && error.kind() == Kind::Conflict
    {
        return started.and_then(|_| done(200));
    }
    Ok(session::response(call, framed, move |duplex| {
        let mut client = Plain::new(duplex, framed);
        match started {
            Ok(Some(mut session)) => session::pump(&mut client, &mut *session, Terms { stdin, keys }),
            Ok(None) => client.finish(),
            // The connection is the client's already: that the command could not be run is its output.
            Err(e) => {
                let _ = client.send(Stream::Stdout, format!("{}\r\n", e.chain()).as_bytes());
                client.finish();
            }
        }
    }))
}

fn resize(call: &mut Call<'_, '_>) -> Result<Response> {
    let (rows, columns) = call.size()?;
    call.docker.exec_resize(call.name(), rows, columns)?;
    done(200)
}

fn inspect(call: &mut Call<'_, '_>) -> Result<Response> {
    json(200, &call.docker.exec_inspect(call.name())?)
}
