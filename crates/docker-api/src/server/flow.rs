//! Answers that go on: items as they come, until they end or the client has gone.

use std::io::{self, Write};
use std::os::fd::AsFd;

use fluyt_http::{Payload, Response, Sink};
use fluyt_model::Result;

use crate::api::{Follow, Next, Output, Wait};

/// Writes each item as `write` does, and sends them when no more are at hand. The head goes out at once.
pub fn items<T: Send + 'static>(
    response: Response,
    mut source: Box<dyn Follow<T>>,
    mut write: impl FnMut(&mut dyn Write, T) -> io::Result<()> + Send + 'static,
) -> Response {
    response.payload(Payload::chunked(move |sink| follow(&mut *source, sink, &mut write)))
}

fn follow<T>(
    source: &mut dyn Follow<T>,
    sink: &mut Sink<'_>,
    write: &mut dyn FnMut(&mut dyn Write, T) -> io::Result<()>,
) -> io::Result<()> {
    let socket = sink.as_fd().try_clone_to_owned()?;
    loop {
        let mut next = source.next(Wait::NEVER).map_err(cut)?;
        if matches!(next, Next::Idle) {
            sink.flush()?;
            next = source.next(Wait { timeout: None, unless_gone: Some(socket.as_fd()) }).map_err(cut)?;
        }
        match next {
            Next::Item(item) => write(sink, item)?,
            Next::End => return sink.flush(),
            Next::Idle if sink.gone() => return Ok(()),
            Next::Idle => {}
        }
    }
}

/// Bytes that are made while they are sent.
pub fn output(response: Response, output: Output) -> Response {
    response.payload(Payload::chunked(move |sink| {
        let mut pass = Pass { sink, failed: None };
        let done = write_out(output, &mut pass);
        match pass.failed.take() {
            Some(error) => Err(error),
            None => done.map_err(cut),
        }
    }))
}

/// Runs the producer in this thread. The sink itself stays here: producers may hand what they write to a thread of theirs.
fn write_out(output: Output, pass: &mut Pass<'_, '_>) -> Result<()> {
    output(pass)
}

/// A sink for producers; keeps the client's failure apart from the producer's.
struct Pass<'a, 's> {
    sink: &'a mut Sink<'s>,
    failed: Option<io::Error>,
}

impl Write for Pass<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes).inspect_err(|e| self.failed = Some(e.kind().into()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// An error in the middle of an answer: there is nobody to tell but by cutting the connection.
pub fn cut(error: fluyt_model::Error) -> io::Error {
    io::Error::other(error.chain())
}
