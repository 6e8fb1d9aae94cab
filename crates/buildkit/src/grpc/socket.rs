//! A connected socket that was somebody else's until now, with what they had read ahead.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::AddressFamily;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream socket and the bytes that had been read from it before it came here.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    ahead: Vec<u8>,
}

impl Socket {
    /// Takes a connection over.
    #[must_use]
    pub fn new(fd: OwnedFd, ahead: Vec<u8>) -> Self {
        Self { fd, ahead }
    }

    /// The socket in the event loop of the calling thread.
    pub(super) fn registered(self) -> io::Result<Io> {
        let family = rustix::net::getsockname(&self.fd)?.address_family();
        let inner = if family == AddressFamily::UNIX {
            let stream = UnixStream::from(self.fd);
            stream.set_nonblocking(true)?;
            Either::Unix(tokio::net::UnixStream::from_std(stream)?)
        } else {
            let stream = TcpStream::from(self.fd);
            stream.set_nonblocking(true)?;
            Either::Tcp(tokio::net::TcpStream::from_std(stream)?)
        };
        Ok(Io { inner, ahead: self.ahead, read: 0 })
    }
}

enum Either {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

/// See [`Socket::registered`].
pub(super) struct Io {
    inner: Either,
    ahead: Vec<u8>,
    read: usize,
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = &this.ahead[this.read..];
        if !left.is_empty() {
            let n = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..n]);
            this.read += n;
            return Poll::Ready(Ok(()));
        }
        match &mut this.inner {
            Either::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Either::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Either::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Either::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Either::Unix(stream) => Pin::new(stream).poll_flush(context),
            Either::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Either::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Either::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
