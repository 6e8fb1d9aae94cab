//! Connections on which a client offers what a build needs of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use crate::filesync;
use crate::grpc::{Client, Code, Socket, Stream};
use crate::proto::{
    BytesMessage, CheckAgentRequest, CredentialsRequest, CredentialsResponse, Empty, GetSecretRequest,
    GetSecretResponse,
};

/// How long a build waits for the session that it names.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest piece of a stream to the client; its limit for a message is 4 MiB.
const PIECE: usize = 1 << 20;

/// All sessions of a server.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<BTreeMap<String, Session>>,
    changed: Condvar,
}

/// One client's offers. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    client: Client,
    methods: Arc<BTreeSet<String>>,
    /// Hint for what its directories have in common with those of earlier sessions.
    shared_key: Arc<str>,
}

/// What a client says of its session when it begins, in the headers of `POST /session`.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// `X-Docker-Expose-Session-Uuid`.
    pub id: String,
    /// `X-Docker-Expose-Session-Sharedkey`.
    pub shared_key: String,
    /// `X-Docker-Expose-Session-Grpc-Method`, each.
    pub methods: Vec<String>,
}

impl Sessions {
    /// Carries a session until its client closes it.
    ///
    /// # Errors
    /// The connection.
    pub fn carry(&self, socket: Socket, offer: Offer) -> io::Result<()> {
        let id = offer.id.clone();
        let end = Client::drive(socket, |client| {
            let methods = offer.methods.iter().map(|m| m.to_ascii_lowercase()).collect();
            let session =
                Session { client, methods: Arc::new(methods), shared_key: Arc::from(offer.shared_key) };
            self.lock().insert(offer.id, session);
            self.changed.notify_all();
        });
        self.lock().remove(&id);
        end
    }

