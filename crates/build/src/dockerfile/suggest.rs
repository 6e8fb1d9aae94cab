//! "Did you mean": the option that is the fewest edits away from what was written.

/// At so many edits a word is another word.
const TOO_FAR: usize = 3;

/// The option nearest to `word`, if one is near and none is the same.
pub fn nearest<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> Option<String> {
    let fold = |text: &str| if case_sensitive { text.to_owned() } else { text.to_lowercase() };
    let wanted = fold(word);
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        let distance = edits(&wanted, &fold(option));
        if distance == 0 {
            return None;
        }
        let better = best.is_none_or(|(least, name)| (distance, option) < (least, name));
        if distance < TOO_FAR && better {
            best = Some((distance, option));
        }
    }
    let (_, option) = best?;
    Some(if case_sensitive {
        option.to_owned()
    } else if word == word.to_uppercase() {
        option.to_uppercase()
    } else {
        option.to_lowercase()
    })
}

/// `message`, with the nearest option behind it if there is one.
pub fn with_nearest<'a>(
    message: String,
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> String {
    match nearest(word, options, case_sensitive) {
        Some(option) => format!("{message} (did you mean {option}?)"),
        None => message,
    }
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let kept = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = kept.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested() {
        assert_eq!(nearest("RUNN", ["RUN", "COPY"], false).as_deref(), Some("RUN"));
        assert_eq!(nearest("FORM", ["FROM", "RUN"], false).as_deref(), Some("FROM"));
        assert_eq!(nearest("runn", ["RUN"], false).as_deref(), Some("run"), "in the case of the word");
        assert_eq!(nearest("run", ["RUN"], false), None);
        assert_eq!(nearest("PLATYPUS", ["RUN"], false), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
