//! `cargo xtask tidy`: the rules of this repository that no compiler checks. They also run as a test.
//!
//! Each broken rule is one line that names the file and the line; figures follow for what is a matter of degree.

mod layers;
mod source;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, Result};
use source::Source;

/// No shipped file is longer, tests not counted.
const FILE_LINES: usize = 1000;
/// No function is longer.
const FUNCTION_LINES: usize = 150;
/// 99 of 100 functions are at most this long.
const FUNCTION_LINES_P99: usize = 80;
/// `unwrap` and `expect` per 1,000 lines of shipped code.
const EXPECTS_PER_THOUSAND: f64 = 0.5;

/// What the rules found.
#[derive(Default)]
pub struct Report {
    /// One line per broken rule.
    pub problems: Vec<String>,
    files: usize,
    lines: usize,
    expects: Vec<String>,
    functions: Vec<(usize, String)>,
}

/// Prints the report of the repository around the present directory; 0 when it is tidy.
///
/// # Errors
/// The repository cannot be read.
pub fn main() -> Result<i32> {
    let report = check(&crate::repository()?)?;
    print!("{}", report.figures());
    for problem in &report.problems {
        println!("{problem}");
    }
    println!("{} problems", report.problems.len());
    Ok(i32::from(!report.problems.is_empty()))
}

/// Applies every rule to the repository at `root`.
///
/// # Errors
/// The repository cannot be read.
pub fn check(root: &Path) -> Result<Report> {
    let mut report = Report::default();
    let architecture = read(&root.join("ARCHITECTURE.md"))?;
    let floors = layers::floors(&architecture);
    for path in tracked(root)? {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        report.check_text(&path, &text);
        if let Some(name) = path.strip_prefix("crates/").and_then(|p| p.strip_suffix("/Cargo.toml")) {
            report.problems.extend(layers::check(name, &text, &floors));
        }
        if path.starts_with("crates/") && path.ends_with(".rs") {
            report.check_rust(&path, &text);
        }
    }
    report.check_figures();
    Ok(report)
}

impl Report {
    /// The measured values, one a line.
    pub fn figures(&self) -> String {
        let mut text = String::new();
        let mut lengths: Vec<usize> = self.functions.iter().map(|f| f.0).collect();
        lengths.sort_unstable();
        let _ = writeln!(text, "shipped files                {}", self.files);
        let _ = writeln!(text, "shipped lines of code        {}", self.lines);
        let _ = writeln!(text, "functions                    {}", lengths.len());
        for (name, share) in [("median", 50), ("p99", 99), ("longest", 100)] {
            let _ = writeln!(text, "function length, {name:<11} {}", percentile(&lengths, share));
        }
        let _ = writeln!(text, "unwrap+expect / 1,000 lines  {:.2} ({})", self.density(), self.expects.len());
        text
    }

    fn density(&self) -> f64 {
        let thousands = u32::try_from(self.lines.max(1)).map_or(1.0, f64::from) / 1000.0;
        u32::try_from(self.expects.len()).map_or(0.0, f64::from) / thousands
    }

    fn problem(&mut self, path: &str, line: usize, what: &str) {
        self.problems.push(format!("{path}:{line}: {what}"));
    }

    /// Rules for every file that is text.
    fn check_text(&mut self, path: &str, text: &str) {
        if path.ends_with("Cargo.lock") {
            return;
        }
        for (number, line) in text.lines().enumerate() {
            for word in forbidden_words() {
                if line.contains(&word) {
                    self.problem(path, number + 1, &format!("contains {word:?}"));
                }
            }
        }
    }

    /// Rules for Rust files.
    fn check_rust(&mut self, path: &str, text: &str) {
        if !text.starts_with("//!") {
            self.problem(path, 1, "does not begin with //! (what it is for, what it does not do)");
        }
        let krate = path.split('/').nth(1).unwrap_or_default();
        let root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
        if root && krate != "sys" && !text.contains("#![forbid(unsafe_code)]") {
            self.problem(path, 1, "lacks #![forbid(unsafe_code)]");
        }
        let mut source = Source::new(text);
        for (number, comment) in source.comments.iter().enumerate() {
            if marks_unfinished(comment) {
                self.problems.push(format!("{path}:{}: unfinished work marked in a comment", number + 1));
            }
        }
        if krate == "sys" {
            self.check_unsafe(path, &source);
        }
        let development = ["testkit", "xtask", "e2e", "bench"].contains(&krate);
        if development || !path.contains("/src/") || path.ends_with("/tests.rs") {
            return;
        }
        source.drop_tests();
        self.check_shipped(path, &source);
    }

    fn check_shipped(&mut self, path: &str, source: &Source) {
        let lines = source.code_lines();
        self.files += 1;
        self.lines += lines;
        if lines > FILE_LINES {
            self.problem(
                path,
                1,
                &format!("{lines} lines of code, at most {FILE_LINES}: split by responsibility"),
            );
        }
        for (number, line) in source.code.iter().enumerate() {
            for call in [".unwrap()", ".unwrap_err()", ".expect("] {
                if line.contains(call) && !line.contains("self.expect(") {
                    self.expects.push(format!("{path}:{}", number + 1));
                    if call != ".expect(" {
                        self.problem(
                            path,
                            number + 1,
                            &format!("{call} in shipped code: say why it holds, or return an error"),
                        );
                    }
                }
            }
        }
        for function in source.functions() {
            if function.length > FUNCTION_LINES {
                let what =
                    format!("fn {} has {} lines, at most {FUNCTION_LINES}", function.name, function.length);
                self.problem(path, function.line, &what);
            }
            self.functions.push((function.length, format!("{path}:{}: fn {}", function.line, function.name)));
        }
    }

