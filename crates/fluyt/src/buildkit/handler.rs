//! The engine's API with BuildKit's two paths in front: `/session` and `/grpc`, whose connections are handed over.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use fluyt_buildkit::grpc::{Handler as Calls, Socket, serve};
use fluyt_buildkit::{Offer, Service, Sessions};
use fluyt_http::{Duplex, Exchange, Handler, Method, Payload, Request, Response};
use fluyt_model::Error;
use rustix::event::{PollFd, PollFlags, poll};

use super::builder::Builds;

/// Answers what belongs to BuildKit, and gives everything else to another handler.
pub struct WithBuildKit {
    rest: Arc<dyn Handler>,
    sessions: Arc<Sessions>,
    service: Arc<dyn Calls>,
}

impl WithBuildKit {
    /// For the data root at `root`, in front of `rest`.
    pub fn new(root: &Path, rest: Arc<dyn Handler>) -> Self {
        let sessions = Arc::new(Sessions::default());
        let builds = Arc::new(Builds::new(root));
        let service = Service::new(builds, Arc::clone(&sessions), env!("CARGO_PKG_VERSION"));
        Self { rest, sessions, service: Arc::new(service) }
    }

    fn hand_over(&self, request: &Request<'_>, path: &str) -> Response {
        let upgrade = request.head.header("upgrade").unwrap_or_default();
        if !upgrade.eq_ignore_ascii_case("h2c") {
            let message = serde_json::json!({"message": format!("{path}: the connection is not to be upgraded to h2c")});
            return Response::new(400).json(&message);
        }
        let response = Response::new(101).header("Connection", "Upgrade").header("Upgrade", "h2c");
        if path == "/grpc" {
            let service = Arc::clone(&self.service);
            return response.payload(Payload::hijack(move |duplex| {
                // A client that goes is the usual end.
                let _ = with_socket(duplex, |socket| serve(socket, service));
            }));
        }
        let header = |name: &str| request.head.header(name).unwrap_or_default().to_owned();
        let offer = Offer {
            id: header("x-docker-expose-session-uuid"),
            shared_key: header("x-docker-expose-session-sharedkey"),
            methods: request.head.headers("x-docker-expose-session-grpc-method").map(str::to_owned).collect(),
        };
        if offer.id.is_empty() {
            return Response::new(400).json(&serde_json::json!({"message": "a session without an id"}));
        }
        let sessions = Arc::clone(&self.sessions);
        response.payload(Payload::hijack(move |duplex| {
            let _ = with_socket(duplex, |socket| sessions.carry(socket, offer));
        }))
    }
}

/// Calls `work` with a socket that carries the conversation.
fn with_socket(mut duplex: Duplex, work: impl FnOnce(Socket) -> io::Result<()> + Send) -> io::Result<()> {
    if duplex.is_plain() {
        let ahead = duplex.take_ahead();
        return work(Socket::new(duplex.try_clone_fd()?, ahead));
    }
    // Behind TLS the descriptor's bytes are not the conversation's: a pair of sockets carries it, and this thread moves
    // it between the two.
    let (ours, theirs) = UnixStream::pair()?;
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || work(Socket::new(theirs.into(), Vec::new())));
        let moved = pump(&mut duplex, ours);
        worker.join().unwrap_or(Ok(())).and(moved)
    })
}

/// Moves bytes both ways until either side has ended. Neither end stops reading while it writes, so no write waits for
/// ever.
fn pump(duplex: &mut Duplex, mut ours: UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (mut from_client, mut from_us) = (duplex.holds(), false);
        if !from_client {
            let mut fds = [PollFd::new(duplex, PollFlags::IN), PollFd::new(&ours, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            (from_client, from_us) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        }
        if from_us {
            let n = ours.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            duplex.write_all(&buffer[..n])?;
            duplex.flush()?;
        }
        if from_client {
            let n = duplex.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            ours.write_all(&buffer[..n])?;
        }
    }
}

impl Handler for WithBuildKit {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        if request.head.method == Method::Post
            && let Some(path) = ["/grpc", "/session"].into_iter().find(|path| is(&request.head.path, path))
        {
            return self.hand_over(request, path);
        }
        self.rest.handle(request)
    }

    fn tick(&self) {
        self.rest.tick();
    }

    fn trouble(&self, error: &Error) {
        self.rest.trouble(error);
    }

    fn full(&self) -> Response {
        self.rest.full()
    }

    fn observes(&self) -> bool {
        self.rest.observes()
    }

    fn begun(&self) {
        self.rest.begun();
    }

    fn done(&self, exchange: &Exchange) {
        self.rest.done(exchange);
    }
}

/// Whether a path is this one, with or without a version in front.
fn is(path: &str, wanted: &str) -> bool {
    let version = path.strip_suffix(wanted);
    version.is_some_and(|v| v.is_empty() || v.starts_with("/v1.") && !v[1..].contains('/'))
}

#[cfg(test)]
mod tests {
    use super::is;

    #[test]
    fn paths_with_and_without_a_version() {
        assert!(is("/grpc", "/grpc") && is("/v1.51/grpc", "/grpc") && is("/v1.24/session", "/session"));
        assert!(!is("/x/grpc", "/grpc") && !is("/v1.51/x/grpc", "/grpc") && !is("/grpc/", "/grpc"));
    }
}
