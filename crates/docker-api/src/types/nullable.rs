//! Collections as Go has them: an empty one and an absent one differ on the wire (`[]`, `null`), not in use.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list that may be `null`.
pub type List<T> = Nullable<Vec<T>>;
/// A sorted map with string keys that may be `null`.
pub type Map<V> = Nullable<BTreeMap<String, V>>;

/// A collection that remembers whether it was `null`; it behaves as an empty one.
///
/// It is written as `null` only while it is empty and was never given a value.
#[derive(Clone, Debug)]
pub struct Nullable<C> {
    inner: C,
    set: bool,
}

/// What [`Nullable`] needs to know of a collection.
pub trait Collection: Default {
    /// Whether nothing is in it.
    fn vacant(&self) -> bool;
}

impl<T> Collection for Vec<T> {
    fn vacant(&self) -> bool {
        self.is_empty()
    }
}

impl<V> Collection for BTreeMap<String, V> {
    fn vacant(&self) -> bool {
        self.is_empty()
    }
}

impl<C: Collection> Nullable<C> {
    /// `null`.
    #[must_use]
    pub fn null() -> Self {
        Self { inner: C::default(), set: false }
    }

    /// Empty, and not `null`.
    #[must_use]
    pub fn empty() -> Self {
        Self { inner: C::default(), set: true }
    }

    /// `null` if the collection is empty, else the collection: how Go's `append` to nil slices turns out.
    #[must_use]
    pub fn null_if_empty(inner: C) -> Self {
        let set = !inner.vacant();
        Self { inner, set }
    }

    /// Whether it is written as `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        !self.set && self.inner.vacant()
    }

    /// Whether it holds nothing (for `skip_serializing_if`: Go's `omitempty`).
    #[must_use]
    pub fn is_vacant(&self) -> bool {
        self.inner.vacant()
    }

    /// The collection itself.
    #[must_use]
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<C: Collection> Default for Nullable<C> {
    fn default() -> Self {
        Self::null()
    }
}

/// Two are equal if they hold the same; `null` equals empty.
impl<C: PartialEq> PartialEq for Nullable<C> {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl<C: Eq> Eq for Nullable<C> {}

impl<C> From<C> for Nullable<C> {
    fn from(inner: C) -> Self {
        Self { inner, set: true }
    }
}

impl<C: Collection + FromIterator<I>, I> FromIterator<I> for Nullable<C> {
    fn from_iter<T: IntoIterator<Item = I>>(iter: T) -> Self {
        Self { inner: C::from_iter(iter), set: true }
    }
}

impl<C> Deref for Nullable<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.inner
    }
}

impl<C> DerefMut for Nullable<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.inner
    }
}

impl<'a, C> IntoIterator for &'a Nullable<C>
where
    &'a C: IntoIterator,
{
    type Item = <&'a C as IntoIterator>::Item;
    type IntoIter = <&'a C as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&self.inner).into_iter()
    }
}

impl<C: Collection + Serialize> Serialize for Nullable<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_null() { serializer.serialize_none() } else { self.inner.serialize(serializer) }
    }
}

impl<'de, C: Collection + Deserialize<'de>> Deserialize<'de> for Nullable<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<C>::deserialize(deserializer)?.map_or_else(Self::null, Self::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_differ_only_on_the_wire() {
        let null: List<String> = List::null();
        let empty: List<String> = List::empty();
        assert_eq!(null, empty);
        assert_eq!(serde_json::to_string(&null).unwrap(), "null");
        assert_eq!(serde_json::to_string(&empty).unwrap(), "[]");
        let mut grown = null;
        grown.push("a".to_owned());
        assert_eq!(serde_json::to_string(&grown).unwrap(), "[\"a\"]");
        assert!(serde_json::from_str::<Map<u8>>("null").unwrap().is_null());
        assert!(!serde_json::from_str::<Map<u8>>("{}").unwrap().is_null());
    }
}
