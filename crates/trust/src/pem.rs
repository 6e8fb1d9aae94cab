//! PEM (RFC 7468): labels and bytes. Headers within a block are not known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// What stands after `BEGIN`.
    pub label: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// All well-formed blocks of a text, in order; what stands between them does not matter.
pub(crate) fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) {
            open = Some((label.to_owned(), String::new()));
        } else if let Some(label) = line.strip_prefix("-----END ").and_then(|l| l.strip_suffix("-----")) {
            if let Some((begun, body)) = open.take()
                && begun == label
                && let Ok(bytes) = BASE64.decode(body)
            {
                blocks.push(Block { label: begun, bytes });
            }
        } else if let Some((_, body)) = &mut open {
            body.push_str(line);
        }
    }
    blocks
}

/// A block as text, 64 characters a line.
pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let body = BASE64.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_the_round_trip() {
        let bytes: Vec<u8> = (0..=200).collect();
        let text = format!("preface\n{}\r\n{}", encode("A B", &bytes), encode("C", b""));
        let blocks = parse(&text);
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].label.as_str(), &blocks[0].bytes), ("A B", &bytes));
        assert!(parse("-----BEGIN A-----\n!!\n-----END A-----").is_empty());
        assert!(parse("-----BEGIN A-----\nAAAA\n-----END B-----").is_empty());
    }
}
