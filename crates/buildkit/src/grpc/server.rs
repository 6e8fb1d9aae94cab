//! The side that answers.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::sync::{mpsc, oneshot};

use super::stream::{QUEUE, framed, parsed, receive, send};
use super::{Code, Socket, Status};

/// Answers calls. Each runs in a thread of its own and may block.
pub trait Handler: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    /// The status that the caller gets.
    fn call(&self, call: &mut Call) -> Result<(), Status>;
}

/// What is done when a caller gives up.
type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Given {
    up: AtomicBool,
    hooks: Mutex<Vec<Hook>>,
}

impl Given {
    fn forget(&self) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn up(&self) {
        self.up.store(true, Ordering::SeqCst);
        for hook in std::mem::take(&mut *self.hooks.lock().unwrap_or_else(PoisonError::into_inner)) {
            hook();
        }
    }
}

/// Tells that the caller has given up, unless the call has ended before: also when the whole connection goes.
struct Guard(Arc<Given>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.up();
    }
}

/// One call: what comes, and where answers go.
pub struct Call {
    method: String,
    metadata: HeaderMap,
    incoming: mpsc::Receiver<Result<Bytes, Status>>,
    outgoing: mpsc::Sender<Bytes>,
    given: Arc<Given>,
}

impl Call {
    /// `/package.Service/Method`.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// A field of the metadata that came with the call.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.get(name)?.to_str().ok()
    }

    /// The next message; none after the last.
    ///
    /// # Errors
    /// The caller has gone, or speaks nonsense.
    pub fn receive<M: prost::Message + Default>(&mut self) -> Result<Option<M>, Status> {
        self.incoming.blocking_recv().transpose()?.map(parsed).transpose()
    }

    /// The one message of a unary call.
    ///
    /// # Errors
    /// As [`Call::receive`]; there is none.
    pub fn request<M: prost::Message + Default>(&mut self) -> Result<M, Status> {
        self.receive()?.ok_or_else(|| Status::new(Code::InvalidArgument, "a call without a message"))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The caller has gone.
    pub fn send(&self, message: &impl prost::Message) -> Result<(), Status> {
        self.outgoing
            .blocking_send(framed(message))
            .map_err(|_| Status::new(Code::Cancelled, "the caller has gone"))
    }

    /// Whether the caller has given up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.given.up.load(Ordering::SeqCst)
    }

    /// Has `hook` called when the caller gives up; at once if that has happened.
    pub fn when_cancelled(&self, hook: impl FnOnce() + Send + 'static) {
        self.given.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
        if self.is_cancelled() {
            self.given.up();
        }
    }
}

/// Serves a connection until the peer closes it.
///
/// # Errors
/// The connection, or no event loop can be made.
pub fn serve(socket: Socket, handler: Arc<dyn Handler>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let end = runtime.block_on(accept(socket, handler));
    // Threads that still answer find their queues closed.
    drop(runtime);
    end
}

async fn accept(socket: Socket, handler: Arc<dyn Handler>) -> io::Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_concurrent_streams(1000)
        .handshake(socket.registered()?)
        .await
        .map_err(io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let Ok((request, respond)) = accepted else { break };
        tokio::spawn(answer(request, respond, Arc::clone(&handler)));
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, handler: Arc<dyn Handler>) {
    let (head, body) = request.into_parts();
    let given = Arc::new(Given::default());
    let _guard = Guard(Arc::clone(&given));
    let (came, incoming) = mpsc::channel(QUEUE);
    let (outgoing, mut going) = mpsc::channel(QUEUE);
    let mut call = Call {
        method: head.uri.path().to_owned(),
        metadata: head.headers,
        incoming,
        outgoing,
        given: Arc::clone(&given),
    };
    tokio::spawn(receive(body, came));
    let (done, status) = oneshot::channel();
    let work = move || {
        let result = handler.call(&mut call);
        drop(call);
        let _ = done.send(result);
    };
    let spawned = std::thread::Builder::new().name("grpc-call".to_owned()).stack_size(1 << 20).spawn(work);
    let response = Response::builder().header("content-type", "application/grpc");
    let Ok(Ok(mut stream)) = response.body(()).map(|response| respond.send_response(response, false)) else {
        return;
    };
    let end = match spawned {
        Ok(_) => {
            if forward(&mut stream, &mut going).await.is_err() {
                // The queues close with this, which the thread notices when it uses them next.
                return;
            }
            status
                .await
                .unwrap_or_else(|_| Err(Status::new(Code::Internal, "the call ended without an answer")))
        }
        Err(e) => Err(Status::new(Code::ResourceExhausted, format!("no thread for the call: {e}"))),
    };
    given.forget();
    let _ = stream.send_trailers(trailers(&end));
}

/// Sends what the call says until it has said all; an error when the caller gives up first.
async fn forward(stream: &mut SendStream<Bytes>, going: &mut mpsc::Receiver<Bytes>) -> Result<(), ()> {
    loop {
        let next = tokio::select! {
            biased;
            next = going.recv() => next,
            _ = std::future::poll_fn(|context| stream.poll_reset(context)) => return Err(()),
        };
        match next {
            Some(bytes) => send(stream, bytes).await.map_err(drop)?,
            None => return Ok(()),
        }
    }
}

fn trailers(end: &Result<(), Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let (code, message) = match end {
        Ok(()) => (Code::Ok, String::new()),
        Err(status) => (status.code, status.encoded()),
    };
    trailers.insert("grpc-status", http::HeaderValue::from(code as u32));
    if let Ok(message) = http::HeaderValue::from_str(&message)
        && !message.is_empty()
    {
        trailers.insert("grpc-message", message);
    }
    trailers
}
