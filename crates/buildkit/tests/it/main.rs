//! Both ends of BuildKit's conversation in one process, over socket pairs.

mod calls;
mod directories;
mod flow;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use fluyt_buildkit::grpc::{Client, Handler, Socket, serve};

/// A server of `handler` and a client of it; both threads end when the client's side of the connection closes.
struct Pair {
    client: Client,
    cut: UnixStream,
    threads: Vec<JoinHandle<()>>,
}

impl Pair {
    fn new(handler: Arc<dyn Handler>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let cut = ours.try_clone().expect("clone");
        let server = std::thread::spawn(move || {
            let _ = serve(Socket::new(OwnedFd::from(theirs), Vec::new()), handler);
        });
        let (tell, ready) = mpsc::channel();
        let client = std::thread::spawn(move || {
            let _ = Client::drive(Socket::new(OwnedFd::from(ours), Vec::new()), |client| {
                tell.send(client).expect("the test waits");
            });
        });
        Self { client: ready.recv().expect("a client"), cut, threads: vec![server, client] }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.cut.shutdown(std::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
