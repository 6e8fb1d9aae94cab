//! `COPY`, `ADD` and contexts: which files a build takes, what they are in the image, and what of a bad context it
//! says. Most cases build a stage of files only and look at what is exported of it.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use fluyt_testkit::Host;

use crate::{host, ours_only};

/// The files of a context: `path`, content; `path -> target` is a link.
type Files<'a> = &'a [(&'a str, &'a str)];

fn make(host: &Host, name: &str, files: Files<'_>) -> PathBuf {
    let root = host.scratch().join(name);
    std::fs::create_dir_all(&root).expect("a directory");
    for (path, content) in files {
        match path.split_once(" -> ") {
            Some((path, target)) => symlink(target, root.join(path)).expect("a link"),
            None => drop(host.scratch().write(&format!("{name}/{path}"), content)),
        }
    }
    root
}

fn words<'a>(line: &'a str, dir: &'a str) -> Vec<&'a str> {
    [&["build", "--progress", "plain"][..], &line.split_whitespace().collect::<Vec<_>>(), &[dir]].concat()
}

/// Every file below `root`: path, mode and owner, unless they are the usual ones, and content or target.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().expect("a file");
        let name = path.strip_prefix(root).expect("below").display().to_string();
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).expect("read").map(|e| e.expect("an entry").path()));
        }
        let kind = meta.file_type();
        let what = if kind.is_symlink() {
            format!(" -> {}", std::fs::read_link(&path).expect("a target").display())
        } else if kind.is_dir() {
            "/".to_owned()
        } else if kind.is_fifo() {
            " fifo".to_owned()
        } else {
            format!("={}", String::from_utf8_lossy(&std::fs::read(&path).expect("content")))
        };
        let usual = if kind.is_dir() { 0o755 } else { 0o644 };
        let mode = meta.mode() & 0o7777;
        let mode = if kind.is_symlink() || mode == usual { String::new() } else { format!(" {mode:o}") };
        let owner = (meta.uid(), meta.gid());
        let owner = if owner == (0, 0) { String::new() } else { format!(" {}:{}", owner.0, owner.1) };
        if !name.is_empty() {
            found.push(format!("{name}{what}{mode}{owner}"));
        }
    }
    found.sort();
    found
}

/// Builds the instructions on top of nothing and lists what came of them.
fn files_of(host: &Host, dir: &Path, flags: &str, instructions: &str) -> Result<Vec<String>, String> {
    let text = if instructions.contains("FROM ") {
        instructions.to_owned()
    } else {
        format!("FROM scratch\n{instructions}\n")
    };
    let file = host.scratch().write("Dockerfile.case", text);
    let out = host.scratch().join("out");
    let _ = std::fs::remove_dir_all(&out);
    let line = format!("{flags} -f {} -o {}", file.display(), out.display());
    let outcome = host.run_words(&words(&line, &dir.display().to_string()));
    match outcome.code {
        0 => Ok(listing(&out)),
        _ => Err(outcome.stderr),
    }
}

