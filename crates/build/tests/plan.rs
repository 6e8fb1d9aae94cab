//! What Dockerfiles mean: arguments, stages, configuration, the graph.
#![forbid(unsafe_code)]

mod common;

use common::{options, planned, planned_with, rules};
use fluyt_build::graph::{Action, Op, Tree};
use fluyt_build::ignore::Ignore;
use fluyt_build::plan::{Options, Plan};

fn names(plan: &Plan) -> Vec<String> {
    let needed = plan.graph.needed(&plan.result);
    plan.graph.vertices.iter().zip(needed).filter(|(_, n)| *n).map(|(v, _)| v.name.clone()).collect()
}

fn args_of(plan: &Plan) -> Vec<String> {
    let execs = plan.graph.vertices.iter().filter_map(|v| match &v.op {
        Op::Exec(exec) => Some(exec.args.join("|")),
        _ => None,
    });
    execs.collect()
}

#[test]
fn the_configuration_follows_the_instructions() {
    let plan = planned(
        "FROM base\nENV A=1 B=\"two words\"\nENV C $A and more\nLABEL x=$A\nWORKDIR /srv\nWORKDIR app\nUSER me:us\n\
         EXPOSE 80 53/udp\nVOLUME /data $A\nSTOPSIGNAL 9\nSHELL [\"bash\", \"-c\"]\nCMD echo $A\nENTRYPOINT [\"x\"]\n\
         HEALTHCHECK --interval=5s CMD curl x\nONBUILD RUN y\nMAINTAINER me\n",
    )
    .unwrap();
    let config = &plan.config.config;
    assert_eq!(config.env, ["PATH=/bin", "A=1", "B=two words", "C=1 and more"]);
    assert_eq!(config.labels["x"], "1");
    assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv/app", "me:us"));
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert_eq!(config.volumes.len(), 2);
    assert_eq!(config.cmd.as_deref().unwrap(), ["bash", "-c", "echo $A"]);
    assert_eq!(config.entrypoint.as_deref().unwrap(), ["x"]);
    assert_eq!(config.healthcheck.as_ref().unwrap().interval, 5_000_000_000);
    assert_eq!(config.on_build, ["RUN y"]);
    assert_eq!(plan.config.author, "me");
    let layers = plan.config.history.iter().filter(|h| !h.empty_layer).count();
    assert_eq!(layers, 2, "two WORKDIRs");
}

#[test]
fn an_entry_point_forgets_the_command_of_the_base() {
    let base =
        |_: &str, config: &mut fluyt_image::ImageConfig| config.config.cmd = Some(vec!["old".to_owned()]);
    let cmd =
        |text: &str| planned_with(text, &options(), &Ignore::default(), base).0.unwrap().config.config.cmd;
    assert_eq!(cmd("FROM a\nENTRYPOINT [\"x\"]\n"), None);
    assert_eq!(cmd("FROM a\nCMD [\"new\"]\nENTRYPOINT [\"x\"]\n").unwrap(), ["new"]);
    assert_eq!(cmd("FROM a\n").unwrap(), ["old"]);
}

#[test]
fn arguments_have_scopes() {
    let text = "ARG V=1\nARG BASE=img:$V\nFROM $BASE\nARG V\nARG W=${V}x\nRUN echo $V $W $BASE\n";
    let env = |build_args: &[(&str, &str)]| {
        let build_args = build_args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = Options { build_args, ..options() };
        let plan = planned_with(text, &options, &Ignore::default(), |_, _| {}).0.unwrap();
        let Op::Exec(exec) = plan.graph.vertices[1].op.clone() else { panic!("no command") };
        (names(&plan)[0].clone(), exec.env)
    };
    let (base, lines) = env(&[]);
    assert!(base.contains("FROM img:1@"), "{base}");
    assert_eq!(lines, ["PATH=/bin", "V=1", "W=1x"]);
    let (base, lines) = env(&[("V", "2"), ("W", "given")]);
    assert!(base.contains("FROM img:2@"), "{base}");
    assert_eq!(lines, ["PATH=/bin", "V=2", "W=given"]);
}

#[test]
fn platform_arguments_exist_when_declared() {
    let plan = planned("FROM --platform=$BUILDPLATFORM a\nARG TARGETARCH TARGETOS\nRUN x\n").unwrap();
    let Op::Exec(exec) = &plan.graph.vertices[1].op else { panic!("no command") };
    assert_eq!(exec.env, ["PATH=/bin", "TARGETARCH=amd64", "TARGETOS=linux"]);
}

#[test]
fn only_what_the_target_needs_is_planned() {
    let text =
        "FROM a AS one\nRUN one\nFROM b AS two\nRUN two\nFROM a AS three\nCOPY --from=one /x /\nRUN three\n";
    let plan = planned(text).unwrap();
    assert_eq!(args_of(&plan), ["/bin/sh|-c|one", "/bin/sh|-c|three"]);
    assert_eq!(plan.images.len(), 1, "one base image, used twice");
    let names = names(&plan);
    assert!(names.contains(&"[one 2/2] RUN one".to_owned()), "{names:?}");
    assert!(names.contains(&"[three 2/3] COPY --from=one /x /".to_owned()), "{names:?}");
    let two = Options { target: "TWO".to_owned(), ..options() };
    let plan = planned_with(text, &two, &Ignore::default(), |_, _| {}).0.unwrap();
    assert_eq!(args_of(&plan), ["/bin/sh|-c|two"]);
}