    /// The session with this id; waits a while for one that has not begun yet.
    ///
    /// # Errors
    /// It does not begin.
    pub fn get(&self, id: &str) -> Result<Session> {
        let until = Instant::now() + PATIENCE;
        let mut open = self.lock();
        loop {
            if let Some(session) = open.get(id) {
                return Ok(session.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(Kind::Unavailable, format!("no active session for {id}"))
                    .with_hint("the client that asked for the build has gone, or never offered its files"));
            }
            open = self.changed.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Hint for what its directories have in common with those of earlier sessions of the same client.
    #[must_use]
    pub fn shared_key(&self) -> &str {
        &self.shared_key
    }

    /// Whether the client offers this method.
    #[must_use]
    pub fn offers(&self, method: &str) -> bool {
        self.methods.contains(&method.to_ascii_lowercase())
    }

    /// Begins a call; refused when the client does not offer it.
    pub(crate) fn open(&self, method: &str, metadata: &[(&str, String)]) -> Result<Stream> {
        if !self.offers(method) {
            return Err(Error::unsupported(format!("the client does not offer {method}")));
        }
        Ok(self.client.open(method, metadata)?)
    }

    /// Brings the client's directory `name` to `into`, which is empty, as far as `selection` says; returns the bytes
    /// that were sent.
    ///
    /// # Errors
    /// The client has no such directory, sends what leads out of it, or goes; the disk.
    pub fn directory(&self, name: &str, selection: &filesync::Selection, into: &Path) -> Result<u64> {
        filesync::receive(self, name, selection, into)
            .map_err(|e| e.context(format!("the client's directory {name:?}")))
    }

    /// What the client sends for an address of its own: a context or Dockerfile from its standard input.
    ///
    /// # Errors
    /// The client does not have it.
    pub fn upload(&self, host: &str, path: &str) -> Result<impl Read + use<>> {
        let metadata = [("urlpath", path.to_owned()), ("urlhost", host.to_owned())];
        let stream = self.open("/moby.upload.v1.Upload/Pull", &metadata)?;
        Ok(Pieces { stream, piece: Vec::new(), read: 0 })
    }

    /// A secret; none if the client does not have it.
    ///
    /// # Errors
    /// The client goes, or fails otherwise.
    pub fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        const METHOD: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
        if !self.offers(METHOD) {
            return Ok(None);
        }
        match self.client.ask::<GetSecretResponse>(METHOD, &GetSecretRequest { id: id.to_owned() }) {
            Ok(answer) => Ok(Some(answer.data)),
            Err(status) if status.code == Code::NotFound => Ok(None),
            Err(status) => Err(Error::from(status).context(format!("secret {id}"))),
        }
    }

    /// Who to be at a registry: name and password. None: nobody in particular.
    ///
    /// # Errors
    /// The client goes, or fails otherwise.
    pub fn credentials(&self, host: &str) -> Result<Option<(String, String)>> {
        const METHOD: &str = "/moby.filesync.v1.Auth/Credentials";
        if !self.offers(METHOD) {
            return Ok(None);
        }
        let answer: CredentialsResponse =
            self.client.ask(METHOD, &CredentialsRequest { host: host.to_owned() })?;
        let known = !answer.username.is_empty() || !answer.secret.is_empty();
        Ok(known.then_some((answer.username, answer.secret)))
    }

    /// Whether the client has an agent by this id.
    ///
    /// # Errors
    /// The client goes, or fails otherwise.
    pub fn has_agent(&self, id: &str) -> Result<bool> {
        const METHOD: &str = "/moby.sshforward.v1.SSH/CheckAgent";
        if !self.offers(METHOD) {
            return Ok(false);
        }
        match self.client.ask::<Empty>(METHOD, &CheckAgentRequest { id: id.to_owned() }) {
            Ok(_) => Ok(true),
            Err(status) if matches!(status.code, Code::NotFound | Code::Unknown) => Ok(false),
            Err(status) => Err(status.into()),
        }
    }

    /// Connects whoever connects to `listener` with the client's agent, until the listener is shut down.
    pub fn forward_agent(&self, id: &str, listener: &UnixListener) {
        while let Ok((connection, _)) = listener.accept() {
            let metadata = [("buildkit.ssh.id", id.to_owned())];
            let Ok(stream) = self.open("/moby.sshforward.v1.SSH/ForwardAgent", &metadata) else { return };
            // It ends with either side.
            std::thread::spawn(move || forward(stream, connection));
        }
    }

    /// Where an output goes that is one file; `id` is the output's place among all.
    ///
    /// # Errors
    /// The client does not take it.
    pub fn file(&self, id: usize, metadata: &BTreeMap<String, String>) -> Result<FileToClient> {
        let mut all = vec![("buildkit-attachable-exporter-id", id.to_string())];
        let named: Vec<(String, String)> = metadata
            .iter()
            .map(|(k, v)| (format!("exporter-md-{}", k.to_ascii_lowercase()), v.clone()))
            .collect();
        all.extend(named.iter().map(|(k, v)| (k.as_str(), v.clone())));
        Ok(FileToClient { stream: self.open(filesync::SEND, &all)? })
    }

    /// Sends a directory to where an output goes; `id` is the output's place among all.
    ///
    /// # Errors
    /// The client does not take it; the disk.
    pub fn send_directory(&self, id: usize, from: &Path) -> Result<()> {
        filesync::send(self, id, from)
    }
}

fn forward(stream: Stream, connection: UnixStream) {
    let Ok(mut other) = connection.try_clone() else { return };
    let (to_agent, mut from_agent) = stream.split();
    let back = std::thread::spawn(move || {
        while let Ok(Some(message)) = from_agent.receive::<BytesMessage>() {
            if other.write_all(&message.data).is_err() {
                break;
            }
        }
        let _ = other.shutdown(std::net::Shutdown::Both);
    });
    let mut connection = connection;
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n @ 1..) = connection.read(&mut buffer) {
        if to_agent.send(&BytesMessage { data: buffer[..n].to_vec() }).is_err() {
            break;
        }
    }
    drop(to_agent);
    let _ = back.join();
}

/// A stream of pieces as one.
struct Pieces {
    stream: Stream,
    piece: Vec<u8>,
    read: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            match self.stream.receive::<BytesMessage>().map_err(io::Error::other)? {
                Some(message) => (self.piece, self.read) = (message.data, 0),
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.piece.len() - self.read);
        buffer[..n].copy_from_slice(&self.piece[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}

/// An output that is one file at the client.
pub struct FileToClient {
    stream: Stream,
}

impl FileToClient {
    /// Says that this was all, and waits until the client has it.
    ///
    /// # Errors
    /// The client could not keep it.
    pub fn finish(mut self) -> Result<()> {
        self.stream.close();
        while self.stream.receive::<BytesMessage>()?.is_some() {}
        Ok(())
    }
}

impl Write for FileToClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE);
        let sent = self.stream.send(&BytesMessage { data: bytes[..n].to_vec() });
        match sent {
            Ok(()) => Ok(n),
            // Why, the answer says.
            Err(ended) => Err(io::Error::other(match self.stream.receive::<BytesMessage>() {
                Err(status) => status,
                Ok(_) => ended,
            })),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens at `path` for who wants the agent `id` of `session`.
///
/// # Errors
/// The path cannot be bound.
pub fn listen(path: &Path) -> Result<UnixListener> {
    UnixListener::bind(path).about(|| path.display().to_string())
}
