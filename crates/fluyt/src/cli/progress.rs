//! Progress of pull, push, load, save and import: bars on a terminal, plain lines elsewhere, nothing if quiet.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use fluyt_image::{Outcome, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal;

/// Draws what a long operation tells.
pub struct Report {
    lines: Mutex<HashMap<String, ProgressBar>>,
    bars: Option<MultiProgress>,
    silent: bool,
}

impl Report {
    /// For standard output, as `pull` and `push` use it.
    pub fn new(quiet: bool) -> Self {
        let bars = (!quiet && terminal::stdout_is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self { lines: Mutex::new(HashMap::new()), bars, silent: quiet }
    }

    /// For standard error, only on a terminal: `run` and commands whose standard output is data.
    pub fn on_stderr(quiet: bool) -> Self {
        let bars = (!quiet && terminal::stderr_is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { lines: Mutex::new(HashMap::new()), silent: bars.is_none(), bars }
    }

    fn bar(&self, item: &str, total: Option<u64>) -> Option<ProgressBar> {
        let bars = self.bars.as_ref()?;
        let bar = bars.add(ProgressBar::new(total.unwrap_or(0)));
        let template = if total.is_some() {
            "{msg:<32} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}"
        } else {
            "{msg:<32} {bytes} {bytes_per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(short(item));
        Some(bar)
    }
}

impl Progress for Report {
    fn begin(&self, item: &str, total: Option<u64>) {
        if let Some(bar) = self.bar(item, total) {
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(item.to_owned(), bar);
        }
    }

    fn advance(&self, item: &str, bytes: u64) {
        if let Some(bar) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).get(item) {
            bar.inc(bytes);
        }
    }

    fn finish(&self, item: &str, outcome: Outcome) {
        if self.silent {
            return;
        }
        let bar = self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(item);
        let (verb, name) = item.split_once(' ').unwrap_or((item, ""));
        let text = match outcome {
            Outcome::Done => format!("{}: {}", short_name(name), done(verb)),
            Outcome::Exists => format!("{}: Already exists", short_name(name)),
            Outcome::Failed => format!("{}: {verb} failed", short_name(name)),
        };
        match bar {
            Some(bar) => {
                if let Ok(style) = ProgressStyle::with_template("{msg}") {
                    bar.set_style(style);
                }
                bar.finish_with_message(text);
            }
            None => {
                let _ = writeln!(std::io::stdout().lock(), "{text}");
            }
        }
    }
}

/// `Extracting` as something that is over.
fn done(verb: &str) -> String {
    match verb {
        "Downloading" => "Download complete".to_owned(),
        "Extracting" => "Pull complete".to_owned(),
        "Uploading" | "Pushing" => "Pushed".to_owned(),
        other => format!("{other} complete"),
    }
}

fn short(item: &str) -> String {
    match item.split_once(' ') {
        Some((verb, name)) => format!("{}: {verb}", short_name(name)),
        None => item.to_owned(),
    }
}

fn short_name(name: &str) -> &str {
    if name.starts_with("sha256:") { fluyt_model::id::short(name) } else { name }
}
