//! The key sequence that detaches from a container.

use fluyt_model::{Error, Result};

/// Ctrl-P, Ctrl-Q.
const DEFAULT: [u8; 2] = [16, 17];

/// Watches input for the sequence.
#[derive(Debug)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

/// What to do with some input.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// To be sent on.
    pub input: Vec<u8>,
    /// The sequence was typed; nothing after it counts.
    pub detached: bool,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `a,b` and so on; empty: the default.
    ///
    /// # Errors
    /// `Invalid`, in Docker's words.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self { sequence: DEFAULT.to_vec(), matched: 0 });
        }
        let sequence = text.split(',').map(key).collect::<Option<Vec<u8>>>().ok_or_else(|| {
            Error::invalid(format!("invalid detach keys ({text}): Unknown character"))
                .with_hint("give single characters or ctrl-LETTER, separated by commas")
        })?;
        Ok(Self { sequence, matched: 0 })
    }

    /// Takes in what the user typed.
    pub fn scan(&mut self, typed: &[u8]) -> Scanned {
        let mut input = Vec::with_capacity(typed.len());
        for byte in typed {
            if *byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return Scanned { input, detached: true };
                }
                continue;
            }
            // What looked like the sequence was ordinary input after all.
            input.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = usize::from(*byte == self.sequence[0]);
            if self.matched == 0 {
                input.push(*byte);
            }
        }
        Scanned { input, detached: false }
    }
}

fn key(name: &str) -> Option<u8> {
    let single = |text: &str| match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    };
    match name.strip_prefix("ctrl-") {
        None => single(name).filter(u8::is_ascii_graphic),
        Some(name) => match single(name)? {
            letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        let mut keys = DetachKeys::parse("").unwrap();
        assert_eq!(keys.scan(b"ab"), Scanned { input: b"ab".to_vec(), detached: false });
        assert_eq!(keys.scan(&[16]), Scanned { input: vec![], detached: false });
        assert_eq!(keys.scan(b"x"), Scanned { input: vec![16, b'x'], detached: false });
        assert_eq!(keys.scan(&[16, 16]), Scanned { input: vec![16], detached: false });
        assert_eq!(keys.scan(&[17, b'z']), Scanned { input: vec![], detached: true });
        let mut keys = DetachKeys::parse("ctrl-a,d").unwrap();
        assert!(keys.scan(&[1, b'd']).detached);
        for bad in ["ctrl-", "ctrl-1", "ab", "a,,b"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }
}
