//! One record of comma-separated values, as `--mount`, `--network` and `--gpus` take them (RFC 4180 quoting).

/// The fields of `record`.
///
/// # Errors
/// A quote out of place.
pub fn fields(record: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, tail) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted).ok_or("extraneous or missing \" in quoted-field")?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err("bare \" in non-quoted field".to_owned());
            }
            (rest[..end].to_owned(), &rest[end..])
        };
        fields.push(field);
        match tail.strip_prefix(',') {
            Some(tail) => rest = tail,
            None => return Ok(fields),
        }
    }
}

/// A field whose opening quote is gone, and what follows its closing quote (nothing, or a comma).
fn quoted_field(mut text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    loop {
        let end = text.find('"')?;
        field.push_str(&text[..end]);
        text = &text[end + 1..];
        match text.chars().next() {
            Some('"') => {
                field.push('"');
                text = &text[1..];
            }
            None | Some(',') => return Some((field, text)),
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_guard_commas() {
        assert_eq!(fields("a,b=c").unwrap(), ["a", "b=c"]);
        assert_eq!(fields("\"a,b\",c").unwrap(), ["a,b", "c"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert_eq!(fields("").unwrap(), [""]);
        for bad in ["\"a", "a\"b", "\"a\"b"] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }
}
