//! Modes as `chmod` takes them: octal numbers and symbols (`u+x,go=rX`).

/// Symbols, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbolic(Vec<Change>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    /// Which of owner, group and others: bits 2, 1 and 0.
    who: u32,
    how: char,
    bits: String,
}

impl Symbolic {
    /// Parses symbols.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut changes = Vec::new();
        for part in text.split(',') {
            let at = part.find(['+', '-', '='])?;
            let mut who = 0;
            for c in part[..at].chars() {
                who |= match c {
                    'u' => 4,
                    'g' => 2,
                    'o' => 1,
                    'a' => 7,
                    _ => return None,
                };
            }
            if who == 0 {
                who = 7;
            }
            let mut rest = &part[at..];
            while let Some(how) = rest.chars().next() {
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |n| n + 1);
                let bits = &rest[1..end];
                if !bits.chars().all(|c| "rwxXstugo".contains(c)) {
                    return None;
                }
                changes.push(Change { who, how, bits: bits.to_owned() });
                rest = &rest[end..];
            }
        }
        Some(Self(changes))
    }

    /// The mode that `mode` becomes.
    #[must_use]
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut mode = mode;
        for change in &self.0 {
            let mut bits = 0;
            for c in change.bits.chars() {
                let three = |n: u32| n << 6 | n << 3 | n;
                bits |= match c {
                    'r' => three(4),
                    'w' => three(2),
                    'x' => three(1),
                    'X' if is_directory || mode & 0o111 != 0 => three(1),
                    's' => 0o6000,
                    't' => 0o1000,
                    'u' => three(mode >> 6 & 7),
                    'g' => three(mode >> 3 & 7),
                    'o' => three(mode & 7),
                    _ => 0,
                };
            }
            let mut reach = 0o1000;
            for (who, part) in [(4, 0o4700), (2, 0o2070), (1, 0o0007)] {
                if change.who & who != 0 {
                    reach |= part;
                }
            }
            let bits = bits & reach;
            match change.how {
                '+' => mode |= bits,
                '-' => mode &= !bits,
                _ => {
                    // A directory keeps its set-id bits unless they are named.
                    let kept = if is_directory { 0o6000 } else { 0 };
                    mode = mode & !(reach & !kept & !0o1000) | bits;
                }
            }
        }
        mode & 0o7777
    }
}

/// The mode that a `--chmod` value makes of `mode`; `None` when it is neither octal nor symbols.
#[must_use]
pub fn changed(value: &str, mode: u32, is_directory: bool) -> Option<u32> {
    if value.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
    }
    Symbolic::parse(value).map(|symbols| symbols.apply(mode, is_directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change() {
        for (value, mode, directory, expected) in [
            ("755", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("a=rX", 0o600, false, 0o444),
            ("a=rX", 0o700, true, 0o555),
            ("u=rwX,go=rX", 0o644, false, 0o644),
            ("u+s", 0o755, false, 0o4755),
            ("g=u", 0o640, false, 0o660),
            ("u=rw,g+r-w", 0o030, false, 0o650),
            ("+t", 0o777, true, 0o1777),
        ] {
            assert_eq!(changed(value, mode, directory), Some(expected), "{value} {mode:o}");
        }
        assert_eq!(changed("u+q", 0, false), None);
        assert_eq!(changed("9999", 0, false), None);
        assert_eq!(changed("x", 0, false), None);
    }
}
