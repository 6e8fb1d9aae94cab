//! Elastic tab stops: cells end in tabs, and a column is as wide as its widest cell in a run of lines.

/// How columns are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Least width of a column, padding included.
    pub min_width: usize,
    /// Spaces between columns.
    pub padding: usize,
}

/// Docker's tables.
pub const TABLE: Style = Style { min_width: 10, padding: 3 };
/// Docker's `top`.
pub const TOP: Style = Style { min_width: 20, padding: 3 };

/// Lays out `text`; what follows the last tab of a line is not part of a column.
pub fn align(text: &str, style: Style) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            if widths[start].len() <= column {
                start += 1;
                continue;
            }
            let end = (start..lines.len()).find(|i| widths[*i].len() <= column).unwrap_or(lines.len());
            let widest = (start..end).map(|i| width(lines[i][column])).max().unwrap_or(0);
            for line in &mut widths[start..end] {
                line[column] = (widest + style.padding).max(style.min_width);
            }
            start = end;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (i, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
        if i > 0 {
            out.push('\n');
        }
        for (cell, wanted) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', wanted.saturating_sub(width(cell))));
        }
        out.push_str(cells.last().copied().unwrap_or_default());
    }
    out
}

/// Columns of a terminal: two for a wide East Asian character.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    let wide = matches!(u32::from(c),
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0x33ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff
        | 0xa000..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60
        | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd);
    if wide { 2 } else { 1 }
}

/// At most `limit` columns; a cut text ends in `…`.
pub fn ellipsis(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        used += char_width(c);
        if used > limit.saturating_sub(1) {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let text = "CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbusybox:latest\tx\n";
        assert_eq!(
            align(text, TABLE),
            "CONTAINER ID   IMAGE            NAMES\n0123456789ab   busybox:latest   x\n"
        );
        assert_eq!(align("A\tB\n", TABLE), "A         B\n");
        assert_eq!(align("界\tB\nab\tB", TABLE), "界        B\nab        B");
    }

    #[test]
    fn runs_of_lines_have_their_own_columns() {
        assert_eq!(align("a\tb\nplain\naaaaaaaaaaaa\tb", TABLE), "a         b\nplain\naaaaaaaaaaaa   b");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(ellipsis("abcd", 3), "ab…");
        assert_eq!(ellipsis("界界界", 4), "界…");
    }
}
