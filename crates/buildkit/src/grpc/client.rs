//! The side that asks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::stream::{QUEUE, framed, parsed, receive, send};
use super::{Code, Socket, Status};

/// A connection to a server, for calls from any thread. It lives as long as [`Client::drive`] runs.
#[derive(Clone)]
pub struct Client {
    loop_: Handle,
    requests: SendRequest<Bytes>,
    gone: Arc<AtomicBool>,
}

impl Client {
    /// Begins to speak HTTP/2 on `socket`, hands the connection to `ready`, and carries its calls until it ends.
    ///
    /// # Errors
    /// The peer does not speak HTTP/2; no event loop can be made.
    pub fn drive(socket: Socket, ready: impl FnOnce(Self)) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (requests, connection) = h2::client::Builder::new()
                .initial_window_size(1 << 20)
                .initial_connection_window_size(8 << 20)
                .handshake::<_, Bytes>(socket.registered()?)
                .await
                .map_err(io::Error::other)?;
            let gone = Arc::new(AtomicBool::new(false));
            ready(Self { loop_: Handle::current(), requests, gone: Arc::clone(&gone) });
            let end = connection.await.map_err(io::Error::other);
            gone.store(true, Ordering::SeqCst);
            end
        })
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Begins a call of `/package.Service/Method`.
    ///
    /// # Errors
    /// The connection has gone.
    pub fn open(&self, method: &str, metadata: &[(&str, String)]) -> Result<Stream, Status> {
        if self.is_gone() {
            return Err(Status::gone("it was closed"));
        }
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("http://localhost{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, value);
        }
        let request =
            request.body(()).map_err(|e| Status::new(Code::InvalidArgument, format!("{method}: {e}")))?;
        let (came, incoming) = mpsc::channel(QUEUE);
        let (outgoing, going) = mpsc::channel(QUEUE);
        self.loop_.spawn(carry(self.requests.clone(), request, came, going));
        Ok(Stream { incoming, outgoing: Some(outgoing) })
    }

    /// A call with one message each way.
    ///
    /// # Errors
    /// What the server answers.
    pub fn ask<M: prost::Message + Default>(
        &self,
        method: &str,
        message: &impl prost::Message,
    ) -> Result<M, Status> {
        let mut stream = self.open(method, &[])?;
        stream.send(message)?;
        stream.close();
        let answer = stream.receive()?;
        // The status comes after the message.
        while stream.receive::<M>()?.is_some() {}
        answer.ok_or_else(|| Status::new(Code::Internal, format!("{method} was answered with nothing")))
    }
}

/// A call under way. Dropping it gives it up.
pub struct Stream {
    incoming: mpsc::Receiver<Result<Bytes, Status>>,
    outgoing: Option<mpsc::Sender<Bytes>>,
}

impl Stream {
    /// Sends a message.
    ///
    /// # Errors
    /// The server has ended the call; [`Stream::receive`] says why.
    pub fn send(&self, message: &impl prost::Message) -> Result<(), Status> {
        let ended = || Status::new(Code::Cancelled, "the call has ended");
        let outgoing = self.outgoing.as_ref().ok_or_else(ended)?;
        outgoing.blocking_send(framed(message)).map_err(|_| ended())
    }

    /// Nothing more will be sent.
    pub fn close(&mut self) {
        self.outgoing = None;
    }

    /// Splits it: one half sends, the other receives.
    #[must_use]
    pub fn split(mut self) -> (Self, Self) {
        let (_, nothing) = mpsc::channel(1);
        let outgoing = self.outgoing.take();
        (Self { incoming: nothing, outgoing }, self)
    }

    /// The next message; none at the end.
    ///
    /// # Errors
    /// The status with which the server ended the call.
    pub fn receive<M: prost::Message + Default>(&mut self) -> Result<Option<M>, Status> {
        self.incoming.blocking_recv().transpose()?.map(parsed).transpose()
    }
}

async fn carry(
    requests: SendRequest<Bytes>,
    request: Request<()>,
    came: mpsc::Sender<Result<Bytes, Status>>,
    going: mpsc::Receiver<Bytes>,
) {
    if let Err(status) = exchange(requests, request, &came, going).await {
        let _ = came.send(Err(status)).await;
    }
}

async fn exchange(
    requests: SendRequest<Bytes>,
    request: Request<()>,
    came: &mpsc::Sender<Result<Bytes, Status>>,
    mut going: mpsc::Receiver<Bytes>,
) -> Result<(), Status> {
    let mut requests = requests.ready().await.map_err(Status::gone)?;
    let (response, mut stream) = requests.send_request(request, false).map_err(Status::gone)?;
    let sending = async move {
        while let Some(bytes) = going.recv().await {
            if send(&mut stream, bytes).await.is_err() {
                // The server ends the call: its status comes with the answer.
                return;
            }
        }
        let _ = stream.send_data(Bytes::new(), true);
    };
    let sender = tokio::spawn(sending);
    let answer = answered(response, came).await;
    sender.abort();
    answer
}

async fn answered(
    response: h2::client::ResponseFuture,
    came: &mpsc::Sender<Result<Bytes, Status>>,
) -> Result<(), Status> {
    let given_up = || Status::new(Code::Cancelled, "nobody waits for the answer");
    let (head, body) = tokio::select! {
        response = response => response.map_err(Status::gone)?.into_parts(),
        () = came.closed() => return Err(given_up()),
    };
    // A call that fails at once has its status in the head.
    if let Some(status) = Status::of(&head.headers) {
        return if status.code == Code::Ok { Ok(()) } else { Err(status) };
    }
    let mut body = tokio::select! {
        body = receive(body, came.clone()) => body,
        () = came.closed() => return Err(given_up()),
    };
    let trailers = body.trailers().await.map_err(Status::gone)?;
    match trailers.as_ref().and_then(Status::of) {
        Some(status) if status.code == Code::Ok => Ok(()),
        Some(status) => Err(status),
        None => Err(Status::new(Code::Internal, format!("an answer ({}) without a status", head.status))),
    }
}