#[test]
fn copies_take_what_buildkit_takes() {
    let host = host!();
    ours_only!(host);
    let dir = make(
        &host,
        "ctx",
        &[
            ("a", "A"),
            ("b.txt", "B"),
            ("c.txt", "C"),
            ("d/e", "E"),
            ("d/f/g", "G"),
            ("d/f/h.o", "H"),
            ("d/.hidden", "."),
            ("with space", "S"),
            ("br[ack", "K"),
            ("to-a -> a", ""),
            ("to-d -> d", ""),
            ("out -> /etc/hostname", ""),
        ],
    );
    for (lines, expected) in [
        ("COPY a /x", &["x=A"][..]),
        ("COPY a /x/", &["x/", "x/a=A"]),
        ("COPY a x/y/", &["x/", "x/y/", "x/y/a=A"]),
        ("COPY a b.txt /x/", &["x/", "x/a=A", "x/b.txt=B"]),
        ("COPY *.txt /x/", &["x/", "x/b.txt=B", "x/c.txt=C"]),
        ("COPY ?.txt b.* /", &["b.txt=B", "c.txt=C"]),
        ("COPY d/f /x", &["x/", "x/g=G", "x/h.o=H"]),
        ("COPY d/f/ /x/", &["x/", "x/g=G", "x/h.o=H"]),
        ("COPY d/* /x/", &["x/", "x/.hidden=.", "x/e=E", "x/g=G", "x/h.o=H"]),
        ("COPY none* a /x/", &["x/", "x/a=A"]),
        ("COPY [\"with space\", \"/x y\"]", &["x y=S"]),
        ("COPY br[[]ack /x", &["x=K"]),
        ("COPY to-a /x", &["x=A"]),
        ("COPY to-d/e /x", &["x=E"]),
        ("COPY ./../a /x", &["x=A"]),
        ("WORKDIR /w\nCOPY a .", &["w/", "w/a=A"]),
        ("COPY --chmod=600 --chown=12:34 a /x", &["x=A 600 12:34"]),
        ("COPY --chmod=u=rwx,go= a /x", &["x=A 700"]),
        ("COPY --chown=7 a /x", &["x=A 7:7"]),
        ("COPY --exclude=*.o --exclude=e d /x", &["x/", "x/.hidden=.", "x/f/", "x/f/g=G", "x/f/h.o=H"]),
        ("COPY --exclude=**/*.o --exclude=.* d /x", &["x/", "x/e=E", "x/f/", "x/f/g=G"]),
        ("COPY --parents d/f/g a /x/", &["x/", "x/a=A", "x/d/", "x/d/f/", "x/d/f/g=G"]),
        ("COPY --parents d/./f/g /x/", &["x/", "x/f/", "x/f/g=G"]),
        ("COPY --parents **/*.o /x/", &["x/", "x/d/", "x/d/f/", "x/d/f/h.o=H"]),
        ("COPY --link a /x/y", &["x/", "x/y=A"]),
        ("COPY a /x\nCOPY b.txt /x", &["x=B"]),
        ("COPY <<E /x\none\nE", &["x=one\n"]),
        ("ARG W=v\nCOPY <<E <<'F' /x/\n$W\nE\n$W\nF", &["x/", "x/E=v\n", "x/F=$W\n"]),
        ("COPY --chmod=755 <<-E /x\n\tone\n\tE", &["x=one\n 755"]),
        ("ENV SRC=a DST=/x\nCOPY $SRC ${DST}-y", &["x-y=A"]),
        (
            "FROM box AS s\nRUN mkdir /t && echo 1 > /t/f && chown 5:6 /t/f && chmod 4750 /t/f && ln -s f /t/l && ln /t/f /t/m\nFROM scratch\nCOPY --from=s /t /x",
            &["x/", "x/f=1\n 4750 5:6", "x/l -> f", "x/m=1\n 4750 5:6"],
        ),
        ("FROM scratch AS one\nCOPY a /x\nFROM scratch\nCOPY --from=0 /x /y", &["y=A"]),
        ("FROM scratch\nCOPY --from=box /etc/not-a-program /y", &["y=words\n"]),
    ] {
        let found = files_of(&host, &dir, "", lines).unwrap_or_else(|e| panic!("{lines}: {e}"));
        assert_eq!(found, expected, "{lines}");
    }
    for (lines, why) in [
        ("COPY nothing /", "\"/nothing\": not found"),
        ("COPY a/b /", "not found"),
        ("COPY out /", "not found"),
        ("COPY d /x\nCOPY a /x/e/y", "it is a file"),
        ("COPY --chown=nobody-here a /", "nobody-here"),
        ("COPY --parents d/none /x/", "not found"),
    ] {
        let error = files_of(&host, &dir, "", lines).expect_err(lines);
        assert!(error.contains(why), "{lines}: {error}");
    }
}

