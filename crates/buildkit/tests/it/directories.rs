//! Directories from clients, honest and other.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fluyt_buildkit::grpc::{Call, Handler, Socket, Status, serve};
use fluyt_buildkit::proto::{Packet, Stat, packet};
use fluyt_buildkit::{Offer, Selection, Session, Sessions};

const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;

/// A client that sends these files, and takes a directory into `taken`.
struct Files {
    sends: Vec<(Stat, Vec<u8>)>,
    asked: Mutex<Vec<String>>,
    taken: Mutex<Vec<(Stat, Vec<u8>)>>,
}

impl Handler for Files {
    fn call(&self, call: &mut Call) -> Result<(), Status> {
        if call.method().contains("FileSend") {
            return self.take(call);
        }
        self.asked.lock().expect("lock").push(format!(
            "{} {:?} {:?}",
            call.metadata("dir-name").unwrap_or_default(),
            call.metadata("exclude-patterns"),
            call.metadata("exclude-patterns-encoded"),
        ));
        for (stat, _) in &self.sends {
            call.send(&Packet { kind: packet::STAT, stat: Some(stat.clone()), ..Packet::default() })?;
        }
        call.send(&Packet { kind: packet::STAT, ..Packet::default() })?;
        while let Some(word) = call.receive::<Packet>()? {
            match word.kind {
                packet::REQUEST => {
                    for piece in self.sends[word.id as usize].1.chunks(3) {
                        let data = piece.to_vec();
                        call.send(&Packet { kind: packet::DATA, id: word.id, data, ..Packet::default() })?;
                    }
                    call.send(&Packet { kind: packet::DATA, id: word.id, ..Packet::default() })?;
                }
                packet::FIN => return call.send(&Packet { kind: packet::FIN, ..Packet::default() }),
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Files {
    fn take(&self, call: &mut Call) -> Result<(), Status> {
        let mut taken: Vec<(Stat, Vec<u8>)> = Vec::new();
        let mut open = 0;
        loop {
            let word: Packet = call.request()?;
            match (word.kind, word.stat) {
                (packet::STAT, Some(stat)) => {
                    let file = stat.mode & 0xfff0_0000 == 0;
                    let id = u32::try_from(taken.len()).expect("few");
                    taken.push((stat, Vec::new()));
                    if file {
                        open += 1;
                        call.send(&Packet { kind: packet::REQUEST, id, ..Packet::default() })?;
                    }
                }
                (packet::STAT, None) if open > 0 => {}
                (packet::DATA, _) if !word.data.is_empty() => taken[word.id as usize].1.extend(&word.data),
                (packet::DATA, _) => open -= 1,
                (packet::FIN, _) => break,
                _ => {}
            }
            if open == 0 && word.kind != packet::STAT {
                call.send(&Packet { kind: packet::FIN, ..Packet::default() })?;
            }
        }
        *self.taken.lock().expect("lock") = taken;
        Ok(())
    }
}

fn stat(path: &str, mode: u32, content: &str) -> (Stat, Vec<u8>) {
    let size = i64::try_from(content.len()).expect("short");
    let stat =
        Stat { path: path.to_owned(), mode, size, mod_time: 1_500_000_000_000_000_007, ..Stat::default() };
    (stat, content.as_bytes().to_vec())
}

fn link(path: &str, mode: u32, to: &str) -> (Stat, Vec<u8>) {
    (Stat { path: path.to_owned(), mode, linkname: to.to_owned(), ..Stat::default() }, Vec::new())
}

/// Runs `work` with a session whose client is `files`.
fn with_session<T>(files: &Arc<Files>, work: impl FnOnce(&Session) -> T) -> T {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let cut = ours.try_clone().expect("clone");
    let files = Arc::clone(files);
    let client = std::thread::spawn(move || drop(serve(Socket::new(theirs.into(), Vec::new()), files)));
    let sessions = Arc::new(Sessions::default());
    let carrier = {
        let sessions = Arc::clone(&sessions);
        let offer = Offer {
            id: "s".to_owned(),
            shared_key: "k".to_owned(),
            methods: vec![
                "/moby.filesync.v1.FileSync/DiffCopy".to_owned(),
                "/moby.filesync.v1.FileSend/DiffCopy".to_owned(),
            ],
        };
        std::thread::spawn(move || drop(sessions.carry(Socket::new(ours.into(), Vec::new()), offer)))
    };
    let session = sessions.get("s").expect("session");
    let result = work(&session);
    cut.shutdown(std::net::Shutdown::Both).expect("cut");
    carrier.join().expect("carrier");
    client.join().expect("client");
    result
}

fn receive(sends: Vec<(Stat, Vec<u8>)>, into: &Path) -> fluyt_model::Result<u64> {
    let files = Arc::new(Files { sends, asked: Mutex::default(), taken: Mutex::default() });
    with_session(&files, |session| session.directory("context", &Selection::default(), into))
}

#[test]
fn a_directory_arrives_with_modes_times_and_links() {
    let dir = tempfile::tempdir().expect("dir");
    let sends = vec![
        stat("a", 0o640, "content of a"),
        stat("d", DIR | 0o555, ""),
        stat("d/e", 0o755 | 1 << 23, "x"),
        stat("d/empty", 0o600, ""),
        link("l", SYMLINK | 0o777, "../outside"),
        link("z", 0o640, "a"),
    ];
    assert_eq!(receive(sends, dir.path()).expect("received"), 13);
    let at = |name: &str| dir.path().join(name);
    assert_eq!(std::fs::read_to_string(at("a")).expect("a"), "content of a");
    let meta = std::fs::metadata(at("a")).expect("meta");
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o640, 1_500_000_000, 7));
    assert_eq!(std::fs::metadata(at("z")).expect("z").ino(), meta.ino());
    assert_eq!(std::fs::metadata(at("d/e")).expect("e").mode() & 0o7777, 0o4755);
    assert_eq!(std::fs::metadata(at("d")).expect("d").mode() & 0o7777, 0o555);
    assert_eq!(std::fs::read_link(at("l")).expect("l"), Path::new("../outside"));
    assert_eq!(std::fs::metadata(at("d/empty")).expect("empty").len(), 0);
    std::fs::set_permissions(at("d"), std::fs::Permissions::from_mode(0o755)).expect("removable");
}

#[test]
fn what_leads_out_of_the_directory_is_refused() {
    for sends in [
        vec![stat("../x", 0o644, "1")],
        vec![stat("/x", 0o644, "1")],
        vec![stat("a/../x", 0o644, "1")],
        vec![stat("a//x", 0o644, "1")],
        vec![stat("", 0o644, "1")],
        vec![stat(".", DIR | 0o755, "")],
        vec![link("l", SYMLINK, "/tmp"), stat("l/x", 0o644, "1")],
        vec![stat("f", 0o644, "1"), stat("f/x", 0o644, "1")],
        vec![stat("missing/x", 0o644, "1")],
        vec![stat("f", 0o644, "1"), stat("f", 0o644, "2")],
        vec![link("l", SYMLINK, "/etc/passwd"), stat("l", 0o644, "2")],
        vec![link("h", 0o644, "/etc/passwd")],
        vec![link("l", SYMLINK, "/etc/passwd"), link("h", 0o644, "l")],
        vec![stat("nul\0", 0o644, "1")],
    ] {
        let (outer, names) = (tempfile::tempdir().expect("dir"), format!("{:?}", sends));
        let inner = outer.path().join("in");
        std::fs::create_dir(&inner).expect("in");
        assert!(receive(sends, &inner).is_err(), "{names}");
        assert_eq!(std::fs::read_dir(outer.path()).expect("list").count(), 1, "{names}");
    }
}

#[test]
fn patterns_and_names_are_asked_for() {
    let files = Arc::new(Files { sends: Vec::new(), asked: Mutex::default(), taken: Mutex::default() });
    let selection = Selection { exclude: vec!["ä*".to_owned()], ..Selection::default() };
    let dir = tempfile::tempdir().expect("dir");
    with_session(&files, |session| session.directory("n", &selection, dir.path())).expect("received");
    assert_eq!(*files.asked.lock().expect("lock"), ["n Some(\"%C3%A4%2A\") Some(\"1\")"]);
}

#[test]
fn a_directory_is_sent_in_the_order_of_a_walk() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::create_dir(dir.path().join("a")).expect("a");
    std::fs::write(dir.path().join("a/x"), vec![7; 200_000]).expect("x");
    std::fs::write(dir.path().join("a.txt"), "t").expect("txt");
    std::os::unix::fs::symlink("a.txt", dir.path().join("s")).expect("s");
    let files = Arc::new(Files { sends: Vec::new(), asked: Mutex::default(), taken: Mutex::default() });
    with_session(&files, |session| session.send_directory(0, dir.path())).expect("sent");
    let taken = files.taken.lock().expect("lock");
    let names: Vec<&str> = taken.iter().map(|(stat, _)| stat.path.as_str()).collect();
    assert_eq!(names, ["a", "a/x", "a.txt", "s"]);
    assert_eq!(
        (taken[1].1.len(), taken[2].1.as_slice(), taken[3].0.linkname.as_str()),
        (200_000, &b"t"[..], "a.txt")
    );
    assert_eq!(taken[0].0.mode & DIR, DIR);
}
