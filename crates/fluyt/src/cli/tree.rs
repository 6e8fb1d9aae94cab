//! The tree of commands: which words lead where. Nothing of a command is built before its words have been found.

use fluyt_model::Error;

use super::cmd::{self, Cli};
use super::fail::{Context, Failure, Outcome};
use super::flags::{self, Command, Parsed, UsageError, help, usage_line};
use super::terminal;

/// What a word leads to.
#[derive(Debug)]
pub struct Node {
    /// The word.
    pub word: &'static str,
    /// Other words for it.
    pub aliases: &'static [&'static str],
    /// Not in help.
    pub hidden: bool,
    /// A command, or more words.
    pub leads: Leads,
}

/// See [`Node`].
#[derive(Debug)]
pub enum Leads {
    /// A command.
    To(&'static Command, fn(&Cli, &Parsed) -> Outcome, Context),
    /// More words.
    Group(&'static str, &'static [Node]),
}

impl Node {
    /// One sentence.
    pub fn about(&self) -> &'static str {
        match self.leads {
            Leads::To(command, ..) => command.about,
            Leads::Group(about, _) => about,
        }
    }

    fn is(&self, word: &str) -> bool {
        self.word == word || self.aliases.contains(&word)
    }
}

/// A command whose own failures have exit code 1.
pub const fn plain(command: &'static Command, run: fn(&Cli, &Parsed) -> Outcome) -> Node {
    Node { word: command.name, aliases: &[], hidden: false, leads: Leads::To(command, run, Context::Plain) }
}

/// A command that runs a process in a container: 125 is ours, 126 and 127 are the process's.
pub const fn process(command: &'static Command, run: fn(&Cli, &Parsed) -> Outcome) -> Node {
    Node { word: command.name, aliases: &[], hidden: false, leads: Leads::To(command, run, Context::Process) }
}

/// A group.
pub const fn group(word: &'static str, about: &'static str, below: &'static [Node]) -> Node {
    Node { word, aliases: &[], hidden: false, leads: Leads::Group(about, below) }
}

impl Node {
    /// The same under more words.
    #[must_use]
    pub const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The same under another word.
    #[must_use]
    pub const fn called(mut self, word: &'static str) -> Self {
        self.word = word;
        self
    }

    /// The same, left out of help.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}

/// Follows `words` from `nodes` on and runs what they lead to; returns the exit code.
pub fn dispatch(cli: &Cli, nodes: &'static [Node], words: &[String]) -> i32 {
    let mut path: Vec<&str> = Vec::new();
    let mut level = nodes;
    let mut about = cmd::ABOUT;
    let mut rest = words;
    loop {
        let Some((word, after)) = rest.split_first() else {
            return print(&group_help(&path, about, level));
        };
        if matches!(word.as_str(), "--help" | "-h" | "help") && (word != "help" || path.is_empty()) {
            if word == "help" && !after.is_empty() {
                let mut words = after.to_vec();
                words.push("--help".to_owned());
                return dispatch(cli, nodes, &words);
            }
            return print(&group_help(&path, about, level));
        }
        let Some(node) = level.iter().find(|node| node.is(word)) else {
            return unknown(&path, level, word);
        };
        path.push(word);
        match node.leads {
            Leads::Group(text, below) => (level, about, rest) = (below, text, after),
            Leads::To(command, run, context) => {
                return super::fail::report_outcome(call(cli, command, run, &path, after), context);
            }
        }
    }
}

fn call(
    cli: &Cli,
    command: &'static Command,
    run: fn(&Cli, &Parsed) -> Outcome,
    path: &[&str],
    words: &[String],
) -> Outcome {
    let path = path.join(" ");
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
            run(cli, &parsed)
        }
        Err(UsageError::Help) => Ok(print(&help(command, &path, &names(command), terminal::columns()))),
        Err(UsageError::Flag(sentence)) => Err(usage(sentence, 125)),
        Err(UsageError::Arguments(sentence)) => Err(usage(sentence, 1)),
    }
}

/// Every path that leads to the command, for `Aliases:`.
fn names(command: &'static Command) -> Vec<String> {
    let mut found = Vec::new();
    collect_names(cmd::ROOT, "fluyt", command, &mut found);
    found.sort_by_key(|name| std::cmp::Reverse(name.matches(' ').count()));
    found
}

fn collect_names(nodes: &[Node], prefix: &str, command: &'static Command, found: &mut Vec<String>) {
    for node in nodes.iter().filter(|n| !n.hidden) {
        match node.leads {
            Leads::Group(_, below) => {
                collect_names(below, &format!("{prefix} {}", node.word), command, found)
            }
            // A constant has no one address.
            Leads::To(other, ..) if (other.name, other.about) == (command.name, command.about) => {
                found.extend(
                    std::iter::once(&node.word).chain(node.aliases).map(|word| format!("{prefix} {word}")),
                );
            }
            Leads::To(..) => {}
        }
    }
}

