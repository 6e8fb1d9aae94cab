//! Documents -> objects: serde over nodes that know their places. What is wrong is told with line, column and the path of the
//! field; fields that nobody knows are warnings.

use std::cell::RefCell;
use std::fmt;

use fluyt_yaml::fault::{Fault, did_you_mean};
use fluyt_yaml::{Entry, Node, Pos, Value, go_float};
use serde::de::{self, Deserialize, IntoDeserializer, Visitor};

use crate::Outcome;

/// Fields that Kubernetes has and that mean nothing on one machine, by the type that has them.
const WITHOUT_MEANING: &[(&str, &[&str])] = &[
    ("Pod", &["status"]),
    (
        "PodSpec",
        &[
            "nodeSelector",
            "nodeName",
            "affinity",
            "tolerations",
            "schedulerName",
            "schedulingGates",
            "topologySpreadConstraints",
            "serviceAccountName",
            "serviceAccount",
            "automountServiceAccountToken",
            "enableServiceLinks",
            "priority",
            "priorityClassName",
            "preemptionPolicy",
            "readinessGates",
            "overhead",
            "os",
        ],
    ),
    ("Container", &["terminationMessagePath", "terminationMessagePolicy", "resizePolicy"]),
    (
        "Meta",
        &[
            "generateName",
            "resourceVersion",
            "generation",
            "managedFields",
            "ownerReferences",
            "finalizers",
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ],
    ),
    ("Workload", &["status"]),
    (
        "WorkloadSpec",
        &[
            "strategy",
            "updateStrategy",
            "minReadySeconds",
            "revisionHistoryLimit",
            "progressDeadlineSeconds",
            "paused",
        ],
    ),
    ("Job", &["status"]),
    (
        "JobSpec",
        &[
            "backoffLimit",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
            "activeDeadlineSeconds",
            "ttlSecondsAfterFinished",
            "completionMode",
            "suspend",
            "selector",
            "manualSelector",
            "podFailurePolicy",
            "podReplacementPolicy",
            "successPolicy",
        ],
    ),
    ("Claim", &["status"]),
    (
        "ClaimSpec",
        &["volumeName", "selector", "volumeMode", "dataSource", "dataSourceRef", "volumeAttributesClassName"],
    ),
    ("Security", &["windowsOptions"]),
    (
        "PodSecurity",
        &["windowsOptions", "fsGroupChangePolicy", "supplementalGroupsPolicy", "seLinuxChangePolicy"],
    ),
    ("LabelSelector", &["matchExpressions"]),
];

/// Fields that Kubernetes has and whose effect is missing here.
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    (
        "PodSpec",
        &[
            "imagePullSecrets",
            "runtimeClassName",
            "activeDeadlineSeconds",
            "resourceClaims",
            "ephemeralContainers",
            "resources",
        ],
    ),
    ("Container", &["volumeDevices"]),
    ("Probe", &["grpc"]),
    ("Resources", &["claims"]),
    ("EnvSource", &["fileKeyRef"]),
    (
        "Volume",
        &[
            "nfs",
            "iscsi",
            "csi",
            "ephemeral",
            "gitRepo",
            "glusterfs",
            "cephfs",
            "rbd",
            "fc",
            "flexVolume",
            "flocker",
            "cinder",
            "azureDisk",
            "azureFile",
            "gcePersistentDisk",
            "awsElasticBlockStore",
            "vsphereVolume",
            "portworxVolume",
            "scaleIO",
            "storageos",
            "quobyte",
            "photonPersistentDisk",
        ],
    ),
    ("Projection", &["serviceAccountToken", "clusterTrustBundle", "podCertificate"]),
];

