//! Building requests and reading replies: lengths, padding and nesting of netlink messages and attributes.

use super::consts::{NLM_F_ACK, NLM_F_REQUEST};

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Mark of an attribute that holds attributes.
const NESTED: u16 = 1 << 15;

/// Requests that travel in one `sendmsg`, in order.
#[derive(Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) labels: Vec<&'static str>,
    last: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), labels: Vec::new(), last: 0 }
    }

    /// Appends a request of `kind` with the fixed `header` of its family; `fill` adds its attributes.
    ///
    /// `label` says what the request does, for the error if it fails ("add address").
    pub fn push(
        &mut self,
        label: &'static str,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Body<'_>),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        fill(&mut Body { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        let index = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        let head = &mut self.bytes[start..start + HEADER];
        head[0..4].copy_from_slice(&length.to_ne_bytes());
        head[4..6].copy_from_slice(&kind.to_ne_bytes());
        head[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        head[8..12].copy_from_slice(&index.to_ne_bytes());
        self.labels.push(label);
        self.last = start;
    }

    /// Number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Asks for an acknowledgement of the last request so far.
    pub fn acknowledge_last(&mut self) {
        if !self.labels.is_empty() {
            let flags = &mut self.bytes[self.last + 6..self.last + 8];
            let value = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
            flags.copy_from_slice(&value.to_ne_bytes());
        }
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes of a request, or of a nested attribute, under construction.
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Body<'_> {
    /// An attribute with a value as it is.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }

    /// A string, ended by a zero byte.
    pub fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut text = Vec::with_capacity(value.len() + 1);
        text.extend_from_slice(value.as_bytes());
        text.push(0);
        self.bytes(kind, &text)
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// A 32-bit number in host byte order (rtnetlink).
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A 32-bit number in network byte order (nfnetlink).
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A raw structure in front of nested attributes, as veth's peer has it.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        fill(&mut Body { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Message type.
    pub kind: u16,
    /// Message flags.
    pub flags: u16,
    /// Index of the request in its batch.
    pub sequence: u32,
    /// Everything after the header.
    pub payload: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Splits the first message off `bytes`; `None` at the end or where the framing breaks.
    #[must_use]
    pub fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head = bytes.get(..HEADER)?;
        let length = u32_at(head, 0)? as usize;
        let payload = bytes.get(HEADER..length)?;
        let reply =
            Self { kind: u16_at(head, 4)?, flags: u16_at(head, 6)?, sequence: u32_at(head, 8)?, payload };
        Some((reply, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
    }

    /// The attributes behind a fixed header of `skip` bytes.
    #[must_use]
    pub fn attrs(&self, skip: usize) -> Attrs<'a> {
        Attrs { rest: self.payload.get(skip..).unwrap_or_default() }
    }

    /// A 32-bit number of the fixed header, host byte order.
    #[must_use]
    pub fn u32_at(&self, offset: usize) -> u32 {
        u32_at(self.payload, offset).unwrap_or(0)
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// Attributes in order; it ends where the framing breaks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// The first attribute of `kind`.
    #[must_use]
    pub fn find(self, kind: u16) -> Option<Attr<'a>> {
        let mut attrs = self;
        Iterator::find(&mut attrs, |a| a.kind == kind)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let length = u16_at(self.rest, 0)? as usize;
        let kind = u16_at(self.rest, 2)? & 0x3fff;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attr { kind, value })
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attr<'a> {
    /// Type, without the flags for nesting and byte order.
    pub kind: u16,
    /// Value as it came.
    pub value: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The attributes inside.
    #[must_use]
    pub fn nested(self) -> Attrs<'a> {
        Attrs { rest: self.value }
    }

    /// A 32-bit number in host byte order; 0 if it is too short.
    #[must_use]
    pub fn u32(self) -> u32 {
        u32_at(self.value, 0).unwrap_or(0)
    }

    /// A 32-bit number in network byte order; 0 if it is too short.
    #[must_use]
    pub fn be32(self) -> u32 {
        u32::from_be(self.u32())
    }

    /// A string up to its zero byte; empty if it is not UTF-8.
    #[must_use]
    pub fn str(self) -> &'a str {
        let end = self.value.iter().position(|b| *b == 0).unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut batch = Batch::new();
        batch.push("first", 16, 0, &[1; 3], |m| {
            m.str(3, "eth0").nest(18, |m| {
                m.str(1, "veth").u32(2, 7);
            });
        });
        batch.push("second", 20, 0, &[], |_| {});
        batch.acknowledge_last();
        let (first, rest) = Reply::split(&batch.bytes).unwrap();
        assert_eq!((first.kind, first.sequence, first.flags), (16, 0, 1));
        assert_eq!(first.attrs(4).find(3).unwrap().str(), "eth0");
        let info = first.attrs(4).find(18).unwrap().nested();
        assert_eq!((info.find(1).unwrap().str(), info.find(2).unwrap().u32()), ("veth", 7));
        let (second, rest) = Reply::split(rest).unwrap();
        assert_eq!((second.sequence, second.flags), (1, 5));
        assert!(rest.is_empty());
    }

    #[test]
    fn broken_framing_ends_the_reading() {
        for bytes in [&[][..], &[1, 2, 3], &[255, 255, 1, 0, 9], &[3, 0, 1, 0, 9, 9, 9, 9]] {
            assert_eq!(Attrs { rest: bytes }.count(), 0);
            assert!(Reply::split(bytes).is_none());
        }
    }
}