#[test]
fn triggers_of_the_base_run_first() {
    let base = |_: &str, config: &mut fluyt_image::ImageConfig| {
        config.config.on_build = vec!["RUN trigger $X".to_owned(), "ENV X=1".to_owned()];
    };
    let (plan, _) = planned_with("FROM a\nRUN own\n", &options(), &Ignore::default(), base);
    let plan = plan.unwrap();
    assert_eq!(args_of(&plan), ["/bin/sh|-c|trigger $X", "/bin/sh|-c|own"]);
    assert!(plan.config.config.on_build.is_empty());
    let plan = planned("FROM a AS s\nONBUILD RUN later\nFROM s\nRUN now\n").unwrap();
    assert_eq!(args_of(&plan), ["/bin/sh|-c|later", "/bin/sh|-c|now"]);
}

#[test]
fn heredocs_become_scripts_and_files() {
    let plan = planned(
        "FROM a\nARG N=world\nRUN <<EOF\necho a\necho b\nEOF\nRUN <<EOF\n#!/usr/bin/env python\nprint(1)\nEOF\n\
         RUN cat <<EOF >x\nhi\nEOF\nCOPY <<EOF <<'RAW' /to/\nhello $N\nEOF\nraw $N\nRAW\n",
    )
    .unwrap();
    assert_eq!(
        args_of(&plan),
        ["/bin/sh|-c|echo a\necho b\n", "/bin/sh|-c|/dev/pipes/EOF", "/bin/sh|-c|cat <<EOF >x\nhi\nEOF"]
    );
    let Op::File(file) = &plan.graph.vertices.last().unwrap().op else { panic!("no files") };
    let texts: Vec<&str> = file
        .actions
        .iter()
        .map(|action| if let Action::Write(write) = action { write.content.as_str() } else { "" })
        .collect();
    assert_eq!(texts, ["hello world\n", "raw $N\n"]);
}

#[test]
fn equal_dockerfiles_have_equal_digests() {
    let digest = |text: &str| {
        let plan = planned(text).unwrap();
        let Tree::Vertex(id) = plan.result else { panic!("nothing") };
        plan.graph.digests()[id].clone()
    };
    let one = digest("FROM a\nRUN x\nCOPY . /\n");
    assert_eq!(one, digest("# a comment\nFROM a AS named\nrun x\nCOPY . /\nLABEL later=1\n"));
    assert_ne!(one, digest("FROM a\nRUN y\nCOPY . /\n"));
    assert_ne!(one, digest("FROM a\nENV q=1\nRUN x\nCOPY . /\n"));
}

#[test]
fn checks_find_what_could_be_better() {
    for (text, rule) in [
        ("FROM a AS Build\n", "StageNameCasing"),
        ("FROM a as b\n", "FromAsCasing"),
        ("FROM a\nRUN x \\\n\n y\n", "NoEmptyContinuation"),
        ("FROM a\nrun x\nRUN y\n", "ConsistentInstructionCasing"),
        ("FROM a AS s\nFROM b AS s\n", "DuplicateStageName"),
        ("FROM a AS scratch\n", "ReservedStageName"),
        ("FROM a\nCMD x\n", "JSONArgsRecommended"),
        ("FROM a\nMAINTAINER x\n", "MaintainerDeprecated"),
        ("ARG tag=1\nFROM a:${tg}x\n", "UndefinedArgInFrom"),
        ("FROM a\nWORKDIR x\n", "WorkdirRelativePath"),
        ("FROM a\nENV x=$y\n", "UndefinedVar"),
        ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]\n", "MultipleInstructionsDisallowed"),
        ("FROM a\nENV x y\n", "LegacyKeyValueFormat"),
        ("FROM --platform=$TARGETPLATFORM a\n", "RedundantTargetPlatform"),
        ("FROM a\nENV API_KEY=1\n", "SecretsUsedInArgOrEnv"),
        ("ARG img\nFROM ${img:-}a:\n", "InvalidDefaultArgInFrom"),
        ("FROM --platform=linux/amd64 a\n", "FromPlatformFlagConstDisallowed"),
        ("FROM a\nEXPOSE 80/TCP\n", "ExposeProtoCasing"),
        ("FROM a\nEXPOSE 1:80\n", "ExposeInvalidFormat"),
    ] {
        assert!(rules(text).contains(&rule.to_owned()), "{text:?}: {:?}", rules(text));
    }
    assert!(rules("# check=skip=all\nFROM a AS B\n").is_empty());
    assert!(rules("FROM a\nENV PUBLIC_KEY=1 KEY_FILE=x\nCMD [\"x\"]\n").is_empty());
    let ignore = Ignore::parse("secret\n").unwrap();
    let (_, warnings) = planned_with("FROM a\nCOPY secret /\n", &options(), &ignore, |_, _| {});
    assert_eq!(warnings[0].rule.name(), "CopyIgnoredFile");
}