/// Reads an object. Warnings are added to `warnings`.
///
/// # Errors
/// A field has another type than its value.
pub fn decode<'de, T: Deserialize<'de>>(node: &'de Node, warnings: &mut Vec<Fault>) -> Outcome<T> {
    let heard = RefCell::new(Vec::new());
    let top = Path { parent: None, part: Part::Top };
    let object = T::deserialize(Place { node, path: &top, heard: &heard });
    warnings.append(&mut heard.into_inner());
    object.map_err(|flaw| Fault {
        pos: flaw.pos.unwrap_or(node.pos),
        message: flaw.message,
        hint: flaw.hint,
        kind: fluyt_model::Kind::Invalid,
    })
}

/// Something wrong, before its place is known and after.
#[derive(Debug)]
struct Flaw {
    pos: Option<Pos>,
    message: String,
    hint: Option<String>,
}

impl Flaw {
    /// The same at a place, unless it has one.
    fn at(mut self, pos: Pos, path: &Path<'_>) -> Self {
        if self.pos.is_none() {
            self.pos = Some(pos);
            let path = path.to_string();
            if !path.is_empty() {
                self.message = format!("{path}: {}", self.message);
            }
        }
        self
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Flaw {}

impl de::Error for Flaw {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { pos: None, message: message.to_string(), hint: None }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {expected}, not {}", said(found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("{} is not {expected}", said(found)))
    }
}

fn said(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Str(text) => format!("{text:?}"),
        de::Unexpected::Signed(number) => number.to_string(),
        de::Unexpected::Unsigned(number) => number.to_string(),
        de::Unexpected::Float(number) => go_float(number),
        de::Unexpected::Map => "a mapping".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Top,
    Key(&'a str),
    Index(usize),
}

#[derive(Clone, Copy)]
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part<'a>,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        match self.part {
            Part::Top => Ok(()),
            Part::Key(key) if parent.parent.is_none() => f.write_str(key),
            Part::Key(key) => write!(f, ".{key}"),
            Part::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A node, its path, and where warnings go.
#[derive(Clone, Copy)]
struct Place<'de, 'p> {
    node: &'de Node,
    path: &'p Path<'p>,
    heard: &'p RefCell<Vec<Fault>>,
}

impl<'de> Place<'de, '_> {
    fn wrong(&self, expected: &str) -> Flaw {
        let found = match self.node.scalar() {
            Some(text) if matches!(self.node.value, Value::Str(_)) => format!("the text {text:?}"),
            Some(text) => format!("{} ({text})", self.node.kind()),
            None => self.node.kind().to_owned(),
        };
        Flaw { pos: None, message: format!("expected {expected}, not {found}"), hint: None }
            .at(self.node.pos, self.path)
    }

    fn hinted(&self, expected: &str, hint: String) -> Flaw {
        Flaw { hint: Some(hint), ..self.wrong(expected) }
    }

    fn text(&self) -> Result<&'de str, Flaw> {
        match &self.node.value {
            Value::Str(text) => Ok(text),
            Value::Null => Ok(""),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                let written = self.node.scalar().unwrap_or_default();
                Err(self.hinted("a text", format!("quote it: \"{written}\"")))
            }
            _ => Err(self.wrong("a text")),
        }
    }

    fn number(&self) -> Result<i64, Flaw> {
        match &self.node.value {
            Value::Int(number) => Ok(*number),
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(*number as i64),
            Value::Str(text) if text.trim().parse::<i64>().is_ok() => {
                Err(self.hinted("a whole number", format!("write it without quotes: {}", text.trim())))
            }
            _ => Err(self.wrong("a whole number")),
        }
    }
}

