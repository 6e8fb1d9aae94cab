//! What is wrong with a pod, by the path of the field.

use fluyt_model::{Error, Kind};

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as `spec.containers[0].image`; empty: nowhere in particular.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What kind of error it is.
    pub kind: Kind,
}

impl Problem {
    /// Something invalid.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None, kind: Kind::Invalid }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Something that cannot be had here.
    #[must_use]
    pub fn unsupported(mut self) -> Self {
        self.kind = Kind::Unsupported;
        self
    }

    /// Something that is not there.
    #[must_use]
    pub fn missing(mut self) -> Self {
        self.kind = Kind::NotFound;
        self
    }

    /// The same in the thing at `path`.
    #[must_use]
    pub fn below(mut self, path: &str) -> Self {
        let within = self.path.starts_with("spec.") || self.path.starts_with("metadata.");
        if self.path.is_empty() {
            path.clone_into(&mut self.path);
        } else if !within {
            self.path = format!("{path}.{}", self.path);
        }
        self
    }
}

/// For those who have no file: the path is part of the message.
impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let message = match problem.path.as_str() {
            "" => problem.message,
            path => format!("{path}: {}", problem.message),
        };
        let error = Self::new(problem.kind, message);
        match problem.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}