#[test]
fn files_with_several_names_stay_themselves() {
    let host = host!();
    ours_only!(host);
    let dir = make(&host, "links", &[("v1/y", "Y"), ("d1/x", "ORIG"), ("d2/x", "OTHER"), ("e/a", "E")]);
    std::fs::create_dir(dir.join("v2")).expect("made");
    for (old, new) in [("v1/y", "v2/y"), ("d1/x", "d2/y"), ("e/a", "e/b")] {
        std::fs::hard_link(dir.join(old), dir.join(new)).expect("linked");
    }
    // The same name from two directories is the same file.
    assert_eq!(files_of(&host, &dir, "", "COPY v*/ /t/").expect("built"), ["t/", "t/y=Y"]);
    // The first name has been overwritten meanwhile.
    assert_eq!(files_of(&host, &dir, "", "COPY d*/ /t/").expect("built"), ["t/", "t/x=OTHER", "t/y=ORIG"]);
    assert_eq!(files_of(&host, &dir, "", "COPY e /t/").expect("built"), ["t/", "t/a=E", "t/b=E"]);
    let inode = |name: &str| std::fs::metadata(host.scratch().join("out/t").join(name)).expect("there").ino();
    assert_eq!(inode("a"), inode("b"), "they are still one file");
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let host = host!();
    ours_only!(host);
    let dir = make(&host, "tars", &[("in/f", "F"), ("in/l -> f", ""), ("plain", "P"), ("evil/x", "X")]);
    let run = |program: &str, line: &str| {
        let status = Command::new(program).args(line.split_whitespace()).current_dir(&dir).status();
        assert!(status.expect("the program").success(), "{program} {line}");
    };
    run("tar", "--owner=3 --group=4 -cf t.tar -C in f l");
    run("tar", "--format=v7 --owner=3 --group=4 -cf old.tar -C in f l");
    for (program, line) in [
        ("gzip", "-k t.tar"),
        ("xz", "-k t.tar"),
        ("bzip2", "-k t.tar"),
        ("zstd", "-q t.tar"),
        ("xz", "-k plain"),
    ] {
        if program == "bzip2" && Command::new("bzip2").arg("--help").output().is_err() {
            continue;
        }
        run(program, line);
    }
    run("tar", "-cPf evil.tar --transform=s,^evil,../../evil, evil/x");
    let noise =
        std::iter::successors(Some(1_u32), |n| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
    std::fs::write(dir.join("noise"), noise.take(100_000).map(|n| n.to_be_bytes()[0]).collect::<Vec<_>>())
        .expect("written");
    run("tar", "-czf whole.tar.gz noise");
    let whole = std::fs::read(dir.join("whole.tar.gz")).expect("read");
    std::fs::write(dir.join("cut.tar.gz"), &whole[..whole.len() / 2]).expect("cut");
    let unpacked = &["x/", "x/f=F 3:4", "x/l -> f"][..];
    for name in ["t.tar", "old.tar", "t.tar.gz", "t.tar.xz", "t.tar.bz2", "t.tar.zst"] {
        if !dir.join(name).exists() {
            continue;
        }
        let found =
            files_of(&host, &dir, "", &format!("ADD {name} /x/")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found: Vec<String> = found.into_iter().filter(|line| !line.starts_with("x/l")).collect();
        assert_eq!(found, &unpacked[..2], "{name}");
        for line in [format!("COPY {name} /x/"), format!("ADD --unpack=false {name} /x/")] {
            let found = files_of(&host, &dir, "", &line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(found.len() == 2 && found[1].starts_with(&format!("x/{name}=")), "{line}: {found:?}");
        }
    }
    let found = files_of(&host, &dir, "", "ADD --chown=8:9 t.tar.xz /x/").expect("with another owner");
    assert!(found.contains(&"x/f=F 8:9".to_owned()), "{found:?}");
    let found = files_of(&host, &dir, "", "ADD plain.xz plain /x/").expect("no archives");
    assert!(found.contains(&"x/plain=P".to_owned()), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("x/plain.xz=")), "{found:?}");
    let evil = files_of(&host, &dir, "", "ADD evil.tar /x/y/").map(|f| f.join(" ")).unwrap_or_default();
    assert!(!evil.split(' ').any(|path| path.starts_with("evil")), "{evil}");
    assert!(files_of(&host, &dir, "", "ADD cut.tar.gz /x/").is_err_and(|e| !e.contains("panicked")));
}

#[test]
fn dockerignore_files_decide_what_exists() {
    let host = host!();
    ours_only!(host);
    let files: Files<'_> = &[("a", "A"), ("b/c", "C"), ("b/d.log", "D"), ("e.log", "E"), (".x/y", "Y")];
    for (number, (ignore, expected)) in [
        ("", &[".x/", ".x/y=Y", "a=A", "b/", "b/c=C", "b/d.log=D", "e.log=E"][..]),
        ("b\n", &[".x/", ".x/y=Y", "a=A", "e.log=E"]),
        ("b/\n# a\n  \n.*\n", &["a=A", "e.log=E"]),
        ("*.log\n", &[".x/", ".x/y=Y", "a=A", "b/", "b/c=C", "b/d.log=D"]),
        ("**/*.log\n/.x\n", &["a=A", "b/", "b/c=C"]),
        ("*\n!b\n", &["b/", "b/c=C", "b/d.log=D"]),
        ("*\n!b/c\n", &["b/", "b/c=C"]),
        ("**\n!a\n", &["a=A"]),
        ("\u{feff}a\n[be]*\n", &[".x/", ".x/y=Y"]),
        ("b\n!b/d.log\n.x\n", &["a=A", "b/", "b/d.log=D", "e.log=E"]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("ignore-{number}");
        let dir = make(&host, &name, files);
        host.scratch().write(&format!("{name}/.dockerignore"), ignore);
        let found = files_of(&host, &dir, "", "COPY . /").unwrap_or_else(|e| panic!("{ignore:?}: {e}"));
        let found: Vec<String> =
            found.into_iter().filter(|line| !line.starts_with(".dockerignore")).collect();
        assert_eq!(found, expected, "{ignore:?}");
    }
    // One that belongs to the Dockerfile comes first; what is left out cannot be copied by name.
    let dir = make(&host, "own", &[("a", "A"), ("b", "B"), (".dockerignore", "a\n")]);
    host.scratch().write("Dockerfile.case.dockerignore", "b\n.dockerignore\n");
    assert_eq!(files_of(&host, &dir, "", "COPY . /").expect("built"), ["a=A"]);
    assert!(files_of(&host, &dir, "", "COPY b /").is_err_and(|e| e.contains("\"/b\": not found")));
    host.scratch().write("Dockerfile.case.dockerignore", "[\n");
    assert!(files_of(&host, &dir, "", "COPY . /").is_err_and(|e| e.contains("syntax error in pattern")));
}

#[test]
fn bad_contexts_are_told_or_borne() {
    let host = host!();
    ours_only!(host);
    let dir = make(
        &host,
        "bad",
        &[
            ("fine", "F"),
            ("loop-a -> loop-b", ""),
            ("loop-b -> loop-a", ""),
            ("self -> .", ""),
            ("abroad -> ../../../../etc", ""),
            ("dangling -> nowhere", ""),
            ("sub/deep/er/file", "D"),
        ],
    );
    let run = |program: &str, line: &str| {
        let status = Command::new(program).args(line.split_whitespace()).current_dir(&dir).status();
        assert!(status.expect("the program").success(), "{program} {line}");
    };
    run("mkfifo", "fifo");
    run("mknod", "null c 1 3");
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("a socket");
    // Links stay links, pipes and devices are made again, sockets are nothing; nobody waits for a pipe.
    let found = files_of(&host, &dir, "", "COPY . /\nCOPY fifo /pipe").expect("built");
    for line in [
        "loop-a -> loop-b",
        "self -> .",
        "abroad -> ../../../../etc",
        "dangling -> nowhere",
        "fifo fifo",
        "pipe fifo",
    ] {
        assert!(found.iter().any(|other| other == line), "{line}: {found:?}");
    }
    assert!(
        found.iter().any(|line| line.starts_with("null"))
            && !found.iter().any(|line| line.starts_with("socket"))
    );
    for (line, why) in [
        ("COPY loop-a /", "oo many"),
        ("COPY dangling /", "not found"),
        ("COPY abroad/hostname /", "not found"),
        ("COPY self/self/self/fine /x\nCOPY fine/ /y/z/\nCOPY fine/x /", "not found"),
    ] {
        let error = files_of(&host, &dir, "", line).expect_err(line);
        assert!(error.contains(why) && !error.contains("panicked"), "{line}: {error}");
    }
    use std::os::unix::ffi::OsStrExt;
    let odd = dir.join("odd");
    std::fs::create_dir(&odd).expect("made");
    std::fs::write(odd.join(std::ffi::OsStr::from_bytes(b"name-\xff")), "x").expect("written");
    let error = files_of(&host, &dir, "", "COPY odd /").expect_err("no UTF-8");
    assert!(error.contains("not UTF-8") && error.contains("odd"), "{error}");
    assert_eq!(
        files_of(&host, &dir, "", "COPY sub /").expect("beside it"),
        ["deep/", "deep/er/", "deep/er/file=D"]
    );
}

#[test]
fn dockerfiles_are_found_or_missed() {
    let host = host!();
    ours_only!(host);
    let dir = make(
        &host,
        "place",
        &[("f", "F"), ("real", "FROM scratch\nCOPY f /x\n"), ("Dockerfile -> real", "")],
    );
    let path = dir.display().to_string();
    let built = |line: &str, dir: &str| {
        let out = host.scratch().join("placed");
        let _ = std::fs::remove_dir_all(&out);
        let outcome = host.run_words(&words(&format!("{line} -o {}", out.display()), dir));
        if outcome.code == 0 { Ok(listing(&out)) } else { Err(outcome.stderr) }
    };
    assert_eq!(built("", &path).expect("through a link"), ["x=F"]);
    symlink(&dir, host.scratch().join("place-link")).expect("a link");
    assert_eq!(
        built("", &host.scratch().join("place-link").display().to_string()).expect("a linked context"),
        ["x=F"]
    );
    let outside = host.scratch().write("outside/some.df", "FROM scratch\nCOPY f /y\n");
    assert_eq!(built(&format!("-f {}", outside.display()), &path).expect("outside"), ["y=F"]);
    host.scratch().write("lower/dockerfile", "FROM scratch\nCOPY <<E /z\nE\n");
    assert_eq!(built("", &host.scratch().join("lower").display().to_string()).expect("lower case"), ["z="]);
    host.scratch().write("latin/Dockerfile", b"FROM scratch\n# caf\xe9\n");
    host.scratch().write("empty/Dockerfile", "");
    host.scratch().write("blank/Dockerfile", "\n\n");
    std::fs::create_dir_all(host.scratch().join("dir/Dockerfile")).expect("made");
    std::fs::create_dir_all(host.scratch().join("none")).expect("made");
    symlink("Dockerfile", host.scratch().join("none/Dockerfile")).expect("a loop");
    let huge = host.scratch().write("huge/Dockerfile", "");
    std::fs::File::options().write(true).open(huge).and_then(|f| f.set_len(1 << 30)).expect("long");
    for (name, why) in [
        ("latin", "not UTF-8"),
        ("empty", "the Dockerfile cannot be empty"),
        ("blank", "file with no instructions"),
        ("dir", "irectory"),
        ("none", "oo many"),
        ("huge", "too long for such a file"),
        ("absent", "not found"),
        ("place/f", "not a directory"),
    ] {
        let error = built("", &host.scratch().join(name).display().to_string()).expect_err(name);
        assert!(error.contains(why) && !error.contains("panicked"), "{name}: {error}");
    }
    let long = format!("FROM scratch\nLABEL x={}\n", "y".repeat(70_000));
    host.scratch().write("long/Dockerfile", long);
    let error = built("", &host.scratch().join("long").display().to_string()).expect_err("a long line");
    assert!(error.contains("dockerfile line greater than max allowed size of 65535"), "{error}");
}

#[test]
fn other_front_ends_are_refused() {
    let host = host!();
    ours_only!(host);
    let dir = make(&host, "syntax", &[("f", "F")]);
    for (line, known) in [
        ("# syntax=docker/dockerfile:1", true),
        ("# syntax = docker.io/docker/dockerfile-upstream:master-labs", true),
        (
            "# syntax=mirror.example:5000/docker/dockerfile:1.7@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            true,
        ),
        ("# syntax=example.com/mockerfile:2", false),
    ] {
        let built = files_of(&host, &dir, "", &format!("{line}\nFROM scratch\nCOPY f /\n"));
        assert_eq!(built.is_ok(), known, "{line}: {built:?}");
        if let Err(error) = built {
            assert!(
                error.contains("example.com/mockerfile:2") && error.contains("only Dockerfiles"),
                "{error}"
            );
        }
    }
    let error = files_of(&host, &dir, "--build-arg BUILDKIT_SYNTAX=example.com/other", "COPY f /")
        .expect_err("another");
    assert!(error.contains("example.com/other"), "{error}");
}