    fn check_unsafe(&mut self, path: &str, source: &Source) {
        for (number, line) in source.code.iter().enumerate() {
            if !line.contains("unsafe {") && !line.contains("unsafe impl") {
                continue;
            }
            let from = number.saturating_sub(12);
            if !source.comments[from..=number].iter().any(|c| c.contains("SAFETY")) {
                self.problem(path, number + 1, "unsafe without a SAFETY comment");
            }
        }
    }

    fn check_figures(&mut self) {
        let mut lengths: Vec<usize> = self.functions.iter().map(|f| f.0).collect();
        lengths.sort_unstable();
        let p99 = percentile(&lengths, 99);
        if p99 > FUNCTION_LINES_P99 {
            let mut longest = self.functions.clone();
            longest.sort_by_key(|f| std::cmp::Reverse(f.0));
            let named: Vec<String> = longest.iter().take(5).map(|(n, f)| format!("{f} ({n})")).collect();
            self.problems.push(format!(
                "function length p99 is {p99}, at most {FUNCTION_LINES_P99}; the longest: {}",
                named.join(", ")
            ));
        }
        if self.density() > EXPECTS_PER_THOUSAND {
            self.problems.push(format!(
                "{:.2} unwrap+expect per 1,000 lines, at most {EXPECTS_PER_THOUSAND}: {}",
                self.density(),
                self.expects.join(" ")
            ));
        }
    }
}

/// The smallest value that `share` of 100 do not exceed; 0 for none.
fn percentile(sorted: &[usize], share: usize) -> usize {
    let rank = (sorted.len() * share).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Words that no committed file holds: package registries, and places of the machines this is written on.
/// They are put together here so that this file does not hold them.
fn forbidden_words() -> Vec<String> {
    let hosts = ["index.crates", "static.crates", "proxy.golang", "registry.npmjs", "files.pythonhosted"];
    let homes = ["main/", "wt/", "tgt/", "bin/", "shared/"];
    let dotted = ["cargo", "rustup", "config"];
    let mut words: Vec<String> = Vec::new();
    words.extend(hosts.iter().map(|h| format!("{h}.{}", if h.contains("crates") { "io" } else { "org" })));
    words.extend(homes.iter().map(|h| format!("{}{h}", "/work/")));
    words.extend(dotted.iter().map(|d| format!("{}.{d}", "/root/")));
    words
}

/// A marker of unfinished work, as a word of its own.
fn marks_unfinished(comment: &str) -> bool {
    comment
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|w| matches!(w, "TODO" | "FIXME" | "XXX" | "HACK"))
}

/// The files that git tracks or would track, relative to `root`.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|e| Failure::new(format!("git: {e}: apt-get install git")))?;
    if output.status.success() {
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        return Ok(names.split('\0').filter(|n| !n.is_empty()).map(str::to_owned).collect());
    }
    // A source archive without git: everything but what builds leave behind.
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from(root)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        report.check_text(path, text);
        report.check_rust(path, text);
        report.problems
    }

    #[test]
    fn a_good_file_has_no_problems() {
        let text = "//! Good.\n#![forbid(unsafe_code)]\nfn a() {}\n";
        assert_eq!(problems_of("crates/model/src/lib.rs", text), Vec::<String>::new());
    }

    #[test]
    fn each_rule_is_seen_to_break() {
        let path = "crates/model/src/a.rs";
        let long = format!("//! x\nfn a() {{\n{}}}\n", "    b();\n".repeat(200));
        let unfinished = format!("//! x\n// {}: later\n", "TODO");
        let elsewhere = format!("//! x\n// {}/x\n", "/work/main");
        for (text, what) in [
            ("fn a() {}\n", "begin with"),
            ("//! x\nfn a() { b.unwrap() }\n", "unwrap"),
            (long.as_str(), "202 lines"),
            (unfinished.as_str(), "unfinished"),
            (elsewhere.as_str(), "contains"),
        ] {
            let problems = problems_of(path, text);
            assert!(problems.len() == 1 && problems[0].contains(what), "{what}: {problems:?}");
        }
        assert_eq!(problems_of("crates/model/src/lib.rs", "//! x\n").len(), 1, "forbid(unsafe_code)");
        assert_eq!(
            problems_of("crates/sys/src/a.rs", "//! x\nfn a() {\n    unsafe { b() }\n}\n").len(),
            1,
            "SAFETY"
        );
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let values: Vec<usize> = (1..=100).collect();
        assert_eq!(
            (percentile(&values, 50), percentile(&values, 99), percentile(&values, 100)),
            (50, 99, 100)
        );
        assert_eq!(percentile(&[], 99), 0);
    }
}
