//! Help texts, in Docker's layout.

use std::fmt::Write as _;

use super::{Command, Flag, Takes};

/// `Usage:  fluyt run [OPTIONS] IMAGE [COMMAND] [ARG...]`.
pub fn usage_line(command: &Command, path: &str) -> String {
    let mut line = format!("Usage:  fluyt {path}");
    if command.flags().any(|f| !f.hidden) {
        line.push_str(" [OPTIONS]");
    }
    if !command.arguments.is_empty() {
        line.push(' ');
        line.push_str(command.arguments);
    }
    line
}

/// The whole help of a command, for a terminal `width` columns wide.
pub fn help(command: &Command, path: &str, aliases: &[String], width: usize) -> String {
    let mut out = format!("{}\n\n{}\n", usage_line(command, path), command.about);
    if aliases.len() > 1 {
        let _ = write!(out, "\nAliases:\n  {}\n", aliases.join(", "));
    }
    let mut flags: Vec<&Flag> = command.flags().filter(|f| !f.hidden).collect();
    if flags.is_empty() {
        return out;
    }
    flags.sort_by_key(|f| f.long);
    let left: Vec<String> = flags.iter().map(|f| label(f)).collect();
    let indent = left.iter().map(String::len).max().unwrap_or(0) + 3;
    out.push_str("\nOptions:\n");
    for (flag, left) in flags.iter().zip(left) {
        let mut text = flag.help.to_owned();
        let quoted = matches!(flag.takes, Takes::One("string", _));
        if !flag.default.is_empty() && flag.default != "false" {
            let _ = if quoted {
                write!(text, " (default {:?})", flag.default)
            } else {
                write!(text, " (default {})", flag.default)
            };
        }
        let lines = wrap(&text, width.saturating_sub(indent).max(24));
        for (i, line) in lines.iter().enumerate() {
            let left = if i == 0 { left.as_str() } else { "" };
            let _ = writeln!(out, "{left:indent$}{line}");
        }
    }
    out
}

/// `  -m, --memory bytes`.
fn label(flag: &Flag) -> String {
    let short = if flag.short == '\0' { "    ".to_owned() } else { format!("-{}, ", flag.short) };
    let kind = match flag.takes {
        Takes::Bool | Takes::Maybe(_) => String::new(),
        Takes::One(kind, _) | Takes::Many(kind, _) => format!(" {kind}"),
    };
    format!("  {short}--{}{kind}", flag.long)
}

/// Breaks at spaces; a line break in the text stays one.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}
