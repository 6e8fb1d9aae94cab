//! BuildKit's build checks: what works but could be better, each under the name of its rule.

use super::fault::{Fault, Lines, Result};
use super::lines::Line;

macro_rules! rules {
    ($($name:ident, $page:literal, $about:literal;)*) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $about] $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name, for `# check=skip=`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it demands.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)* }
            }

            fn page(self) -> &'static str {
                match self { $(Self::$name => $page,)* }
            }
        }
    };
}

rules! {
    StageNameCasing, "stage-name-casing", "Stage names should be lowercase";
    FromAsCasing, "from-as-casing", "The 'as' keyword should match the case of the 'from' keyword";
    NoEmptyContinuation, "no-empty-continuation", "Empty continuation lines will become errors in a future release";
    ConsistentInstructionCasing, "consistent-instruction-casing", "All commands within the Dockerfile should use the same casing (either upper or lower)";
    DuplicateStageName, "duplicate-stage-name", "Stage names should be unique";
    ReservedStageName, "reserved-stage-name", "Reserved words should not be used as stage names";
    JSONArgsRecommended, "json-args-recommended", "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    MaintainerDeprecated, "maintainer-deprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    UndefinedArgInFrom, "undefined-arg-in-from", "FROM command must use declared ARGs";
    WorkdirRelativePath, "workdir-relative-path", "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    UndefinedVar, "undefined-var", "Variables should be defined before their use";
    MultipleInstructionsDisallowed, "multiple-instructions-disallowed", "Multiple instructions of the same type should not be used in the same stage";
    LegacyKeyValueFormat, "legacy-key-value-format", "Legacy key/value format with whitespace separator should not be used";
    RedundantTargetPlatform, "redundant-target-platform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    SecretsUsedInArgOrEnv, "secrets-used-in-arg-or-env", "Sensitive data should not be used in the ARG or ENV commands";
    InvalidDefaultArgInFrom, "invalid-default-arg-in-from", "Default value for global ARG results in an empty or invalid base image name";
    InvalidBaseImagePlatform, "", "Base image platform does not match expected target platform";
    FromPlatformFlagConstDisallowed, "from-platform-flag-const-disallowed", "FROM --platform flag should not use a constant value";
    CopyIgnoredFile, "copy-ignored-file", "Attempting to Copy file that is excluded by .dockerignore";
    InvalidDefinitionDescription, "invalid-definition-description", "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.";
    ExposeProtoCasing, "expose-proto-casing", "Protocol in EXPOSE instruction should be lowercase";
    ExposeInvalidFormat, "expose-invalid-format", "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
}

impl Rule {
    /// Where more is written about it; empty when nothing is.
    #[must_use]
    pub fn url(self) -> String {
        if self.page().is_empty() {
            return String::new();
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page())
    }

    /// Applied only when asked for.
    #[must_use]
    pub fn experimental(self) -> bool {
        matches!(self, Self::InvalidDefinitionDescription)
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub lines: Lines,
    /// What.
    pub message: String,
}

/// Which rules are on.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    skip: Vec<String>,
    skip_all: bool,
    experimental: Vec<String>,
    experimental_all: bool,
    is_error: bool,
}

/// Collects findings of the rules that are on.
#[derive(Clone, Debug, Default)]
pub struct Lint {
    found: Vec<Warning>,
    rules: Rules,
    /// What the comment before the instruction at hand says.
    here: Rules,
    /// The rules are the caller's: the file's own do not count.
    given: bool,
    silent: bool,
}

impl Rules {
    /// Reads `skip=A,B;error=true`.
    ///
    /// # Errors
    /// An option that does not exist, a value that is no boolean.
    pub fn read(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(rules);
        }
        for option in text.splitn(3, ';') {
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| Fault::new(format!("invalid check option {}", super::quoted(option))))?;
            let (key, value) = (key.trim(), value.trim());
            let names = || value.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
            match key {
                "skip" if value == "all" => rules.skip_all = true,
                "skip" => rules.skip = names(),
                "experimental" if value == "all" => rules.experimental_all = true,
                "experimental" => rules.experimental = names(),
                "error" => {
                    rules.is_error = match value {
                        "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
                        "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
                        _ => {
                            return Err(Fault::new(format!(
                                "failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax",
                                super::quoted(option),
                                super::quoted(value)
                            )));
                        }
                    }
                }
                key => return Err(Fault::new(format!("invalid check option {}", super::quoted(key)))),
            }
        }
        Ok(rules)
    }

    /// Whether the rule is switched: off, or on if it is an experimental one.
    fn says(&self, rule: Rule) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == rule.name());
        if rule.experimental() {
            self.experimental_all || named(&self.experimental)
        } else {
            self.skip_all || named(&self.skip)
        }
    }
}

