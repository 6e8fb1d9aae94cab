//! What a Dockerfile says, typed: stages with their instructions. Nothing is expanded yet.

use super::fault::Lines;
use super::lines::Heredoc;

/// A parsed Dockerfile.
#[derive(Clone, Debug, Default)]
pub struct Dockerfile {
    /// `ARG`s before the first stage.
    pub meta_args: Vec<ArgStep>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The escape character.
    pub escape: char,
    /// The value of `# check=`.
    pub check: Option<String>,
    /// The value of `# syntax=`.
    pub syntax: Option<String>,
}

/// `ARG` before the first stage.
#[derive(Clone, Debug)]
pub struct ArgStep {
    /// What it defines.
    pub args: Vec<ArgDef>,
    /// Where.
    pub lines: Lines,
}

/// From one `FROM` to the next.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Lower case; empty when it has none.
    pub name: String,
    /// Image, stage or `scratch`, not expanded.
    pub base: String,
    /// `--platform`, not expanded.
    pub platform: String,
    /// The instruction as written.
    pub source: String,
    /// Where its `FROM` is.
    pub lines: Lines,
    /// What follows.
    pub steps: Vec<Step>,
    /// The comment lines before it.
    pub comments: Vec<String>,
    /// The description in the comment before it.
    pub description: String,
}

/// One instruction of a stage.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it says.
    pub instruction: Instruction,
    /// Its keyword as written.
    pub keyword: String,
    /// The whole as written, continuations joined.
    pub source: String,
    /// Where.
    pub lines: Lines,
    /// The comment lines before it.
    pub comments: Vec<String>,
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value, not expanded.
    pub value: String,
    /// Written with a blank instead of `=`.
    pub legacy: bool,
}

/// One name of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDef {
    /// The name.
    pub name: String,
    /// The default, not expanded.
    pub value: Option<String>,
    /// The description in the comment before it.
    pub description: String,
}

/// A command in shell form or as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The words of the list, or the line as one.
    pub words: Vec<String>,
    /// It goes through the shell.
    pub shell: bool,
    /// Here-documents.
    pub heredocs: Vec<Heredoc>,
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// It is `ADD`.
    pub add: bool,
    /// Sources that are paths or addresses.
    pub sources: Vec<String>,
    /// Sources that stand in the Dockerfile.
    pub inline: Vec<Heredoc>,
    /// The destination.
    pub target: String,
    /// `--from`.
    pub from: String,
    /// `--chown`.
    pub chown: String,
    /// `--chmod`.
    pub chmod: String,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, each.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: String,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// `RUN`.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What is run.
    pub command: CommandLine,
    /// `--mount`, each, not expanded.
    pub mounts: Vec<String>,
    /// `--network`; empty when it was not given.
    pub network: String,
    /// `--security`; empty when it was not given.
    pub security: String,
    /// `--device`, each.
    pub devices: Vec<Device>,
}

/// `RUN --device`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// `vendor.com/class=name`.
    pub name: String,
    /// The step fails without it.
    pub required: bool,
}

/// `HEALTHCHECK`. Durations are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `NONE`, `CMD …` or `CMD-SHELL …`.
    pub test: Vec<String>,
    /// Time between probes.
    pub interval: i64,
    /// Time a probe may take.
    pub timeout: i64,
    /// Time during which failures do not count.
    pub start_period: i64,
    /// Time between probes during the start period.
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
}

/// An instruction.
#[derive(Clone, Debug)]
pub enum Instruction {
    /// `COPY` and `ADD`
    Copy(Copy),
    /// `ARG`
    Arg(Vec<ArgDef>),
    /// `CMD`
    Cmd(CommandLine),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Health),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`
    Onbuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}
