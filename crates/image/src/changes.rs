//! The instructions that `commit -c` and `import -c` take: those of a Dockerfile that change only the
//! configuration of an image. Variables are not expanded. No I/O.

use fluyt_model::{Error, Result};

use crate::oci::{ContainerConfig, Empty, Healthcheck};

/// One parsed instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `CMD`
    Cmd(Vec<String>),
    /// `ENTRYPOINT`
    Entrypoint(Vec<String>),
    /// `ENV`
    Env(Vec<(String, String)>),
    /// `EXPOSE`: `port/protocol`
    Expose(Vec<String>),
    /// `LABEL`
    Label(Vec<(String, String)>),
    /// `ONBUILD`
    OnBuild(String),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
}

impl Instruction {
    /// Parses one instruction.
    ///
    /// # Errors
    /// `Kind::Invalid`, naming the instruction.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let bad = |why: &str| Error::invalid(format!("invalid change {line:?}: {why}"));
        let keyword = word.to_ascii_uppercase();
        if rest.is_empty() && is_known(&keyword) {
            return Err(bad(&format!("{keyword} requires at least one argument")));
        }
        Ok(match keyword.as_str() {
            "CMD" => Self::Cmd(command(rest)),
            "ENTRYPOINT" => Self::Entrypoint(command(rest)),
            "ENV" => Self::Env(pairs(rest).map_err(|e| bad(&e))?),
            "LABEL" => Self::Label(pairs(rest).map_err(|e| bad(&e))?),
            "EXPOSE" => {
                let ports: std::result::Result<Vec<Vec<String>>, String> =
                    rest.split_whitespace().map(ports).collect();
                Self::Expose(ports.map_err(|e| bad(&e))?.concat())
            }
            "ONBUILD" => {
                let inner = rest.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
                if matches!(inner.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                    return Err(bad(&format!("{inner} isn't allowed as an ONBUILD trigger")));
                }
                Self::OnBuild(rest.to_owned())
            }
            "STOPSIGNAL" => Self::StopSignal(one(rest).ok_or_else(|| bad("STOPSIGNAL takes one argument"))?),
            "USER" => Self::User(one(rest).ok_or_else(|| bad("USER takes one argument"))?),
            "VOLUME" => {
                let paths =
                    json_list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
                if paths.iter().any(|p| p.trim().is_empty()) {
                    return Err(bad("VOLUME specified can not be an empty string"));
                }
                Self::Volume(paths)
            }
            "WORKDIR" => Self::Workdir(rest.to_owned()),
            "HEALTHCHECK" => Self::Healthcheck(healthcheck(rest).map_err(|e| bad(&e))?),
            _ => {
                return Err(bad(&format!("{word} is not a valid change command")).with_hint(
                    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR can be changed",
                ));
            }
        })
    }

    /// Changes a configuration.
    pub fn apply(&self, config: &mut ContainerConfig) {
        match self {
            Self::Cmd(words) => config.cmd = Some(shell_form(words, &config.shell)),
            Self::Entrypoint(words) => config.entrypoint = Some(shell_form(words, &config.shell)),
            Self::Env(pairs) => {
                for (name, value) in pairs {
                    let line = format!("{name}={value}");
                    let is_same = |old: &&mut String| old.split('=').next() == Some(name);
                    match config.env.iter_mut().find(is_same) {
                        Some(old) => *old = line,
                        None => config.env.push(line),
                    }
                }
            }
            Self::Expose(ports) => config.exposed_ports.extend(ports.iter().map(|p| (p.clone(), Empty {}))),
            Self::Label(pairs) => config.labels.extend(pairs.iter().cloned()),
            Self::OnBuild(line) => config.on_build.push(line.clone()),
            Self::StopSignal(signal) => config.stop_signal.clone_from(signal),
            Self::User(user) => config.user.clone_from(user),
            Self::Volume(paths) => config.volumes.extend(paths.iter().map(|p| (p.clone(), Empty {}))),
            Self::Workdir(path) => config.working_dir = join(&config.working_dir, path),
            Self::Healthcheck(check) => config.healthcheck = Some(check.clone()),
        }
    }
}

fn is_known(keyword: &str) -> bool {
    const ALL: [&str; 11] = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    ALL.contains(&keyword)
}

/// A marker before a line in shell form, until the image's shell is known.
const SHELL: &str = "\0shell";

fn command(rest: &str) -> Vec<String> {
    json_list(rest).unwrap_or_else(|| vec![SHELL.to_owned(), rest.to_owned()])
}

fn shell_form(words: &[String], shell: &[String]) -> Vec<String> {
    match words {
        [marker, line] if marker == SHELL => {
            let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
            let mut all = if shell.is_empty() { default() } else { shell.to_vec() };
            all.push(line.clone());
            all
        }
        words => words.to_vec(),
    }
}

fn json_list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

fn one(rest: &str) -> Option<String> {
    let mut words = rest.split_whitespace();
    let first = words.next()?;
    words.next().is_none().then(|| first.to_owned())
}

