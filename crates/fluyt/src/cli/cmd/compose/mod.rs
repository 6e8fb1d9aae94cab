//! `fluyt compose`: its own options, then a command of its own table.

mod alpha;
mod attached;
mod bridge;
mod building;
mod config;
mod display;
mod down;
mod exec;
mod files;
mod images;
mod list;
mod project;
mod provider;
mod publish;
mod session;
mod side;
mod stack;
mod up;
mod watch;

use fluyt_compose::{Options, Project, Source};
use fluyt_model::Error;
use fluyt_model::error::IoContext;

use super::Cli;
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{
    self, Arity, Command, NONE, Parsed, UsageError, help, int, list, switch, text, usage_line,
};
use crate::cli::terminal;

/// `fluyt compose`.
pub const COMPOSE: Command = Command {
    name: "compose",
    arguments: "COMMAND",
    about: "Define and run multi-container applications",
    flags: &[&[
        switch(NONE, "all-resources", "Include all resources, even those not used by services"),
        text(NONE, "ansi", "Control when to print ANSI control characters (never, always, auto)")
            .default("auto"),
        switch(NONE, "compatibility", "Run compose in backward compatibility mode"),
        switch(NONE, "dry-run", "Execute command in dry run mode"),
        list(NONE, "env-file", "Specify an alternate environment file"),
        list('f', "file", "Compose configuration files"),
        int(NONE, "parallel", "Control max parallelism, -1 for unlimited").default("-1"),
        list(NONE, "profile", "Specify a profile to enable"),
        text(NONE, "progress", "Set type of progress output (auto, tty, plain, json, quiet)"),
        text(NONE, "project-directory", "Specify an alternate working directory"),
        text('p', "project-name", "Project name"),
        switch(NONE, "verbose", "Show more output").hidden(),
        switch('h', "help", "Print usage and the commands").hidden(),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: false,
};

/// What every command of a project gets.
pub struct Called<'a> {
    /// The command line's own.
    pub cli: &'a Cli,
    /// The options before the command.
    pub global: &'a Parsed,
    /// The options of the command.
    pub parsed: &'a Parsed,
    /// Where files come from.
    pub files: &'a files::Files,
    /// The command.
    pub word: &'a str,
}

type Run = fn(&Called<'_>) -> Outcome;

const COMMANDS: &[(&Command, Run)] = &[
    (&exec::ATTACH, exec::attach),
    (&images::BUILD, images::build),
    (&exec::COMMIT, exec::commit),
    (&config::CONFIG, config::config),
    (&exec::CP, exec::cp),
    (&up::CREATE, up::create),
    (&down::DOWN, down::down),
    (&list::EVENTS, list::events),
    (&exec::EXEC, exec::exec),
    (&exec::EXPORT, exec::export),
    (&list::IMAGES, list::images),
    (&down::KILL, down::kill),
    (&attached::LOGS, attached::logs),
    (&list::LS, list::ls),
    (&down::PAUSE, down::pause),
    (&list::PORT, list::port),
    (&list::PS, list::ps),
    (&publish::PUBLISH, publish::publish),
    (&images::PULL, images::pull),
    (&images::PUSH, images::push),
    (&down::RESTART, down::restart),
    (&down::RM, down::rm),
    (&exec::RUN, exec::run),
    (&up::SCALE, up::scale),
    (&down::START, down::start),
    (&list::STATS, list::stats),
    (&down::STOP, down::stop),
    (&list::TOP, list::top),
    (&down::UNPAUSE, down::unpause),
    (&up::UP, up::up),
    (&list::VERSION, list::version),
    (&list::VOLUMES, list::volumes),
    (&down::WAIT, down::wait),
    (&watch::WATCH, watch::watch),
];

/// Runs the command that stands behind the options.
///
/// # Errors
/// What the command says.
pub fn compose(cli: &Cli, global: &Parsed) -> Outcome {
    let asked = global.on("help");
    let Some((word, words)) = global.args.split_first().filter(|_| !asked) else {
        crate::cli::print_text(&overview())?;
        return Ok(0);
    };
    let Some(Found { table, above, word, words }) = found(word, words) else {
        let (about, commands) = match word.as_str() {
            "alpha" => ("Experimental commands", alpha::COMMANDS),
            _ => ("Convert compose files into another model", bridge::COMMANDS),
        };
        let head = format!("\nUsage:  fluyt compose {word} COMMAND\n\n{about}\n");
        crate::cli::print_text(&listed(&head, commands))?;
        return Ok(0);
    };
    let Some((command, run)) = table.iter().find(|(command, _)| command.name == word) else {
        if word == "help" {
            crate::cli::print_text(&overview())?;
            return Ok(0);
        }
        return Err(Failure::Error(
            Error::invalid(format!("unknown command: fluyt {above} {word}"))
                .with_hint(format!("'fluyt {above}' lists the commands")),
        ));
    };
    let path = format!("{above} {word}");
    let usage = |sentence: String, code: i32| Failure::Usage {
        sentence,
        usage: format!("{}\n\nRun 'fluyt {path} --help' for more information", usage_line(command, &path)),
        code,
    };
    match flags::parse(command, &path, words) {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                eprintln!("{warning}");
            }
            run(&Called { cli, global, parsed: &parsed, word: command.name, files: &files::Files::default() })
        }
        Err(UsageError::Help) => {
            let names = [format!("fluyt {path}")];
            crate::cli::print_text(&help(command, &path, &names, terminal::columns()))?;
            Ok(0)
        }
        Err(UsageError::Flag(sentence)) => Err(usage(sentence, 125)),
        Err(UsageError::Arguments(sentence)) => Err(usage(sentence, 1)),
    }
}

