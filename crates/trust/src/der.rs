//! As much of DER (X.690) as keys and certificates need: elements one after another, no schema.

/// `SEQUENCE`.
pub(crate) const SEQUENCE: u8 = 0x30;
/// `BIT STRING`.
pub(crate) const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub(crate) const OID: u8 = 0x06;
/// `BOOLEAN`.
pub(crate) const BOOLEAN: u8 = 0x01;
/// `UTF8String`.
pub(crate) const UTF8_STRING: u8 = 0x0c;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// Its identifier octet.
    pub tag: u8,
    /// What is in it.
    pub content: &'a [u8],
    /// It with its tag and length.
    pub whole: &'a [u8],
}

/// Elements that follow one another. Ends at the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element if it has this tag; else nothing is taken.
    pub fn read(&mut self, tag: u8) -> Option<Element<'a>> {
        if self.0.first() == Some(&tag) { self.next() } else { None }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of more than one octet are in none of our documents.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let octets = usize::from(first & 0x7f);
            if !(1..=4).contains(&octets) || rest.len() < octets {
                return None;
            }
            let (number, rest) = rest.split_at(octets);
            (number.iter().fold(0_usize, |sum, b| sum << 8 | usize::from(*b)), rest)
        };
        if rest.len() < length {
            return None;
        }
        let (content, after) = rest.split_at(length);
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element { tag, content, whole })
    }
}

/// An element with this content.
pub(crate) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    if content.len() < 0x80 {
        out.push(length[length.len() - 1]);
    } else {
        let used: Vec<u8> = length.iter().copied().skip_while(|b| *b == 0).collect();
        out.push(0x80 | u8::try_from(used.len()).unwrap_or(8));
        out.extend(used);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_and_what_is_cut_is_not() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let whole = encode(OCTET_STRING, &content);
            let element = Reader(&whole).next().unwrap();
            assert_eq!(
                (element.tag, element.content, element.whole),
                (OCTET_STRING, &content[..], &whole[..])
            );
            assert_eq!(Reader(&whole[..whole.len() - 1]).next(), None);
        }
        assert_eq!(Reader(&[0x30, 0x85, 1, 1, 1, 1, 1]).next(), None);
        assert_eq!(Reader(&[]).next(), None);
    }
}