fn join(base: &str, path: &str) -> String {
    let all = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in all.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Splits into words as the Dockerfile does: quotes group, backslashes escape.
fn words(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                inside = true;
                let next = chars.next().ok_or("it ends in a backslash")?;
                if quote.is_some() && !matches!(next, '"' | '\\' | '$') {
                    word.push('\\');
                }
                word.push(next);
            }
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => {
                inside = true;
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => {
                if inside {
                    found.push(std::mem::take(&mut word));
                    inside = false;
                }
            }
            (c, None) => {
                inside = true;
                word.push(c);
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    if inside {
        found.push(word);
    }
    Ok(found)
}

/// `NAME=value …`, or the old form `NAME value with spaces`.
fn pairs(rest: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let first = rest.split_whitespace().next().unwrap_or("");
    if !first.contains('=') {
        let (name, value) = rest.split_once(char::is_whitespace).ok_or("it must have two arguments")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words(rest)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err("a name is blank".to_owned()),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("syntax error - can't find = in {word:?}. Must be of the form: name=value")),
        })
        .collect()
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn ports(text: &str) -> std::result::Result<Vec<String>, String> {
    let bad = || format!("invalid port {text:?}");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid protocol in {text:?}"));
    }
    let number = |t: &str| t.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(bad);
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(range)?, number(range)?),
    };
    if low > high {
        return Err(bad());
    }
    Ok((low..=high).map(|port| format!("{port}/{protocol}")).collect())
}

fn healthcheck(rest: &str) -> std::result::Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, tail) = flag.split_once(char::is_whitespace).ok_or("HEALTHCHECK has no command")?;
        rest = tail.trim_start();
        let (name, value) = flag.split_once('=').ok_or_else(|| format!("missing a value for --{flag}"))?;
        match name {
            "interval" => check.interval = duration(value)?,
            "timeout" => check.timeout = duration(value)?,
            "start-period" => check.start_period = duration(value)?,
            "start-interval" => check.start_interval = duration(value)?,
            "retries" => check.retries = value.parse().map_err(|_| format!("invalid --retries {value:?}"))?,
            _ => return Err(format!("unknown flag: {name}")),
        }
    }
    let (kind, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let line = line.trim();
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if line.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" if line.is_empty() => return Err("missing command after HEALTHCHECK CMD".to_owned()),
        "CMD" => match json_list(line) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        _ => return Err(format!("unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

/// Go's durations: `1h30m`, `500ms`. In nanoseconds.
fn duration(text: &str) -> std::result::Result<i64, String> {
    const UNITS: [(&str, i64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let bad = || format!("invalid duration {text:?}");
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let value: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = &rest[digits..unit_end];
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        #[allow(clippy::cast_precision_loss)]
        let scale = *scale as f64;
        total += value * scale;
        rest = &rest[unit_end..];
    }
    if text.is_empty() || total > 9.0e18 {
        return Err(bad());
    }
    #[allow(clippy::cast_possible_truncation)]
    Ok(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig { env: vec!["A=0".to_owned()], ..Default::default() };
        for line in lines {
            Instruction::parse(line).unwrap().apply(&mut config);
        }
        config
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = applied(&[
            "CMD [\"nginx\", \"-g\"]",
            "entrypoint exec top -b",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV D four and five",
            "EXPOSE 80 53/udp 8000-8002",
            "LABEL a=b",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGQUIT",
            "USER nobody:1",
            "VOLUME [\"/data\", \"/b\"]",
            "WORKDIR /srv",
            "WORKDIR app/../www",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x",
        ]);
        assert_eq!(config.cmd.unwrap(), ["nginx", "-g"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "exec top -b"]);
        assert_eq!(config.env, ["A=1", "B=two words", "C=x y", "D=four and five"]);
        assert_eq!(config.exposed_ports.len(), 5);
        assert_eq!(config.on_build, ["RUN x"]);
        assert_eq!((config.user.as_str(), config.stop_signal.as_str()), ("nobody:1", "SIGQUIT"));
        assert_eq!(config.volumes.len(), 2);
        assert_eq!(config.working_dir, "/srv/www");
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 3));
        assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
    }

    #[test]
    fn bad_instructions_are_named() {
        for (line, why) in [
            ("RUN x", "not a valid change command"),
            ("CMD", "at least one argument"),
            ("ENV", "at least one argument"),
            ("ENV A", "two arguments"),
            ("ENV A=1 B", "find ="),
            ("ENV A=\"x", "quote"),
            ("EXPOSE 99999", "invalid port"),
            ("EXPOSE 80/icmp", "invalid protocol"),
            ("USER a b", "one argument"),
            ("HEALTHCHECK --interval=x CMD y", "invalid duration"),
            ("HEALTHCHECK MAYBE", "unknown type"),
            ("ONBUILD FROM x", "isn't allowed"),
        ] {
            let e = Instruction::parse(line).unwrap_err();
            assert!(e.to_string().contains(why), "{line}: {e}");
        }
    }
}
