//! Colours of the display: BuildKit's, changed by `BUILDKIT_COLORS`, none with `NO_COLOR`.

use super::picture::Kind;

/// The beginnings of escape sequences by what they mark; empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Colors {
    run: String,
    cancel: String,
    error: String,
    warning: String,
    faint: String,
}

const NAMES: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

impl Colors {
    /// Those that the environment asks for.
    pub fn from_env(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return Self::default();
        }
        let code = |name: &str| color(name).unwrap_or_default();
        let mut colors = Self {
            run: code("blue"),
            cancel: code("yellow"),
            error: code("red"),
            warning: code("yellow"),
            faint: "\x1b[2m".to_owned(),
        };
        let wanted = variable("BUILDKIT_COLORS").unwrap_or_default();
        for (key, value) in wanted.split(':').filter_map(|field| field.split_once('=')) {
            let Some(code) = color(&value.to_lowercase()) else { continue };
            match key.to_lowercase().as_str() {
                "run" => colors.run = code,
                "cancel" => colors.cancel = code,
                "error" => colors.error = code,
                "warning" => colors.warning = code,
                _ => {}
            }
        }
        colors
    }

    /// What comes before and after a line.
    pub(super) fn around(&self, kind: Kind) -> (&str, &'static str) {
        let code = match kind {
            Kind::Plain => "",
            Kind::Done => &self.run,
            Kind::Canceled => &self.cancel,
            Kind::Failed => &self.error,
            Kind::Log => &self.faint,
        };
        if code.is_empty() { ("", "") } else { (code, "\x1b[0m") }
    }
}

/// A name, or red, green and blue as numbers.
fn color(text: &str) -> Option<String> {
    if text == "default" {
        return Some("\x1b[39m".to_owned());
    }
    let number = |name: &str| NAMES.iter().position(|known| *known == name);
    if let Some(at) = text.strip_prefix("light-").and_then(number) {
        return Some(format!("\x1b[{}m", 90 + at));
    }
    if let Some(at) = number(text) {
        return Some(format!("\x1b[{}m", 30 + at));
    }
    let parts: Option<Vec<u8>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    match parts?[..] {
        [red, green, blue] => Some(format!("\x1b[38;2;{red};{green};{blue}m")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses() {
        let with = |name: &'static str, value: &'static str| {
            Colors::from_env(&move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(with("NO_COLOR", "1"), Colors::default());
        let own = with("BUILDKIT_COLORS", "run=light-green:ERROR=1,2,3:warning=nonsense:x");
        assert_eq!((own.run.as_str(), own.error.as_str()), ("\x1b[92m", "\x1b[38;2;1;2;3m"));
        assert_eq!(own.warning, "\x1b[33m");
    }
}
