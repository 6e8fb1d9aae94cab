//! `fluyt compose`: its own options, then a command of its own table.

mod attached;
mod config;
mod down;
mod exec;
mod files;
mod images;
mod list;
mod project;
mod up;

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
    let word = if word == "convert" { "config" } else { word };
    let Some((command, run)) = COMMANDS.iter().find(|(command, _)| command.name == word) else {
        if word == "help" {
            crate::cli::print_text(&overview())?;
            return Ok(0);
        }
        return Err(Failure::Error(
            Error::invalid(format!("unknown command: fluyt compose {word}"))
                .with_hint("'fluyt compose' lists the commands"),
        ));
    };
    let path = format!("compose {word}");
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
            run(&Called { cli, global, parsed: &parsed })
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

fn overview() -> String {
    let names = ["fluyt compose".to_owned()];
    let mut out = help(&COMPOSE, "compose", &names, terminal::columns());
    out.push_str("\nCommands:\n");
    let width = COMMANDS.iter().map(|(command, _)| command.name.len()).max().unwrap_or(0) + 2;
    for (command, _) in COMMANDS {
        out.push_str(&format!("  {:width$}{}\n", command.name, command.about));
    }
    out.push_str("\nRun 'fluyt compose COMMAND --help' for more information on a command.\n");
    out
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
    pub fn source(&self) -> &'static dyn Source {
        &files::Disk
    }
}
