//! What is spoken on a monitor's socket: one JSON line each way, then frames if the line asked to attach.
//!
//! A frame is Docker's stream header, `[kind, 0, 0, 0, length (u32, big endian)]`, and that many bytes. Sans I/O.

use fluyt_model::{Error, Kind};
use serde::{Deserialize, Serialize};

use crate::spec::Plug;

/// Longest request line, bytes.
pub const MAX_LINE: usize = 256 * 1024;
/// Longest payload of one frame, bytes.
pub const MAX_FRAME: usize = 64 * 1024;
/// Bytes of a frame header.
pub const HEADER: usize = 8;

/// What a client asks for; one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// The first request, on the inherited socket: start the container. Answered when it runs or could not.
    Start {
        /// Attach output (and input, if `stdin`) before the first instruction.
        attach: bool,
        /// Attach input.
        stdin: bool,
        /// This client removes an auto-removed container itself as long as it stays connected.
        removes: bool,
        /// Terminal size: rows, columns.
        size: Option<(u16, u16)>,
        /// Its monitor was killed and it is started again by its policy: so many restarts, with this one. If it cannot be
        /// started, the policy decides what comes next. 0: somebody asked for it.
        #[serde(default)]
        restarts: u32,
    },
    /// Attach to the output (and input, if `stdin`). Before the start it is attached from the first byte.
    Attach {
        /// Attach input.
        stdin: bool,
    },
    /// Ask the container to end, then force it. Answered when it has ended; it is not restarted.
    Stop {
        /// Signal number.
        signal: i32,
        /// Seconds until SIGKILL; negative: never.
        timeout: i64,
        /// It is about to be started again: a container that removes itself stays.
        #[serde(default)]
        keep: bool,
    },
    /// Send a signal to the first process. The container is not restarted when it ends.
    Kill {
        /// Signal number.
        signal: i32,
    },
    /// Freeze.
    Pause,
    /// Thaw.
    Unpause,
    /// Size of the terminal.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Answered at the next end with the exit code.
    Wait,
    /// Read `monitor.json` again (restart policy, network plan).
    Reload,
    /// Plug into one more network, now.
    Connect {
        /// The bridge that must exist.
        bridge: Option<Box<fluyt_net::BridgeSpec>>,
        /// The plug.
        plug: Box<Plug>,
    },
    /// Unplug, now.
    Disconnect {
        /// The plug.
        plug: Box<Plug>,
    },
}

/// What the monitor answers; one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done. Frames follow if the request was to attach.
    Ok,
    /// It has ended.
    Exited {
        /// Exit code, 128 + signal if killed.
        code: i32,
    },
    /// It failed.
    Failed {
        /// Name of the error kind.
        kind: String,
        /// The whole message.
        message: String,
        /// The next step.
        hint: Option<String>,
    },
}

impl Reply {
    /// The reply that carries `error` across the socket.
    #[must_use]
    pub fn failed(error: &Error) -> Self {
        Self::Failed {
            kind: format!("{:?}", error.kind()),
            message: error.chain(),
            hint: error.hint().map(str::to_owned),
        }
    }

    /// The error that a failed reply carries.
    ///
    /// # Errors
    /// The one that the monitor met.
    pub fn into_result(self) -> fluyt_model::Result<Self> {
        let Self::Failed { kind, message, hint } = self else { return Ok(self) };
        let error = Error::new(kind_named(&kind), message);
        Err(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}

fn kind_named(name: &str) -> Kind {
    Kind::ALL.into_iter().find(|k| format!("{k:?}") == name).unwrap_or(Kind::Internal)
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// To the container's standard input or terminal.
    Stdin = 0,
    /// From its standard output or terminal.
    Stdout = 1,
    /// From its standard error.
    Stderr = 2,
    /// It has ended for good: the exit code as i32, big endian.
    Exit = 3,
    /// The client's input has ended.
    CloseStdin = 4,
    /// Rows and columns as u16, big endian.
    Resize = 5,
}

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Exit, Self::CloseStdin, Self::Resize]
            .into_iter()
            .find(|k| *k as u8 == byte)
    }
}

/// The header of a frame of `len` bytes.
#[must_use]
pub fn header(kind: FrameKind, len: usize) -> [u8; HEADER] {
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, 0, 0, 0, len[0], len[1], len[2], len[3]]
}

/// Looks for a whole frame at the start of `bytes`: its kind, its payload, and how many bytes it took.
///
/// # Errors
/// `Invalid` for an unknown kind or a frame longer than [`MAX_FRAME`].
pub fn parse(bytes: &[u8]) -> fluyt_model::Result<Option<(FrameKind, &[u8], usize)>> {
    let Some(head) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let kind =
        FrameKind::of(head[0]).ok_or_else(|| Error::invalid(format!("unknown frame kind {}", head[0])))?;
    let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if len > MAX_FRAME {
        return Err(Error::invalid(format!("frame of {len} bytes, at most {MAX_FRAME} are allowed")));
    }
    Ok(bytes.get(HEADER..HEADER + len).map(|payload| (kind, payload, HEADER + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_wait_for_their_rest() {
        let mut bytes = header(FrameKind::Stderr, 3).to_vec();
        bytes.extend(b"abc");
        assert_eq!(parse(&bytes[..10]).unwrap(), None);
        assert_eq!(parse(&bytes).unwrap(), Some((FrameKind::Stderr, &b"abc"[..], 11)));
        assert!(parse(&[9; 8]).is_err());
        assert!(parse(&header(FrameKind::Stdin, MAX_FRAME + 1)).is_err());
    }

    #[test]
    fn errors_keep_their_kind_across_the_socket() {
        let e = Error::new(Kind::CommandNotFound, "exec: \"x\"").with_hint("look");
        let back = Reply::failed(&e).into_result().unwrap_err();
        assert_eq!((back.kind(), back.hint()), (Kind::CommandNotFound, Some("look")));
    }
}
