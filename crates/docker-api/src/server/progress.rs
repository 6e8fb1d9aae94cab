//! Pulls, pushes, builds: messages as JSON lines while the work goes on.
//!
//! Docker's engine answers with a status that says what failed as long as nothing has been told, and with an error in the
//! stream afterwards. So the work runs in a thread of its own, which ends with it, and the answer begins with its first
//! message.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use fluyt_http::{Payload, Response, Sink};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use crate::api::{ErrorDetail, Progress, ProgressMessage};

/// Messages that may wait for a slow client; then the work waits too.
const WAITING: usize = 256;
/// How often a silent stream looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(200);

enum Piece {
    Message(Box<ProgressMessage>),
    End(Result<()>),
}

/// Takes messages to the thread that answers.
struct Relay {
    pieces: SyncSender<Piece>,
    gone: Arc<AtomicBool>,
}

impl Progress for Relay {
    fn tell(&self, message: ProgressMessage) -> Result<()> {
        let left = |_| Error::new(Kind::Unavailable, "the client has gone");
        self.pieces.send(Piece::Message(Box::new(message))).map_err(left)
    }

    fn gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// Answers with what `work` tells.
///
/// # Errors
/// What `work` fails with before it has told anything.
pub fn live(work: impl FnOnce(&dyn Progress) -> Result<()> + Send + 'static) -> Result<Response> {
    let (pieces, arriving) = sync_channel(WAITING);
    let gone = Arc::new(AtomicBool::new(false));
    let relay = Relay { pieces, gone: Arc::clone(&gone) };
    std::thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || {
            let done = work(&relay);
            // Nobody may be there to hear it.
            let _ = relay.pieces.send(Piece::End(done));
        })
        .about(|| "a thread for the work")?;
    let first = match arriving.recv() {
        Ok(Piece::End(Err(e))) => return Err(e),
        Ok(piece) => piece,
        Err(_) => return Err(Error::internal("the work ended without a word")),
    };
    Ok(lines().payload(Payload::chunked(move |sink| {
        let told = pass_on(sink, first, &arriving);
        gone.store(true, Ordering::SeqCst);
        told
    })))
}

fn lines() -> Response {
    Response::new(200).header("Content-Type", "application/json")
}

fn pass_on(sink: &mut Sink<'_>, first: Piece, arriving: &Receiver<Piece>) -> io::Result<()> {
    let mut next = Some(first);
    loop {
        let piece = match next.take() {
            Some(piece) => piece,
            None => match arriving.try_recv() {
                Ok(piece) => piece,
                Err(_) => {
                    sink.flush()?;
                    match arriving.recv_timeout(LOOK) {
                        Ok(piece) => piece,
                        Err(RecvTimeoutError::Timeout) if sink.gone() => return Ok(()),
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    }
                }
            },
        };
        match piece {
            Piece::Message(message) => write(sink, &message)?,
            Piece::End(Ok(())) => return sink.flush(),
            Piece::End(Err(e)) => {
                write(sink, &failure(&e))?;
                return sink.flush();
            }
        }
    }
}

fn write(out: &mut dyn Write, message: &ProgressMessage) -> io::Result<()> {
    serde_json::to_writer(&mut *out, message)?;
    out.write_all(b"\r\n")
}

/// A failure as the last message.
fn failure(error: &Error) -> ProgressMessage {
    let message = error.chain();
    let code = message.rsplit_once("returned a non-zero code: ").and_then(|(_, code)| code.parse().ok());
    ProgressMessage {
        error_detail: Some(ErrorDetail { code: code.unwrap_or(0), message: message.clone() }),
        error: message,
        ..ProgressMessage::default()
    }
}

/// Keeps what is told, for work that reads the request's body and can only be answered after it.
#[derive(Default)]
pub struct Kept(std::sync::Mutex<Vec<u8>>);

/// Progress in bytes is left out beyond this length, bytes.
const ENOUGH: usize = 1 << 20;

impl Progress for Kept {
    fn tell(&self, message: ProgressMessage) -> Result<()> {
        let mut text = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if text.len() < ENOUGH || message.detail.is_none() {
            write(&mut *text, &message).about(|| "a message")?;
        }
        Ok(())
    }
}

impl Kept {
    /// The answer: what was told, and how it ended.
    ///
    /// # Errors
    /// What the work failed with, if it had told nothing.
    pub fn answer(self, done: Result<()>) -> Result<Response> {
        let silent = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty();
        match done {
            Err(e) if silent => Err(e),
            done => self.whole(done),
        }
    }

    /// The answer: what was told, and how it ended, whatever that is.
    ///
    /// # Errors
    /// A message that cannot be written down: a defect.
    pub fn whole(self, done: Result<()>) -> Result<Response> {
        let mut text = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(e) = done {
            write(&mut text, &failure(&e)).about(|| "a message")?;
        }
        Ok(lines().payload(Payload::Bytes(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_the_last_message() {
        let error = Error::internal("The command '/bin/sh -c exit 3' returned a non-zero code: 3");
        assert_eq!(
            serde_json::to_string(&failure(&error)).unwrap(),
            r#"{"errorDetail":{"code":3,"message":"The command '/bin/sh -c exit 3' returned a non-zero code: 3"},"error":"The command '/bin/sh -c exit 3' returned a non-zero code: 3"}"#
        );
    }

    #[test]
    fn work_that_has_told_nothing_fails_with_a_status() {
        let done = live(|_| Err(Error::not_found("nothing")));
        assert_eq!(done.err().map(|e| e.kind()), Some(Kind::NotFound));
        assert!(Kept::default().answer(Err(Error::not_found("nothing"))).is_err());
        let kept = Kept::default();
        kept.tell(ProgressMessage { status: "x".to_owned(), ..ProgressMessage::default() }).unwrap();
        assert_eq!(kept.answer(Err(Error::not_found("nothing"))).unwrap().status, 200);
    }
}
