//! Functions that a caller gives to templates, and the declaration of their parameters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::{Template, Value};

/// The declared type of a parameter. The evaluator checks it and words the errors as Go does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// `interface {}`: anything.
    Any,
    /// `reflect.Value`: anything, and literals keep their own type.
    Value,
    /// `string`
    Str,
    /// `int`
    Int,
    /// `float64`
    Float,
    /// `bool`
    Bool,
    /// `[]string`
    Strings,
}

impl Param {
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Value => "reflect.Value",
            Self::Str => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Bool => "bool",
            Self::Strings => "[]string",
        }
    }

    pub(crate) fn can_be_nil(self) -> bool {
        matches!(self, Self::Any | Self::Value | Self::Strings)
    }
}

/// The parameters of a function: some fixed ones, then perhaps any number of one more type.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    /// The fixed parameters.
    pub fixed: Vec<Param>,
    /// The type of all further arguments, if any are allowed.
    pub variadic: Option<Param>,
}

impl Signature {
    /// Exactly these parameters.
    #[must_use]
    pub fn fixed(params: &[Param]) -> Self {
        Self { fixed: params.to_vec(), variadic: None }
    }

    /// These parameters, then any number of `rest`.
    #[must_use]
    pub fn variadic(params: &[Param], rest: Param) -> Self {
        Self { fixed: params.to_vec(), variadic: Some(rest) }
    }

    /// The type of argument `i`; `None` if there is no such parameter.
    pub(crate) fn param(&self, i: usize) -> Option<Param> {
        self.fixed.get(i).copied().or(self.variadic)
    }
}

type Run = dyn Fn(&Template, &[Value]) -> Result<Value, String> + Send + Sync;

/// A function or a method. Its error is a sentence; the evaluator puts place and name before it.
#[derive(Clone)]
pub struct Function {
    pub(crate) signature: Arc<Signature>,
    pub(crate) run: Arc<Run>,
}

impl Function {
    /// A function of its arguments. They have been checked against `signature`.
    pub fn new(
        signature: Signature,
        run: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        Self::with_template(signature, move |_, args| run(args))
    }

    /// A function that may also use the template that calls it (e.g. to execute another by name).
    pub fn with_template(
        signature: Signature,
        run: impl Fn(&Template, &[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        Self { signature: Arc::new(signature), run: Arc::new(run) }
    }

    /// A method without arguments that gives a value computed when it is asked for.
    pub fn getter(run: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self::new(Signature::default(), move |_| Ok(run()))
    }

    pub(crate) fn type_name(&self) -> String {
        let mut params: Vec<String> = self.signature.fixed.iter().map(|p| p.type_name().into()).collect();
        params.extend(self.signature.variadic.map(|p| format!("...{}", p.type_name())));
        format!("func({}) interface {{}}", params.join(", "))
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.type_name())
    }
}

/// Functions by name.
pub type Functions = BTreeMap<String, Function>;
