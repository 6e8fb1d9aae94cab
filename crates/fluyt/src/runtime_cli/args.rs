//! A small parser for runc's command line: no tables built at run time, nothing allocated but the values.

use fluyt_model::error::{Error, Result};

/// One flag of a verb.
pub(super) struct Flag {
    /// Its long name.
    pub(super) name: &'static str,
    /// Its one-letter name.
    pub(super) short: Option<char>,
    /// Whether a value follows.
    pub(super) value: bool,
    /// One line for the help.
    pub(super) help: &'static str,
}

/// A flag without a value.
pub(super) const fn switch(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { name, short, value: false, help }
}

/// A flag with a value.
pub(super) const fn value(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { name, short, value: true, help }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    flags: Vec<(&'static str, String)>,
    /// The arguments that are no flags.
    pub(super) rest: Vec<String>,
}

impl Parsed {
    /// Reads `args` by `flags`. Flags may stand behind arguments too, unless `stop` says that the first argument ends
    /// them (`exec`, whose command has flags of its own). `--` ends them always.
    pub(super) fn new(args: &[String], flags: &'static [Flag], stop: bool) -> Result<Self> {
        let mut out = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                out.rest.extend(args.cloned());
                break;
            }
            let Some(body) = arg.strip_prefix('-').filter(|b| !b.is_empty()) else {
                out.rest.push(arg.clone());
                if stop {
                    out.rest.extend(args.cloned());
                    break;
                }
                continue;
            };
            let body = body.strip_prefix('-').unwrap_or(body);
            let (name, inline) = body.split_once('=').map_or((body, None), |(n, v)| (n, Some(v)));
            let flag = find(flags, name)
                .ok_or_else(|| Error::invalid(format!("flag provided but not defined: {arg}")))?;
            let text = match (flag.value, inline) {
                (_, Some(text)) => text.to_owned(),
                (false, None) => "true".to_owned(),
                (true, None) => {
                    let missing = || Error::invalid(format!("flag needs an argument: {arg}"));
                    args.next().ok_or_else(missing)?.clone()
                }
            };
            out.flags.push((flag.name, text));
        }
        Ok(out)
    }

    /// The last value of a flag.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a flag, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Whether a switch is on.
    pub(super) fn on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != "false" && v != "0")
    }

    /// A number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse =
            |v: &str| v.parse().map_err(|_| Error::invalid(format!("invalid value {v:?} for flag --{name}")));
        self.get(name).map(parse).transpose()
    }

    /// The one argument of a verb that takes a container.
    pub(super) fn id(&self, verb: &str) -> Result<&str> {
        match self.rest.as_slice() {
            [id] => Ok(id),
            other => Err(Error::invalid(format!("{verb}: exactly 1 argument required, got {}", other.len()))
                .with_hint(format!("fluyt runtime {verb} CONTAINER"))),
        }
    }
}

fn find(flags: &'static [Flag], name: &str) -> Option<&'static Flag> {
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    flags.iter().find(|f| f.name == name || (letter.is_some() && f.short == letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 2] = [value("bundle", Some('b'), ""), switch("detach", Some('d'), "")];

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn forms_of_flags() {
        let p = Parsed::new(&strings(&["-b", "x", "id", "--detach", "--bundle=y"]), &FLAGS, false)
            .expect("valid");
        assert_eq!(
            (p.get("bundle"), p.on("detach"), p.rest.as_slice()),
            (Some("y"), true, &["id".to_owned()][..])
        );
        assert_eq!(p.all("bundle").count(), 2);
        assert!(Parsed::new(&strings(&["--nope"]), &FLAGS, false).is_err());
        assert!(Parsed::new(&strings(&["-b"]), &FLAGS, false).is_err());
    }

    #[test]
    fn the_command_keeps_its_flags() {
        let p = Parsed::new(&strings(&["-d", "id", "ls", "-b"]), &FLAGS, true).expect("valid");
        assert_eq!(p.rest, strings(&["id", "ls", "-b"]));
    }
}