macro_rules! numbers {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
            visitor.visit_i64(self.number()?).map_err(|e: Flaw| e.at(self.node.pos, self.path))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Place<'de, '_> {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Str(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
        }
        .map_err(|e: Flaw| e.at(self.node.pos, self.path))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match &self.node.value {
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Str(text) if matches!(text.to_lowercase().as_str(), "yes" | "on" | "true") => {
                Err(self.hinted("true or false", "write true, without quotes".to_owned()))
            }
            Value::Str(text) if matches!(text.to_lowercase().as_str(), "no" | "off" | "false") => {
                Err(self.hinted("true or false", "write false, without quotes".to_owned()))
            }
            _ => Err(self.wrong("true or false")),
        }
    }

    numbers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        visitor.visit_borrowed_str(self.text()?).map_err(|e: Flaw| e.at(self.node.pos, self.path))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items { place: self, items: items.iter().enumerate() }),
            Value::Null => visitor.visit_seq(Items { place: self, items: [].iter().enumerate() }),
            Value::Map(_) => Err(self.hinted("a list", "begin each item with `- `".to_owned())),
            _ => Err(self.wrong("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        let entries = self.entries()?.iter();
        visitor.visit_map(Entries { place: self, entries, known: None, entry: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        let entries = self.entries()?.iter();
        visitor.visit_map(Entries { place: self, entries, known: Some((name, fields)), entry: None })
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> Place<'de, '_> {
    fn entries(&self) -> Result<&'de [Entry], Flaw> {
        match &self.node.value {
            Value::Map(map) => Ok(map.as_slice()),
            Value::Null => Ok(&[]),
            _ => Err(self.wrong("a mapping")),
        }
    }
}

struct Items<'de, 'p> {
    place: Place<'de, 'p>,
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de, '_> {
    type Error = Flaw;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Flaw> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let path = Path { parent: Some(self.place.path), part: Part::Index(index) };
        let place = Place { node, path: &path, heard: self.place.heard };
        seed.deserialize(place).map(Some).map_err(|e| e.at(node.pos, &path))
    }
}

struct Entries<'de, 'p> {
    place: Place<'de, 'p>,
    entries: std::slice::Iter<'de, Entry>,
    /// The structure and its fields; none for a dictionary.
    known: Option<(&'static str, &'static [&'static str])>,
    entry: Option<&'de Entry>,
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_> {
    type Error = Flaw;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Flaw> {
        for entry in self.entries.by_ref() {
            if let Some((name, fields)) = self.known {
                if !fields.contains(&entry.key.as_str()) {
                    self.place.strange(name, fields, entry);
                    continue;
                }
                // A field of nothing is as if it were not there.
                if entry.node.is_null() {
                    continue;
                }
            }
            self.entry = Some(entry);
            let key: de::value::StrDeserializer<'_, Flaw> = entry.key.as_str().into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Flaw> {
        let Some(entry) = self.entry.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        let path = Path { parent: Some(self.place.path), part: Part::Key(&entry.key) };
        let place = Place { node: &entry.node, path: &path, heard: self.place.heard };
        seed.deserialize(place).map_err(|e| e.at(entry.node.pos, &path))
    }
}

impl Place<'_, '_> {
    /// Tells of a field that the structure does not have.
    fn strange(&self, name: &str, fields: &[&'static str], entry: &Entry) {
        let listed = |table: &[(&str, &[&str])]| {
            table.iter().any(|(of, keys)| *of == name && keys.contains(&entry.key.as_str()))
        };
        if listed(WITHOUT_MEANING) {
            return;
        }
        let path = Path { parent: Some(self.path), part: Part::Key(&entry.key) };
        let fault = if listed(WITHOUT_EFFECT) {
            Fault::new(entry.pos, format!("{path} has no effect here"))
        } else {
            let fault = Fault::new(entry.pos, format!("{path}: unknown field"));
            match meant(&entry.key, fields) {
                Some(word) => fault.hint(format!("did you mean {word}?")),
                None => fault,
            }
        };
        self.heard.borrow_mut().push(fault);
    }
}

/// The field that was probably meant, whatever its capitals.
fn meant<'a>(key: &str, fields: &[&'a str]) -> Option<&'a str> {
    let squeezed = |word: &str| word.replace(['_', '-'], "").to_lowercase();
    let same = fields.iter().find(|field| squeezed(field) == squeezed(key));
    same.copied().or_else(|| did_you_mean(key, fields.iter().copied()))
}
