//! Broken Dockerfiles, each with the message and the line that its author is told.
#![forbid(unsafe_code)]

mod common;

use common::planned;

/// Text, message, first line (0: none).
const CORPUS: &[(&str, &str, u32)] = &[
    ("", "the Dockerfile cannot be empty", 0),
    ("# only a comment\n", "file with no instructions", 1),
    ("ARG x=1\n", "dockerfile contains no stages to build", 0),
    ("RUN true\n", "no build stage in current context", 1),
    ("FROM\n", "dockerfile parse error on line 1: FROM requires either one or three arguments", 1),
    ("FROM a b\n", "FROM requires either one or three arguments", 1),
    ("FROM a as b c\n", "FROM requires either one or three arguments", 1),
    (
        "FROM a AS 1x\n",
        "invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        1,
    ),
    ("FROM a AS b/c\n", "invalid name for build stage: \"b/c\"", 1),
    ("FROM --platfrom=x a\n", "unknown flag: --platfrom (did you mean platform?)", 1),
    ("FROM --platform a\n", "missing a value on flag: --platform", 1),
    ("FROM --platform=$NOPE a\n", "empty platform value from expression $NOPE", 1),
    ("FROM --platform=linux/a/b/c a\n", "failed to parse platform linux/a/b/c", 1),
    ("FROM $nothing\n", "base name ($nothing) should not be blank", 1),
    ("FROM Bad:Name:Here\n", "failed to parse stage name \"Bad:Name:Here\"", 1),
    (
        "FROM a\nRUNN x\n",
        "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        2,
    ),
    ("FROM a\nFORM b\n", "unknown instruction: FORM (did you mean FROM?)", 2),
    ("FROM a\nPLATYPUS\n", "unknown instruction: PLATYPUS", 2),
    ("FROM a\nENV\n", "ENV requires at least one argument", 2),
    ("FROM a\nENV x\n", "ENV must have two arguments", 2),
    ("FROM a\nENV x=1 y\n", "Syntax error - can't find = in \"y\". Must be of the form: name=value", 2),
    ("FROM a\nENV =1\n", "ENV names can not be blank", 2),
    ("FROM a\nENV x=\"a\n", "unexpected end of statement while looking for matching double-quote", 2),
    ("FROM a\nENV x='a\n", "unexpected end of statement while looking for matching single-quote", 2),
    ("FROM a\nENV x=${y\n", "syntax error: missing '}'", 2),
    ("FROM a\nENV x=${}\n", "syntax error: bad substitution", 2),
    ("FROM a\nENV x=${y:=z}\n", "unsupported modifier (:=) in substitution", 2),
    ("FROM a\nENV x=\"${y:?must be given}\"\n", "y: must be given", 2),
    ("FROM a\nLABEL\n", "LABEL requires at least one argument", 2),
    ("FROM a\nLABEL x\n", "LABEL must have two arguments", 2),
    ("FROM a\nARG\n", "ARG requires at least one argument", 2),
    ("FROM a\nARG =x\n", "ARG names can not be blank", 2),
    (
        "FROM a\nCOPY x\n",
        "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        2,
    ),
    ("FROM a\nADD\n", "ADD requires at least two arguments", 2),
    ("FROM a\nCOPY --form=b x /\n", "unknown flag: --form (did you mean from?)", 2),
    ("FROM a\nCOPY --from=b --from=c x /\n", "duplicate flag specified: --from", 2),
    ("FROM a\nCOPY --chown x /\n", "missing a value on flag: --chown", 2),
    ("FROM a\nCOPY --link=maybe x /\n", "expecting boolean value for flag --link, not: maybe", 2),
    (
        "FROM a\nCOPY --chmod=99 x /\n",
        "invalid chmod parameter: '99'. it should be octal string and between 0 and 07777",
        2,
    ),
    ("FROM a\nCOPY --chmod=u+q x /\n", "invalid chmod parameter", 2),
    ("FROM a\nCOPY --from=$x b /\n", "variable expansion is not supported for --from", 2),
    ("FROM a\nCOPY --from=7 x /\n", "invalid stage index 7", 2),
    ("FROM a AS s\nCOPY --from=s x /\n", "circular dependency detected on stage: s", 2),
    (
        "FROM a AS one\nCOPY --from=two x /\nFROM b AS two\nCOPY --from=one /x /\n",
        "circular dependency detected on stage: one",
        2,
    ),
    (
        "FROM a AS one\nCOPY --from=two x /\nFROM b AS two\nRUN y\nFROM one\n",
        "cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
        2,
    ),
    ("FROM a\nCOPY http://x.example/y /\n", "source can't be a URL for COPY", 2),
    ("FROM a\nCOPY https://x.example/y.git /\n", "source can't be a git ref for COPY", 2),
    ("FROM a\nADD --checksum=sha256:0 http://x.example/y /\n", "invalid digest \"sha256:0\"", 2),
    ("FROM a\nADD --checksum=sha256:0 local /\n", "checksum requires HTTP(S) or Git sources", 2),
    (
        "FROM a\nADD --checksum=x http://a.example/y http://b.example/z /\n",
        "checksum can't be specified for multiple sources",
        2,
    ),
    ("FROM a\nCOPY [1, 2]\n", "when using JSON array syntax, arrays must be comprised of strings only", 2),
    ("FROM a\nCOPY x <<EOF\nEOF\n", "COPY cannot accept a heredoc as a destination", 2),
    ("FROM a\nRUN <<EOF\ntrue\n", "unterminated heredoc", 2),
    ("FROM a\nRUN []\n", "arguments are required", 2),
    ("FROM a\nRUN --mont=type=bind true\n", "unknown flag: --mont (did you mean mount?)", 2),
    (
        "FROM a\nRUN --mount=type=bnd,target=/x true\n",
        "unsupported mount type \"bnd\" (did you mean bind?)",
        2,
    ),
    ("FROM a\nRUN --mount=target true\n", "invalid field 'target' must be a key=value pair", 2),
    ("FROM a\nRUN --mount=type=cache true\n", "invalid mount target \"/\"", 2),
    ("FROM a\nRUN --mount=type=secret true\n", "invalid secret mount. one of source, target required", 2),
    (
        "FROM a\nRUN --mount=type=bind,from=$x,target=/x true\n",
        "'from' doesn't support variable expansion",
        2,
    ),
    ("FROM a\nRUN --mount=type=bind,mode=7,target=/x true\n", "mode not allowed for \"bind\" type mounts", 2),
    ("FROM a\nRUN --mount=type=bind,nope=7,target=/x true\n", "unexpected key 'nope' in 'nope=7'", 2),
    (
        "FROM a AS one\nRUN --mount=from=two,target=/x true\nFROM b AS two\nFROM one\n",
        "cannot mount from stage \"two\" to \"/x\", stage needs to be defined before current command",
        2,
    ),
    ("FROM a\nRUN --network=moon true\n", "invalid network mode \"moon\"", 2),
    ("FROM a\nRUN --security=loose true\n", "security \"loose\" is not valid", 2),
    ("FROM a\nRUN [\"a\", 1]\n", "arrays must be comprised of strings only", 2),
    ("FROM a\nSHELL\n", "SHELL requires at least one argument", 2),
    ("FROM a\nSHELL []\n", "SHELL requires at least one argument", 2),
    ("FROM a\nSHELL bash -c\n", "SHELL requires the arguments to be in JSON form", 2),
    ("FROM a\nEXPOSE\n", "EXPOSE requires at least one argument", 2),
    ("FROM a\nEXPOSE 70000\n", "invalid containerPort: 70000", 2),
    ("FROM a\nEXPOSE 80/xyz\n", "invalid proto: xyz", 2),
    ("FROM a\nEXPOSE web\n", "invalid containerPort: web", 2),
    ("FROM a\nHEALTHCHECK\n", "HEALTHCHECK requires at least one argument", 2),
    ("FROM a\nHEALTHCHECK NONE x\n", "HEALTHCHECK NONE takes no arguments", 2),
    ("FROM a\nHEALTHCHECK CMD\n", "Missing command after HEALTHCHECK CMD", 2),
    ("FROM a\nHEALTHCHECK MAYBE x\n", "Unknown type \"MAYBE\" in HEALTHCHECK (try CMD)", 2),
    ("FROM a\nHEALTHCHECK --interval=1us CMD x\n", "Interval \"interval\" cannot be less than 1ms", 2),
    ("FROM a\nHEALTHCHECK --interval=often CMD x\n", "invalid duration \"often\"", 2),
    ("FROM a\nHEALTHCHECK --retries=-1 CMD x\n", "--retries cannot be negative (-1)", 2),
    ("FROM a\nHEALTHCHECK --retires=1 CMD x\n", "unknown flag: --retires (did you mean retries?)", 2),
    ("FROM a\nONBUILD\n", "ONBUILD requires at least one argument", 2),
    ("FROM a\nONBUILD ONBUILD RUN x\n", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", 2),
    ("FROM a\nONBUILD FROM x\n", "FROM isn't allowed as an ONBUILD trigger", 2),
    ("FROM a\nUSER\n", "USER requires exactly one argument", 2),
    ("FROM a\nWORKDIR\n", "WORKDIR requires exactly one argument", 2),
    ("FROM a\nVOLUME\n", "VOLUME requires at least one argument", 2),
    ("FROM a\nVOLUME [\"\"]\n", "VOLUME specified can not be an empty string", 2),
    ("FROM a\nSTOPSIGNAL\n", "STOPSIGNAL requires exactly one argument", 2),
    ("FROM a\nSTOPSIGNAL SIGNOPE\n", "invalid signal: SIGNOPE", 2),
    ("FROM a\nMAINTAINER\n", "MAINTAINER requires exactly one argument", 2),
    ("# escape=x\nFROM a\n", "invalid escape token 'x' does not match ` or \\", 1),
    ("# syntax=a\n# syntax=b\nFROM a\n", "only one syntax parser directive can be used", 2),
    ("# check=nope=1\nFROM a\n", "invalid check option \"nope\"", 0),
    (
        "# check=error=true\nFROM a\nMAINTAINER me\n",
        "lint violation found for rules: MaintainerDeprecated",
        3,
    ),
    ("ARG SOURCE_DATE_EPOCH=soon\nFROM a\n", "invalid SOURCE_DATE_EPOCH: soon", 0),
];

#[test]
fn every_mistake_is_named_at_its_place() {
    assert!(CORPUS.len() >= 60);
    let mut wrong = Vec::new();
    for (text, message, line) in CORPUS {
        match planned(text) {
            Ok(_) => wrong.push(format!("{text:?}: accepted")),
            Err(fault) => {
                let said = fault.to_string();
                let at = fault.lines.map_or(0, |l| l.first);
                if !said.contains(message) || at != *line {
                    wrong.push(format!("{text:?}: line {at} (expected {line}): {said}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_target_that_does_not_exist_is_suggested() {
    let options = fluyt_build::plan::Options { target: "biuld".to_owned(), ..common::options() };
    let ignore = fluyt_build::ignore::Ignore::default();
    let (planned, _) = common::planned_with("FROM a AS build\n", &options, &ignore, |_, _| {});
    let said = planned.unwrap_err().to_string();
    assert_eq!(said, "target stage \"biuld\" could not be found (did you mean build?)");
}
