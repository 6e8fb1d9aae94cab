//! How many columns of a terminal a text takes.

/// Characters that take two columns, as ranges.
const WIDE: [(u32, u32); 11] = [
    (0x1100, 0x115f),
    (0x2e80, 0x303e),
    (0x3041, 0xa4cf),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe30, 0xfe6f),
    (0xff00, 0xff60),
    (0xffe0, 0xffe6),
    (0x1f300, 0x1f64f),
    (0x1f680, 0x1f9ff),
    (0x20000, 0x3fffd),
];
/// Characters that take none.
const NONE: [(u32, u32); 6] = [
    (0x0300, 0x036f),
    (0x200b, 0x200f),
    (0x20d0, 0x20ff),
    (0xfe00, 0xfe0f),
    (0xfe20, 0xfe2f),
    (0xe0100, 0xe01ef),
];

/// The columns of a character.
fn of_char(c: char) -> usize {
    let within =
        |ranges: &[(u32, u32)]| ranges.iter().any(|(from, to)| (*from..=*to).contains(&u32::from(c)));
    match c {
        ' '..='~' => 1,
        _ if c.is_control() || within(&NONE) => 0,
        _ if within(&WIDE) => 2,
        _ => 1,
    }
}

/// The columns of a text without control characters.
pub fn of(text: &str) -> usize {
    text.chars().map(of_char).sum()
}

/// As much of a text as fits into so many columns.
pub fn cut(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += of_char(c);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two() {
        assert_eq!(of("aé日本"), 6);
        assert_eq!(of("e\u{301}"), 1);
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("abc", 3), "abc");
    }
}