/// Where the words after `compose` lead.
struct Found<'w> {
    table: &'static [(&'static Command, Run)],
    above: &'static str,
    word: &'w str,
    words: &'w [String],
}

/// Looks for words; nothing if they name only a group of commands.
fn found<'w>(word: &'w str, words: &'w [String]) -> Option<Found<'w>> {
    let group = |words: &'w [String]| words.split_first().filter(|(w, _)| *w != "--help" && *w != "-h");
    let (table, above, word, words) = match word {
        "convert" => (COMMANDS, "compose", "config", words),
        "alpha" => {
            let (word, words) = group(words)?;
            (alpha::COMMANDS, "compose alpha", word.as_str(), words)
        }
        "bridge" => match group(words)? {
            (word, words) if word == "transformations" => {
                let (below, words) = group(words)?;
                let below = if below == "ls" { "list" } else { below };
                (bridge::TRANSFORMATIONS, "compose bridge transformations", below, words)
            }
            (word, words) => (bridge::COMMANDS, "compose bridge", word.as_str(), words),
        },
        word => (COMMANDS, "compose", word, words),
    };
    Some(Found { table, above, word, words })
}

fn overview() -> String {
    let names = ["fluyt compose".to_owned()];
    listed(&help(&COMPOSE, "compose", &names, terminal::columns()), COMMANDS)
}

/// A text, and below it commands with what they do.
fn listed(head: &str, commands: &[(&Command, Run)]) -> String {
    let mut out = format!("{head}\nCommands:\n");
    let width = commands.iter().map(|(command, _)| command.name.len()).max().unwrap_or(0) + 2;
    for (command, _) in commands {
        out.push_str(&format!("  {:width$}{}\n", command.name, command.about));
    }
    out.push_str("\nRun 'fluyt compose COMMAND --help' for more information on a command.\n");
    out
}

/// The options before a command, as words for another call.
pub fn said(global: &Parsed) -> Vec<String> {
    let mut words = Vec::new();
    let flags =
        ["ansi", "env-file", "file", "parallel", "profile", "progress", "project-directory", "project-name"];
    for flag in flags.into_iter().filter(|flag| global.changed(flag)) {
        words.extend(global.all(flag).map(|value| format!("--{flag}={value}")));
    }
    words.extend(["compatibility", "verbose"].into_iter().filter(|f| global.on(f)).map(|f| format!("--{f}")));
    words
}

/// The commands, for completions and manual pages.
pub fn tree() -> Vec<flags::Node> {
    let node = |(command, _): &(&'static Command, Run)| flags::Node {
        word: command.name,
        about: command.about,
        command: Some(*command),
        below: Vec::new(),
    };
    let alpha = flags::Node {
        word: "alpha",
        about: "Experimental commands",
        command: None,
        below: alpha::COMMANDS.iter().map(node).collect(),
    };
    let group = |word, about, below: Vec<flags::Node>| flags::Node { word, about, command: None, below };
    let transformations = bridge::TRANSFORMATIONS.iter().map(node).collect();
    let mut below: Vec<flags::Node> = bridge::COMMANDS.iter().map(node).collect();
    below.push(group("transformations", "Manage transformation images", transformations));
    let bridge = group("bridge", "Convert compose files into another model", below);
    COMMANDS.iter().map(node).chain([alpha, bridge]).collect()
}

impl Called<'_> {
    /// How a project is loaded, by the options before the command.
    ///
    /// # Errors
    /// There is no present directory.
    pub fn options(&self) -> Result<Options, Error> {
        let directory = std::env::current_dir().about(|| "the present directory")?;
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut options = Options::new(directory, environment);
        options.files = self.global.all("file").map(Into::into).collect();
        options.project_directory = self.global.given("project-directory").map(Into::into);
        options.name = self.global.given("project-name").map(str::to_owned);
        options.env_files = self.global.all("env-file").map(Into::into).collect();
        options.profiles = self.global.list("profile");
        Ok(options)
    }

    /// The project; what the user should know is printed.
    ///
    /// # Errors
    /// Its files are missing or wrong.
    pub fn load(&self, options: &Options) -> Result<Project, Error> {
        let project = fluyt_compose::load(options, self.source())?;
        for warning in &project.warnings {
            eprintln!("WARN: {warning}");
        }
        Ok(project)
    }

    /// Where files come from.
    pub fn source(&self) -> &dyn Source {
        self.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_to_commands() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (line, above, word) in [
            ("up -d", "compose", "up"),
            ("convert", "compose", "config"),
            ("alpha viz", "compose alpha", "viz"),
            ("bridge convert", "compose bridge", "convert"),
            ("bridge transformations ls -q", "compose bridge transformations", "list"),
        ] {
            let words = words(line);
            let found = found(&words[0], &words[1..]).expect(line);
            assert_eq!((found.above, found.word), (above, word), "{line}");
            assert!(found.table.iter().any(|(command, _)| command.name == word), "{line}");
        }
        for line in ["alpha", "alpha --help", "bridge", "bridge transformations"] {
            let words = words(line);
            assert!(found(&words[0], &words[1..]).is_none(), "{line}");
        }
    }

    #[test]
    fn completions_know_every_command() {
        let tree = tree();
        for (command, _) in COMMANDS {
            assert_eq!(tree.iter().filter(|n| n.word == command.name).count(), 1, "{}", command.name);
        }
        let below = |word: &str| tree.iter().find(|n| n.word == word).map_or(0, |n| n.below.len());
        assert_eq!((below("alpha"), below("bridge")), (alpha::COMMANDS.len(), bridge::COMMANDS.len() + 1));
    }
}
