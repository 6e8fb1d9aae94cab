//! JSON with other blanks: the members stay in the order they have, which a parse and a print would not keep.

/// `json`, which is valid, with one level of indentation by `unit`, as Go's `json.Indent` lays it out.
pub fn indent(json: &str, unit: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let (mut in_text, mut escaped) = (false, false);
    // Whether the innermost list or object has nothing in it yet.
    let mut empty = false;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(unit, depth));
    };
    for c in json.chars() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if matches!(c, '}' | ']') {
            depth = depth.saturating_sub(1);
            if !empty {
                line(&mut out, depth);
            }
            empty = false;
            out.push(c);
            continue;
        }
        if empty {
            line(&mut out, depth);
            empty = false;
        }
        out.push(c);
        match c {
            '{' | '[' => {
                depth += 1;
                empty = true;
            }
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            '"' => in_text = true,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_change_and_nothing_else() {
        let text = r#"{"z": [1,{"a":"x, \"{y}\\"}], "b":{ },"c":[],
            "d":null}"#;
        let expected = "{\n\t\"z\": [\n\t\t1,\n\t\t{\n\t\t\t\"a\": \"x, \\\"{y}\\\\\"\n\t\t}\n\t],\n\t\"b\": {},\n\t\"c\": [],\n\t\"d\": null\n}";
        assert_eq!(indent(text, "\t"), expected);
        assert_eq!(indent(expected, "\t"), expected);
    }
}
