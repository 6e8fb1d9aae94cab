//! `$(NAME)` in commands, arguments and values of variables.

/// `text` with each `$(NAME)` replaced by its value. `$$` is one `$`; what has no value stays as it is.
pub(super) fn expand<'v>(text: &str, value: &dyn Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_can_be_kept() {
        let value = |name: &str| match name {
            "A" => Some("one"),
            "B" => Some("$(A)"),
            _ => None,
        };
        for (text, expanded) in [
            ("$(A)", "one"),
            ("x$(A)y", "xoney"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &value), expanded, "{text}");
        }
    }
}
