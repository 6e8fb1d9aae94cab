//! Broken input for what reads Dockerfiles and their neighbours: it may be refused, nothing else.
#![forbid(unsafe_code)]

mod common;

use common::{options, planned_with};
use fluyt_build::dockerfile::{Env, Lexer, mount};
use fluyt_build::ignore::Ignore;
use fluyt_build::plan::{Options, outline, targets};
use fluyt_model::reference::Reference;
use fluyt_testkit::fuzz::{ROUNDS, Target};

const FILES: &[&[u8]] = &[
    b"# syntax=docker/dockerfile:1\n# escape=\\\nARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS one\nRUN x \\\n # y\n  z\nFROM one\nCOPY --from=one --chown=1:2 --chmod=u+x --exclude=*.o a b/ /c/\n",
    b"FROM a\nENV A=1 B='two' C=\"$A ${B:-x}\"\nLABEL x y z\nARG D=${A%/*} E=${B//x/y}\nEXPOSE 80 90-95/udp\nVOLUME [\"/a\"]\nUSER 1:2\nWORKDIR b/../c\nSTOPSIGNAL 9\nSHELL [\"s\", \"-c\"]\n",
    b"FROM a\nRUN <<A cat <<-'B' 3<<\"C D\"\n1\nA\n\t2\n\tB\n3\nC D\nCOPY <<E <<F /x/\n$A\nE\nF\nONBUILD RUN <<G\nG\n",
    b"FROM scratch\nRUN --mount=type=cache,id=a,target=/c,sharing=locked,mode=0755 --mount=type=secret,id=b,env=C,required --network=none --security=insecure x\nADD --checksum=sha256:00 http://h.example/f /\nADD --keep-git-dir git@h.example:r.git#v:d /g\n",
    b"# check=skip=all;error=true\nFROM a\nHEALTHCHECK --interval=5s --retries=3 CMD [\"x\"]\nHEALTHCHECK NONE\nCMD x\nENTRYPOINT [\"y\"]\nMAINTAINER me\n",
];

const WORDS: &[&[u8]] = &[
    b"FROM ",
    b"RUN ",
    b"COPY ",
    b"ADD ",
    b"ONBUILD ",
    b"ARG ",
    b"ENV ",
    b"\\\n",
    b"\n",
    b"<<E",
    b"<<-\"E\"",
    b"\nE\n",
    b"${",
    b"}",
    b"$x",
    b":-",
    b":+",
    b":?",
    b"#",
    b"##",
    b"%%",
    b"//",
    b"*",
    b"?",
    b"[",
    b"]",
    b"[\"",
    b"\"]",
    b"\"",
    b"'",
    b"\\",
    b"`",
    b"--",
    b"--from=",
    b"--mount=",
    b"--mount=type=cache,",
    b"--chmod=",
    b"--parents",
    b" AS ",
    b"scratch",
    b"0",
    b"99999999999999999999",
    b"\xc3\xbc",
    b"\xff",
    b"\x00",
    b"# escape=`\n",
    b"# check=",
    b"/./",
    b"**/",
    b"!",
    b"\t",
    b"\r\n",
    b"-",
    b"=",
    b",",
    b"@",
    b":",
    b"?ref=",
];

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

#[test]
fn fuzz_dockerfiles() {
    Target { name: "dockerfile", seeds: FILES, words: WORDS, rounds: ROUNDS }.run(|input| {
        let text = text(input);
        let options = Options { all_stages: true, ..options() };
        let (planned, warnings) = planned_with(&text, &options, &Ignore::default(), |_, config| {
            config.config.on_build = vec!["RUN x".to_owned()];
        });
        for warning in warnings {
            let shown = fluyt_build::dockerfile::fault::excerpt("f", &text, warning.lines);
            assert!(shown.is_empty() || shown.starts_with("f:"));
        }
        match planned {
            Ok(plan) => assert_eq!(plan.graph.digests().len(), plan.graph.vertices.len()),
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
        if let Ok(file) = fluyt_build::dockerfile::parse(&text, &mut Default::default()) {
            let _ = (targets(&file), outline(&file, &options));
        }
    });
}

#[test]
fn fuzz_words_and_mounts() {
    let env = Env::from_lines(["x=a.b.c", "y=", "z=\u{fc}/\u{fc}"]);
    Target {
        name: "words",
        seeds: &[
            b"a ${x%.*} '$y' \"${z/a/b}\" ${n:-$x}",
            b"type=bind,from=a,target=/b,rw",
            b"\"a,b\"\"c\",id=\\$x",
        ],
        words: WORDS,
        rounds: ROUNDS,
    }
    .run(|input| {
        let text = text(input);
        for lexer in [
            Lexer::new('\\'),
            Lexer { keep_unset: true, raw_quotes: true, raw_escapes: true, ..Lexer::new('`') },
            Lexer { no_quotes: true, ..Lexer::new('\\') },
        ] {
            let _ = lexer.expand(&text, &env);
        }
        let _ = (mount::parse(&text, &mut |value| Ok(value.to_owned())), mount::from_of(&text));
        let _ = fluyt_build::gitref::parse(&text);
    });
}

#[test]
fn fuzz_ignore_patterns() {
    Target {
        name: "dockerignore",
        seeds: &[b"a/**/b*\n!a/c\n# no\n[a-z]?.log\n", b"*\n!**/x\n\\[a\n", b"**\n!.git\n/a/../b/./c/\n"],
        words: WORDS,
        rounds: ROUNDS,
    }
    .run(|input| {
        let Ok(ignore) = Ignore::parse(&text(input)) else { return };
        for path in [
            "a",
            "a/b",
            "a/x/y/b.log",
            ".git",
            "[a",
            "\u{fc}/\u{fc}",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
        ] {
            let (out, state) = ignore.matches(path, None);
            assert_eq!(out, ignore.leaves_out(path));
            let _ = ignore.matches(&format!("{path}/below"), Some(&state));
        }
    });
}

#[test]
fn fuzz_references() {
    let digest = format!("h.example:5000/a/b_c__d-e.f:Tag-1@sha256:{}", "0".repeat(64));
    Target {
        name: "reference",
        seeds: &[b"busybox", b"library/busybox:1.36", b"localhost/a:b", b"[::1]:5000/a", digest.as_bytes()],
        words: &[
            b"/",
            b":",
            b"@",
            b".",
            b"__",
            b"-",
            b"sha256:",
            b"localhost",
            b"[",
            b"]",
            b"docker.io/",
            b"A",
            b"\xff",
        ],
        rounds: ROUNDS,
    }
    .run(|input| {
        let text = text(input);
        if let Ok(reference) = Reference::parse_untagged(&text) {
            let whole = reference.or_latest();
            let again =
                Reference::parse(&whole.to_string()).unwrap_or_else(|e| panic!("{text:?}: {whole}: {e}"));
            assert_eq!(again, whole, "{text:?}");
            let familiar =
                Reference::parse_untagged(&whole.familiar()).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert_eq!(familiar.or_latest(), whole, "{text:?}");
        }
    });
}