impl Lint {
    /// Hears nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// Takes the caller's settings (`BUILDKIT_DOCKERFILE_CHECK`): those in the file no longer count.
    ///
    /// # Errors
    /// See [`Rules::read`].
    pub fn configure(&mut self, text: &str) -> Result<()> {
        self.rules =
            Rules::read(text).map_err(|e| e.prefixed("failed to parse BUILDKIT_DOCKERFILE_CHECK: "))?;
        self.given = true;
        Ok(())
    }

    /// Takes the settings of the directive `# check=`.
    ///
    /// # Errors
    /// See [`Rules::read`].
    pub fn directive(&mut self, text: &str) -> Result<()> {
        if !self.given {
            self.rules = Rules::read(text).map_err(|e| e.prefixed("failed to parse check options: "))?;
        }
        Ok(())
    }

    /// Heeds `# check=skip=…` in the comments right before an instruction, until [`Lint::restore`] gets what this
    /// returned. What cannot be read there is a comment like any other.
    pub fn focus(&mut self, comments: &[String]) -> Rules {
        let here = comments.iter().find_map(|comment| {
            let (name, value) = comment.split_once('=')?;
            name.trim().eq_ignore_ascii_case("check").then(|| value.split_whitespace().next().unwrap_or(""))
        });
        let here = here.map(Rules::read).and_then(Result::ok).unwrap_or_default();
        std::mem::replace(&mut self.here, here)
    }

    /// Ends what [`Lint::focus`] began.
    pub fn restore(&mut self, around: Rules) {
        self.here = around;
    }

    /// Tells of a finding.
    pub fn tell(&mut self, rule: Rule, lines: Lines, message: String) {
        let said = self.rules.says(rule) || self.here.says(rule);
        let off = self.silent || said != rule.experimental();
        let warning = Warning { rule, lines, message };
        if !off && !self.found.contains(&warning) {
            self.found.push(warning);
        }
    }

    /// The findings by place.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut all = self.found.clone();
        all.sort_by_key(|w| (w.lines.first, w.rule));
        all
    }

    /// The findings as a failure, if they are to be one.
    #[must_use]
    pub fn failure(&self) -> Option<Fault> {
        if !self.rules.is_error || self.found.is_empty() {
            return None;
        }
        let rules: std::collections::BTreeSet<&str> = self.found.iter().map(|w| w.rule.name()).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        let at = self.found.iter().map(|w| w.lines).min();
        let fault = Fault::new(format!("lint violation found for rules: {}", rules.join(", ")));
        Some(match at {
            Some(lines) => fault.at(lines),
            None => fault,
        })
    }
}

/// Keywords that are written in another case than most.
pub fn casing(lines: &[Line], lint: &mut Lint) {
    let first = lines.iter().position(|line| line.keyword.eq_ignore_ascii_case("from")).unwrap_or(0);
    let lines = &lines[first..];
    let is_lower = |line: &Line| line.keyword == line.keyword.to_lowercase();
    let is_upper = |line: &Line| line.keyword == line.keyword.to_uppercase();
    let lower = lines.iter().filter(|line| is_lower(line)).count();
    let upper = lines.iter().filter(|line| is_upper(line)).count();
    let (name, fits): (&str, &dyn Fn(&Line) -> bool) =
        if lower > upper { ("lowercase", &is_lower) } else { ("uppercase", &is_upper) };
    for line in lines.iter().filter(|line| !fits(line)) {
        let message =
            format!("Command '{}' should match the case of the command majority ({name})", line.keyword);
        lint.tell(Rule::ConsistentInstructionCasing, line.lines, message);
    }
}

/// A comment before a definition that does not describe it.
pub fn description(lint: &mut Lint, keyword: &str, names: &[&str], comments: &[String], lines: Lines) {
    let Some(comment) = comments.last() else { return };
    let first = comment.split(' ').next().unwrap_or("");
    if names.is_empty() || names.contains(&first) {
        return;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { names[0] };
    let message = format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    lint.tell(Rule::InvalidDefinitionDescription, lines, message);
}

/// Whether a name says that its value is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const ALLOWED: [&str; 3] = ["public", "file", "version"];
    let words: Vec<String> = name.split('_').map(str::to_lowercase).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    has(&SECRET) && !has(&ALLOWED)
}
