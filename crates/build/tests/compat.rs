//! What BuildKit does with a Dockerfile, one small case for each behaviour (docs/dockerfile.md has the list).
#![forbid(unsafe_code)]

mod common;

use std::collections::BTreeMap;

use common::{options, planned, planned_with};
use fluyt_build::dockerfile::lines;
use fluyt_build::graph::{Action, Op};
use fluyt_build::ignore::Ignore;
use fluyt_build::plan::{Options, Plan, outline, targets};

/// Keyword, flags and rest of every instruction, and the lines it is on.
fn split(text: &str) -> Vec<String> {
    let file = lines::split(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    file.lines
        .iter()
        .map(|l| {
            let docs: Vec<String> = l.heredocs.iter().map(|h| format!("{}={:?}", h.name, h.text())).collect();
            format!(
                "{}-{} {} {:?} {} {}",
                l.lines.first,
                l.lines.last,
                l.keyword,
                l.flags,
                l.rest,
                docs.join(",")
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}

#[test]
fn lines_are_read_as_buildkit_reads_them() {
    for (text, expected) in [
        // Continuations: joined as they are, over comments and empty lines, also at the end of the file.
        ("RUN one \\\n  two\\\nthree", &["1-3 RUN [] one   twothree"][..]),
        ("RUN one \\  \t\n two", &["1-2 RUN [] one  two"]),
        ("RUN one \\\n # note\n\n two \\\n", &["1-4 RUN [] one  two"]),
        ("RUN one \\\\\nRUN two", &["1-1 RUN [] one \\\\", "2-2 RUN [] two"]),
        ("\\\nRUN one", &["1-2 RUN [] one"]),
        ("  RUN   one  ", &["1-1 RUN [] one"]),
        ("RUN\tone", &["1-1 RUN [] one"]),
        ("RUN one\r\nRUN two \\\r\n three\r\n", &["1-1 RUN [] one", "2-3 RUN [] two  three"]),
        // Another escape character.
        ("# escape=`\nRUN a `\n b\\\nRUN c", &["2-3 RUN [] a  b\\", "4-4 RUN [] c"]),
        ("#escape = `\nCOPY a C:\\dir\\\n", &["2-2 COPY [] a C:\\dir\\"]),
        ("# a note\n# escape=`\nRUN a \\\n b", &["3-4 RUN [] a  b"]),
        ("\n# escape=`\nRUN a \\\n b", &["3-4 RUN [] a  b"]),
        // Flags.
        ("COPY --a=b --c d e", &["1-1 COPY [\"--a=b\", \"--c\"] d e"]),
        ("COPY --a=\"b c\" --d='e f' g", &["1-1 COPY [\"--a=b c\", \"--d=e f\"] g"]),
        ("COPY --a=b\\ c d", &["1-1 COPY [\"--a=b c\"] d"]),
        ("COPY -- --a b", &["1-1 COPY [] --a b"]),
        ("COPY a --b c", &["1-1 COPY [] a --b c"]),
        ("RUN -x --y", &["1-1 RUN [] -x --y"]),
        // Here-documents.
        ("RUN <<E\na\nE\nRUN b", &["1-3 RUN [] <<E E=\"a\\n\"", "4-4 RUN [] b"]),
        ("RUN <<-E\n\ta\n\t\tE\n", &["1-3 RUN [] <<-E E=\"a\\n\""]),
        ("RUN <<A cat <<B\n1\nA\n2\nB\n", &["1-5 RUN [] <<A cat <<B A=\"1\\n\",B=\"2\\n\""]),
        ("COPY <<\"a b\" /x\n1\na b\n", &["1-3 COPY [] <<\"a b\" /x a b=\"1\\n\""]),
        ("RUN cat <<< here\nRUN b", &["1-1 RUN [] cat <<< here", "2-2 RUN [] b"]),
        ("RUN [\"<<E\"]\nRUN b", &["1-1 RUN [] [\"<<E\"]", "2-2 RUN [] b"]),
        ("RUN echo '<<E'\nRUN b", &["1-1 RUN [] echo '<<E'", "2-2 RUN [] b"]),
        ("RUN <<E ${x:1:2}\na\nE\n", &["1-3 RUN [] <<E ${x:1:2} E=\"a\\n\""]),
        ("RUN <<E\na \\\n# kept\nE\n", &["1-4 RUN [] <<E E=\"a \\\\\\n# kept\\n\""]),
        ("RUN 3<<E\na\nE\n", &["1-3 RUN [] 3<<E E=\"a\\n\""]),
        ("ONBUILD COPY <<E /x\na\nE\n", &["1-3 ONBUILD [] COPY <<E /x E=\"a\\n\""]),
        ("ENV A=<<E\nRUN b", &["1-1 ENV [] A=<<E", "2-2 RUN [] b"]),
    ] {
        assert_eq!(split(text), expected, "{text:?}");
    }
}

fn plan_of(text: &str) -> Plan {
    planned(text).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn with_args(text: &str, args: &[(&str, &str)]) -> Plan {
    let build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = Options { build_args, ..options() };
    planned_with(text, &options, &Ignore::default(), |_, _| {}).0.unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

/// The environment of the last command.
fn env(plan: &Plan) -> BTreeMap<String, String> {
    let mut execs = plan.graph.vertices.iter().filter_map(|v| match &v.op {
        Op::Exec(exec) => Some(exec),
        _ => None,
    });
    let lines = execs.next_back().map(|exec| exec.env.clone()).unwrap_or_default();
    lines.iter().filter_map(|l| l.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

#[test]
fn arguments_and_variables() {
    for (text, args, name, value) in [
        ("ARG A=1\nFROM b\nARG A\nRUN x", &[][..], "A", Some("1")),
        ("ARG A=1\nFROM b\nRUN x", &[], "A", None),
        ("ARG A=1\nFROM b\nARG A=2\nRUN x", &[], "A", Some("2")),
        ("ARG A=1\nFROM b\nARG A\nRUN x", &[("A", "3")], "A", Some("3")),
        ("FROM b\nARG A\nRUN x", &[], "A", None),
        ("FROM b\nARG A=1\nENV A=2\nRUN x", &[("A", "3")], "A", Some("2")),
        ("FROM b\nENV A=2\nARG A=1\nRUN x", &[], "A", Some("1")),
        ("FROM b\nARG A=1 B=$A-2 C\nRUN x", &[], "B", Some("1-2")),
        ("FROM b\nENV A=1 B=$A\nRUN x", &[], "B", Some("")),
        ("FROM b\nENV A=1\nENV B=$A\nRUN x", &[], "B", Some("1")),
        ("FROM b\nENV A one two\nRUN x", &[], "A", Some("one two")),
        ("FROM b\nENV A='one two' B=three\\ four\nRUN x", &[], "B", Some("three four")),
        ("FROM b\nENV A=\nRUN x", &[], "A", Some("")),
        ("FROM b\nARG TARGETARCH\nRUN x", &[], "TARGETARCH", Some("amd64")),
        ("FROM b\nARG TARGETARCH=mine\nRUN x", &[], "TARGETARCH", Some("mine")),
        ("FROM b\nARG BUILDPLATFORM\nRUN x", &[], "BUILDPLATFORM", Some("linux/amd64")),
        ("FROM b\nRUN x", &[], "TARGETARCH", None),
        ("FROM b AS me\nARG TARGETSTAGE\nRUN x", &[], "TARGETSTAGE", Some("me")),
        ("FROM b\nARG TARGETSTAGE\nRUN x", &[], "TARGETSTAGE", Some("default")),
        ("FROM b AS one\nARG A=1\nFROM one\nRUN x", &[], "A", Some("1")),
        ("FROM b AS one\nENV A=1\nFROM one\nENV A=${A}2\nRUN x", &[], "A", Some("12")),
        ("FROM b\nARG A=\"q\"\nRUN x", &[("A", "\"q\"")], "A", Some("\"q\"")),
        ("FROM b\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN x", &[], "BUILDKIT_SBOM_SCAN_STAGE", None),
    ] {
        assert_eq!(env(&with_args(text, args)).get(name).map(String::as_str), value, "{text:?}");
    }
}

#[test]
fn the_configuration_is_what_buildkit_makes() {
    let config = |text: &str| plan_of(text).config.config;
    for (text, dir) in [
        ("FROM b\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c", "/a/c"),
        ("FROM b\nWORKDIR a", "/a"),
        ("FROM b\nWORKDIR /a/", "/a/"),
        ("FROM b\nENV D=/x\nWORKDIR $D/y", "/x/y"),
        ("FROM scratch", "/"),
    ] {
        assert_eq!(config(text).working_dir, dir, "{text:?}");
    }
    for (text, cmd, entrypoint) in [
        ("FROM b\nCMD a b", Some(vec!["/bin/sh", "-c", "a b"]), None),
        ("FROM b\nCMD [\"a\", \"b\"]", Some(vec!["a", "b"]), None),
        ("FROM b\nCMD []", Some(vec![]), None),
        ("FROM b\nCMD [a]", Some(vec!["/bin/sh", "-c", "[a]"]), None),
        ("FROM b\nSHELL [\"/bin/bash\", \"-ec\"]\nCMD a", Some(vec!["/bin/bash", "-ec", "a"]), None),
        ("FROM b\nCMD a\nENTRYPOINT [\"e\"]", Some(vec!["/bin/sh", "-c", "a"]), Some(vec!["e"])),
        ("FROM b\nENTRYPOINT []", None, None),
        ("FROM b\nENTRYPOINT e f", None, Some(vec!["/bin/sh", "-c", "e f"])),
    ] {
        let words =
            |list: Option<Vec<&str>>| list.map(|l| l.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let found = config(text);
        assert_eq!((found.cmd, found.entrypoint), (words(cmd), words(entrypoint)), "{text:?}");
    }
    for (text, ports) in [
        ("FROM b\nEXPOSE 80", &["80/tcp"][..]),
        ("FROM b\nEXPOSE 80/UDP 81-82", &["80/udp", "81/tcp", "82/tcp"]),
        ("FROM b\nARG P=\"1 2\"\nEXPOSE $P", &["1/tcp", "2/tcp"]),
        ("FROM b\nEXPOSE 127.0.0.1:80:8080", &["8080/tcp"]),
        ("FROM b\nEXPOSE [::1]:80:8080", &["8080/tcp"]),
    ] {
        assert_eq!(
            config(text).exposed_ports.keys().map(String::as_str).collect::<Vec<_>>(),
            ports,
            "{text:?}"
        );
    }
    let check =
        config("FROM b\nHEALTHCHECK --interval=1m30s --retries=3 CMD [\"a\"]").healthcheck.expect("one");
    assert_eq!(
        (check.test, check.interval, check.retries),
        (vec!["CMD".into(), "a".into()], 90_000_000_000, 3)
    );
    assert_eq!(config("FROM b\nHEALTHCHECK --interval=9s NONE").healthcheck.expect("one").test, ["NONE"]);
    assert_eq!(config("FROM b\nONBUILD RUN  a  b ").on_build, ["RUN  a  b "]);
    assert_eq!(config("FROM b\nonbuild copy <<E /x\n1\nE\n").on_build, ["copy <<E /x\n1\nE"]);
    assert_eq!(
        config("FROM b\nONBUILD NONSENSE here").on_build,
        ["NONSENSE here"],
        "looked into when it is used"
    );
}

#[test]
fn the_history_is_what_buildkit_writes() {
    for (text, line, empty) in [
        ("FROM b\nRUN a", "RUN /bin/sh -c a # buildkit", false),
        ("FROM b\nARG X=1\nRUN a", "RUN |1 X=1 /bin/sh -c a # buildkit", false),
        (
            "FROM b\nCOPY --chown=1:2 --chmod=755 a b /c/",
            "COPY --chown=1:2 --chmod=755 a b /c/ # buildkit",
            false,
        ),
        ("FROM b\nADD --link a /b", "ADD a /b # buildkit", false),
        ("FROM b\nCOPY <<E /b\nE\n", "COPY <<E /b # buildkit", false),
        ("FROM b\nWORKDIR /a", "WORKDIR /a", false),
        ("FROM b\nWORKDIR /", "WORKDIR /", true),
        ("FROM b\nENV a=1 b=2", "ENV a=1 b=2", true),
        ("FROM b\nLABEL a=\"b c\"", "LABEL a=b c", true),
        ("FROM b\nEXPOSE 90 8", "EXPOSE [8/tcp 90/tcp]", true),
        ("FROM b\nVOLUME /a /b", "VOLUME [/a /b]", true),
        ("FROM b\nCMD [\"a b\"]", "CMD [\"a b\"]", true),
        (
            "FROM b\nHEALTHCHECK --interval=90s --timeout=1500ms CMD x",
            "HEALTHCHECK {Test:[CMD-SHELL x] Interval:1m30s Timeout:1.5s StartPeriod:0s StartInterval:0s Retries:0}",
            true,
        ),
    ] {
        let plan = plan_of(text);
        let last = plan.config.history.last().expect("a line");
        assert_eq!((last.created_by.as_str(), last.empty_layer), (line, empty), "{text:?}");
    }
}

#[test]
fn steps_have_buildkits_names() {
    let names = |text: &str| {
        let plan = plan_of(text);
        let needed = plan.graph.needed(&plan.result);
        let all = plan.graph.vertices.iter().zip(needed).filter(|(_, n)| *n).map(|(v, _)| v.name.clone());
        all.skip(1).collect::<Vec<_>>()
    };
    assert_eq!(names("FROM b\nARG X=1\nrun echo $X \"$X\" $y"), ["[2/2] RUN echo 1 \"1\" $y"]);
    assert_eq!(
        names("FROM b AS s\nCOPY \"a\" /b\nFROM s\nRUN x"),
        ["[s 2/2] COPY a /b", "[stage-1 1/1] RUN x"]
    );
    assert_eq!(names("FROM b\nRUN <<E\none\ntwo\nE\n"), ["[2/2] RUN <<E (one...)"]);
    assert_eq!(names(&format!("FROM b\n{}", "RUN x\n".repeat(9)))[0], "[ 2/10] RUN x");
    let secret = "FROM b\nRUN --mount=type=secret,id=t,env=TOKEN echo $TOKEN";
    assert!(names(secret)[0].ends_with("echo ****"), "{:?}", names(secret));
}

#[test]
fn copies_have_their_targets() {
    let copies = |text: &str| {
        let plan = plan_of(text);
        let mut found = Vec::new();
        for vertex in &plan.graph.vertices {
            let Op::File(file) = &vertex.op else { continue };
            for action in &file.actions {
                match action {
                    Action::Copy(copy) => found.push(format!("{} -> {}", copy.path, copy.target)),
                    Action::Write(write) => found.push(format!("<<{} -> {}", write.name, write.target)),
                    Action::Mkdir { .. } => {}
                }
            }
        }
        found
    };
    for (line, expected) in [
        ("COPY a /b", &["/a -> /b"][..]),
        ("COPY a /b/", &["/a -> /b/"]),
        ("COPY a .", &["/a -> /w/"]),
        ("COPY a b", &["/a -> /w/b"]),
        ("COPY ../a /b", &["/a -> /b"]),
        ("COPY [\"a b\", \"/c d\"]", &["/a b -> /c d"]),
        ("COPY a b /c/", &["/a -> /c/", "/b -> /c/"]),
        ("COPY a <<E /c/\nE", &["/a -> /c/", "<<E -> /c/"]),
        ("ADD a* /c/", &["/a* -> /c/"]),
        ("ADD http://h.example/d/f?x=1 /c/", &["/f -> /c/"]),
        // What the server calls it, whatever that is.
        ("ADD http://h.example/ /c/", &["/* -> /c/"]),
    ] {
        assert_eq!(copies(&format!("FROM b\nWORKDIR /w\n{line}\n")), expected, "{line}");
    }
}

#[test]
fn repositories_are_told_from_paths_and_files() {
    let op = |line: &str| {
        plan_of(&format!("FROM b\nADD {line} /x\n")).graph.vertices.into_iter().find_map(|v| match v.op {
            Op::Git(git) => Some(format!(
                "{} {} {} {} {} {}",
                git.remote, git.reference, git.subdir, git.keep_git_dir, git.checksum, git.without_submodules
            )),
            Op::Http(http) => Some(http.url),
            _ => None,
        })
    };
    for (line, expected) in [
        ("https://h.example/r.git#v1:d", Some("https://h.example/r.git v1 d false  false")),
        ("--keep-git-dir https://h.example/r.git", Some("https://h.example/r.git   true  false")),
        (
            "--checksum=abc https://h.example/r.git?tag=v1",
            Some("https://h.example/r.git refs/tags/v1  false abc false"),
        ),
        ("git@h.example:r.git?submodules=false", Some("git@h.example:r.git   false  true")),
        ("https://h.example/r", Some("https://h.example/r")),
        ("github.com/a/b", None),
        ("r.git", None),
    ] {
        assert_eq!(op(line).as_deref(), expected, "{line}");
    }
    for (line, why) in [
        (
            "ADD --keep-git-dir=false https://h.example/r.git?keep-git-dir=true /x",
            "inconsistent keep-git-dir",
        ),
        ("ADD --checksum=aa https://h.example/r.git?checksum=bb /x", "checksum mismatch \"aa\" != \"bb\""),
        ("ADD https://h.example/r.git?branch=a&tag=b /x", "branch conflicts with tag"),
        ("COPY git@h.example:r.git /x", "source can't be a git ref for COPY"),
    ] {
        let error = planned(&format!("FROM b\n{line}\n")).expect_err(line).to_string();
        assert!(error.contains(why), "{line}: {error}");
    }
}

/// The findings in `text`: rule, line, message.
fn found(text: &str) -> Vec<String> {
    let options = Options { all_stages: true, ..options() };
    let (_, warnings) = planned_with(text, &options, &Ignore::default(), |name, config| {
        if name.contains("arm") {
            config.architecture = "arm64".to_owned();
        }
    });
    warnings.into_iter().map(|w| format!("{}:{} {}", w.rule.name(), w.lines.first, w.message)).collect()
}

#[test]
fn every_check_finds_what_it_looks_for() {
    for (text, expected) in [
        ("FROM b AS One", "StageNameCasing:1 Stage name 'One' should be lowercase"),
        ("FROM b as one", "FromAsCasing:1 'as' and 'FROM' keywords' casing do not match"),
        ("FROM b\nRUN a \\\n\n b", "NoEmptyContinuation:4 Empty continuation line"),
        (
            "FROM b\nrun a\nRUN c",
            "ConsistentInstructionCasing:2 Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            "FROM b AS x\nFROM b AS x",
            "DuplicateStageName:2 Duplicate stage name \"x\", stage names should be unique",
        ),
        (
            "FROM b AS context",
            "ReservedStageName:1 Stage name should not use the same name as reserved stage \"context\"",
        ),
        (
            "FROM b\nCMD a",
            "JSONArgsRecommended:2 JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM b\nMAINTAINER me",
            "MaintainerDeprecated:2 Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "ARG VERSION=1\nFROM b:${VERSON:-2}",
            "UndefinedArgInFrom:2 FROM argument 'VERSON' is not declared (did you mean VERSION?)",
        ),
        (
            "FROM b\nWORKDIR a",
            "WorkdirRelativePath:2 Relative workdir \"a\" can have unexpected results if the base image changes",
        ),
        (
            "FROM b\nENV PATH=$PAHT:/x",
            "UndefinedVar:2 Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ),
        (
            "FROM b\nCMD [\"a\"]\nCMD [\"b\"]",
            "MultipleInstructionsDisallowed:2 Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM b\nENV a b",
            "LegacyKeyValueFormat:2 \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "FROM arm",
            "InvalidBaseImagePlatform:1 Base image arm was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
        ),
        (
            "FROM --platform=$TARGETPLATFORM b",
            "RedundantTargetPlatform:1 Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            "FROM b\nARG API_KEY",
            "SecretsUsedInArgOrEnv:2 Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
        ),
        (
            "ARG B\nFROM b:$B\n",
            "InvalidDefaultArgInFrom:2 Default value for ARG b:$B results in empty or invalid base image name",
        ),
        (
            "FROM --platform=linux/amd64 b",
            "FromPlatformFlagConstDisallowed:1 FROM --platform flag should not use constant value \"linux/amd64\"",
        ),
        (
            "# check=experimental=all\n# something else\nFROM b AS x",
            "InvalidDefinitionDescription:3 Comment for FROM should follow the format: `# x <description>`",
        ),
        (
            "FROM b\nEXPOSE 80/TCP",
            "ExposeProtoCasing:2 Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ),
        (
            "FROM b\nEXPOSE 80:80",
            "ExposeInvalidFormat:2 EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'",
        ),
    ] {
        assert_eq!(found(text), [expected], "{text:?}");
    }
    let ignore = Ignore::parse("secret\n*.log\n").expect("patterns");
    let copies =
        "FROM b\nCOPY secret /x\nADD ./a.log /x\nCOPY fine /x\nCOPY . /x\nCOPY --from=other secret /x\n";
    let (_, warnings) = planned_with(copies, &options(), &ignore, |_, _| {});
    let told: Vec<String> = warnings.into_iter().map(|w| w.message).collect();
    let expected = [("Copy", "secret"), ("Add", "a.log")]
        .map(|(what, file)| format!("Attempting to {what} file {file:?} that is excluded by .dockerignore"));
    assert_eq!(told, expected);
}

#[test]
fn checks_can_be_told_what_to_do() {
    for (text, rules) in [
        ("# check=skip=all\nFROM b as One\nMAINTAINER me", &[][..]),
        (
            "# check=skip=StageNameCasing,FromAsCasing\nFROM b as One\nMAINTAINER me",
            &["MaintainerDeprecated"],
        ),
        ("# check=skip=all remark\nFROM b as One", &[]),
        (
            "FROM b\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nMAINTAINER you",
            &["MaintainerDeprecated"],
        ),
        ("# check=skip=StageNameCasing\n\nFROM b AS One\nFROM b AS Two", &[]),
        ("FROM b AS x\n# check=skip=StageNameCasing\nFROM b AS Two\nFROM b AS Three", &["StageNameCasing"]),
        ("FROM b\n# check=skip=all\nENV PATH=$PAHT", &[]),
        ("FROM b\n# check=nonsense\nMAINTAINER me", &["MaintainerDeprecated"]),
    ] {
        let names: Vec<String> =
            found(text).iter().map(|f| f.split(':').next().unwrap_or("").to_owned()).collect();
        assert_eq!(names, rules, "{text:?}");
    }
}

#[test]
fn targets_and_outlines_describe_a_file() {
    let text = "# VERSION of the base\nARG VERSION=1\nARG UNUSED=2\nFROM b:$VERSION AS base\n# MODE how it is made\nARG MODE=fast\n\
                RUN --mount=type=secret,id=token,required --mount=type=ssh x\nFROM b AS other\nARG OTHER=x\n\
                # app is what is shipped\nFROM base AS app\nRUN --mount=type=secret,target=/etc/key x\n";
    let file = fluyt_build::dockerfile::parse(text, &mut Default::default()).expect("a Dockerfile");
    let all: Vec<(String, bool, String)> =
        targets(&file).into_iter().map(|t| (t.name, t.default, t.description)).collect();
    let target = |name: &str, default, text: &str| (name.to_owned(), default, text.to_owned());
    let expected =
        [target("base", false, ""), target("other", false, ""), target("app", true, "is what is shipped")];
    assert_eq!(all, expected);
    let found = outline(&file, &options()).expect("an outline");
    let args: Vec<(&str, &str, &str)> =
        found.args.iter().map(|a| (a.name.as_str(), a.value.as_str(), a.description.as_str())).collect();
    assert_eq!(args, [("VERSION", "1", "of the base"), ("MODE", "fast", "how it is made")]);
    let mounts: Vec<(&str, bool)> = found.secrets.iter().map(|m| (m.name.as_str(), m.required)).collect();
    assert_eq!(mounts, [("token", true), ("key", false)]);
    assert_eq!((found.ssh.len(), found.name.as_str()), (1, "app"));
}