fn group_help(path: &[&str], about: &str, level: &[Node]) -> String {
    let name = std::iter::once("fluyt").chain(path.iter().copied()).collect::<Vec<_>>().join(" ");
    let options = if path.is_empty() { " [OPTIONS]" } else { "" };
    let mut out = format!("Usage:  {name}{options} COMMAND\n\n{about}\n");
    let width = level.iter().map(|n| n.word.len()).max().unwrap_or(0) + 2;
    let mut section = |title: &str, groups: bool| {
        let mut nodes: Vec<&Node> =
            level.iter().filter(|n| !n.hidden && matches!(n.leads, Leads::Group(..)) == groups).collect();
        nodes.sort_by_key(|n| n.word);
        if !nodes.is_empty() {
            out.push_str(&format!("\n{title}:\n"));
        }
        for node in nodes {
            out.push_str(&format!("  {:width$}{}\n", node.word, node.about()));
        }
    };
    section("Management Commands", true);
    section("Commands", false);
    if path.is_empty() {
        out.push_str(cmd::GLOBAL_OPTIONS);
    }
    out.push_str(&format!("\nRun '{name} COMMAND --help' for more information on a command.\n"));
    out
}

fn unknown(path: &[&str], level: &[Node], word: &str) -> i32 {
    let name = std::iter::once("fluyt").chain(path.iter().copied()).collect::<Vec<_>>().join(" ");
    if word.starts_with('-') {
        let sentence = if let Some(long) = word.strip_prefix("--") {
            format!("unknown flag: --{}", long.split('=').next().unwrap_or(long))
        } else {
            format!("unknown shorthand flag: '{}' in {word}", word.chars().nth(1).unwrap_or('-'))
        };
        eprintln!("{sentence}\n\nUsage:  {name} COMMAND\n\nRun '{name} --help' for more information");
        return 125;
    }
    let mut error = Error::invalid(format!("unknown command: {name} {word}"));
    if let Some(near) = nearest(level, word) {
        error = error.with_hint(format!("did you mean '{name} {near}'?"));
    }
    super::fail::print(&error);
    eprintln!("\nRun '{name} --help' for more information");
    1
}

/// The word that is at most two edits away, and no more than a third of its letters.
fn nearest(level: &[Node], word: &str) -> Option<&'static str> {
    level
        .iter()
        .filter(|n| !n.hidden)
        .map(|n| (distance(n.word, word), n.word))
        .filter(|(edits, near)| *edits <= 2 && edits * 3 <= near.len())
        .min()
        .map(|(_, near)| near)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn print(text: &str) -> i32 {
    match super::print_text(text) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// The tree as completions and man pages see it.
pub fn view(word: &'static str, about: &'static str, nodes: &'static [Node]) -> flags::Node {
    let below = nodes
        .iter()
        .filter(|n| !n.hidden)
        .map(|node| match node.leads {
            Leads::Group(about, below) => view(node.word, about, below),
            Leads::To(command, ..) => flags::Node {
                word: node.word,
                about: command.about,
                command: Some(command),
                below: cmd::below(command),
            },
        })
        .collect();
    flags::Node { word, about, command: None, below }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(nodes: &'static [Node], visit: &mut dyn FnMut(&'static Command)) {
        for node in nodes {
            match node.leads {
                Leads::Group(_, below) => walk(below, visit),
                Leads::To(command, ..) => visit(command),
            }
        }
    }

    #[test]
    fn flags_of_a_command_do_not_collide() {
        walk(cmd::ROOT, &mut |command| {
            let flags: Vec<_> = command.flags().collect();
            for (i, flag) in flags.iter().enumerate() {
                let rest = &flags[i + 1..];
                assert!(rest.iter().all(|f| f.long != flag.long), "{} --{}", command.name, flag.long);
                let shorts = rest.iter().filter(|f| f.short != '\0');
                assert!(shorts.clone().all(|f| f.short != flag.short), "{} -{}", command.name, flag.short);
                let known = |long: &str| flags.iter().any(|f| f.long == long);
                assert!(flag.alias_of.is_empty() || known(flag.alias_of), "{} --{}", command.name, flag.long);
            }
        });
    }

    #[test]
    fn near_words_are_offered_and_far_ones_are_not() {
        assert_eq!(nearest(cmd::ROOT, "imags"), Some("image"));
        assert_eq!(nearest(cmd::ROOT, "sto"), Some("stop"));
        assert_eq!(nearest(cmd::ROOT, "foo"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn the_tree_becomes_completions_and_manual_pages() {
        let view = view("fluyt", cmd::ABOUT, cmd::ROOT);
        for shell in ["bash", "zsh", "fish"] {
            let mut script = Vec::new();
            flags::completion(&view, shell, &mut script).unwrap();
            assert!(String::from_utf8_lossy(&script).contains("volumes-from"), "{shell}");
        }
        assert!(flags::completion(&view, "tcsh", &mut Vec::new()).is_err());
    }

    #[test]
    fn help_names_every_path_to_a_command() {
        let all = names(&super::super::create::RUN);
        assert_eq!(all, ["fluyt container run", "fluyt run"]);
        let text = help(&super::super::create::RUN, "run", &all, 80);
        assert!(text.starts_with("Usage:  fluyt run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nCreate and run"));
        assert!(text.contains("\n  -m, --memory bytes                     Memory limit\n"), "{text}");
    }
}
