//! Evaluates operands and commands: fields, variables, chains, calls, and the fitting of arguments to parameters.

use crate::ast::{Command, Located, Operand, OperandKind};
use crate::exec::{Dyn, State, Walk};
use crate::function::{Function, Param, Signature};
use crate::number::Number;
use crate::quote::quote;
use crate::{MissingKey, Value, builtin};

/// What is called.
enum Callee<'f> {
    Builtin(&'f str),
    Given(Function),
}

impl<'a> State<'a, '_> {
    /// A command; `last` is the value piped into it.
    pub fn command(&mut self, dot: &Dyn, cmd: &'a Command, last: Option<Dyn>) -> Walk<Dyn> {
        let first = &cmd.args[0];
        let rest = &cmd.args[1..];
        use OperandKind as K;
        match &first.kind {
            K::Field(names) => {
                self.at = Some(first);
                self.fields(dot, dot.clone(), first, names, rest, last)
            }
            K::Chain(head, names) => self.chain(dot, first, head, names, rest, last),
            K::Ident(name) => self.function(dot, first, cmd, name, rest, last),
            K::Pipe(pipe) => {
                self.no_arguments(first, rest, &last)?;
                self.pipe(dot, pipe)
            }
            K::Variable(names) => self.variable(dot, first, names, rest, last),
            _ => {
                self.at = Some(first);
                self.no_arguments(first, rest, &last)?;
                self.constant(dot, first)
            }
        }
    }

    fn constant(&mut self, dot: &Dyn, operand: &'a Operand) -> Walk<Dyn> {
        match &operand.kind {
            OperandKind::Bool(b) => Ok(Dyn::Val(Value::Bool(*b))),
            OperandKind::Dot => Ok(dot.clone()),
            OperandKind::Number(n) => self.number(n),
            OperandKind::Str { text, .. } => Ok(Dyn::Val(Value::str(text.as_str()))),
            OperandKind::Nil => self.error("nil is not a command"),
            _ => self.error(format!("can't evaluate command {}", quote(&operand.to_string()))),
        }
    }

    fn number(&self, n: &Number) -> Walk<Dyn> {
        match (n.is_float_constant(), n.float, n.int) {
            (true, Some(f), _) => Ok(Dyn::Val(Value::Float(f))),
            (_, _, Some(i)) => Ok(Dyn::Val(Value::Int(i))),
            _ => self.error(format!("{} overflows int", n.text)),
        }
    }

    fn no_arguments(&self, what: &Operand, rest: &[Operand], last: &Option<Dyn>) -> Walk {
        if rest.is_empty() && last.is_none() {
            return Ok(());
        }
        self.error(format!("can't give argument to non-function {what}"))
    }

    fn variable(
        &mut self,
        dot: &Dyn,
        node: &'a Operand,
        names: &'a [String],
        rest: &'a [Operand],
        last: Option<Dyn>,
    ) -> Walk<Dyn> {
        self.at = Some(node);
        let Some(value) = self.vars.iter().rev().find(|(n, _)| *n == names[0]).map(|(_, v)| v.clone()) else {
            return self.error(format!("undefined variable: {}", names[0]));
        };
        if names.len() == 1 {
            self.no_arguments(node, rest, &last)?;
            return Ok(value);
        }
        self.fields(dot, value, node, &names[1..], rest, last)
    }

    fn chain(
        &mut self,
        dot: &Dyn,
        node: &'a Operand,
        head: &'a Operand,
        names: &'a [String],
        rest: &'a [Operand],
        last: Option<Dyn>,
    ) -> Walk<Dyn> {
        self.at = Some(node);
        if matches!(head.kind, OperandKind::Nil) {
            return self.error(format!("indirection through explicit nil in {node}"));
        }
        let value = self.argument(dot, head, None)?;
        self.fields(dot, value, node, names, rest, last)
    }

    /// Goes along a chain of fields; only the last one may take arguments.
    fn fields(
        &mut self,
        dot: &Dyn,
        mut receiver: Dyn,
        node: &'a Operand,
        names: &'a [String],
        rest: &'a [Operand],
        last: Option<Dyn>,
    ) -> Walk<Dyn> {
        let Some((final_name, path)) = names.split_last() else { return Ok(receiver) };
        for name in path {
            receiver = self.field(dot, name, node, &[], None, receiver)?;
        }
        self.field(dot, final_name, node, rest, last, receiver)
    }

    fn field(
        &mut self,
        dot: &Dyn,
        name: &'a str,
        node: &'a Operand,
        rest: &'a [Operand],
        last: Option<Dyn>,
        receiver: Dyn,
    ) -> Walk<Dyn> {
        let missing_is_error = self.template.missing_key == MissingKey::Error;
        let type_name = receiver.type_name();
        let has_args = !rest.is_empty() || last.is_some();
        let value = match &receiver {
            Dyn::Invalid if missing_is_error => {
                return self.error(format!("nil data; no entry for key {}", quote(name)));
            }
            Dyn::Invalid => return Ok(Dyn::Invalid),
            Dyn::Val(v) | Dyn::Iface(v) => v,
        };
        if let Some(method) = value.method(name) {
            let callee = Callee::Given(method.clone());
            return self.call(dot, callee, node, name, rest, last);
        }
        match value {
            Value::Nil | Value::NilPointer(_) => {
                self.error(format!("nil pointer evaluating {type_name}.{name}"))
            }
            Value::Struct(s) => match s.field(name) {
                Some(_) if has_args => {
                    self.error(format!("{name} has arguments but cannot be invoked as function"))
                }
                Some(field) => {
                    let nil = matches!(field, Value::Nil);
                    Ok(if nil { Dyn::Iface(Value::Nil) } else { Dyn::Val(field.clone()) })
                }
                None => self.error(format!("can't evaluate field {name} in type {type_name}")),
            },
            Value::Map(_) if has_args => self.error(format!("{name} is not a method but has arguments")),
            Value::Map(m) => match (m.entries.get(name), self.template.missing_key) {
                (Some(v), _) => Ok(Dyn::element(v.clone(), m.elem)),
                (None, MissingKey::Invalid) => Ok(Dyn::Invalid),
                (None, MissingKey::Zero) => Ok(Dyn::element(builtin::zero(m.elem), m.elem)),
                (None, MissingKey::Error) => self.error(format!("map has no entry for key {}", quote(name))),
            },
            _ => self.error(format!("can't evaluate field {name} in type {type_name}")),
        }
    }

    fn function(
        &mut self,
        dot: &Dyn,
        ident: &'a Operand,
        node: &'a dyn Located,
        name: &'a str,
        rest: &'a [Operand],
        last: Option<Dyn>,
    ) -> Walk<Dyn> {
        self.at = Some(ident);
        let callee = match self.template.functions.get(name) {
            Some(f) => Callee::Given(f.clone()),
            None => Callee::Builtin(name),
        };
        self.call(dot, callee, node, name, rest, last)
    }

    fn call(
        &mut self,
        dot: &Dyn,
        callee: Callee<'_>,
        node: &'a dyn Located,
        name: &str,
        rest: &'a [Operand],
        last: Option<Dyn>,
    ) -> Walk<Dyn> {
        let signature = match &callee {
            Callee::Given(f) => (*f.signature).clone(),
            Callee::Builtin(name) => match builtin::signature(name) {
                Some(signature) => signature,
                None => return self.error(format!("{} is not a defined function", quote(name))),
            },
        };
        self.check_count(&signature, name, rest.len(), usize::from(last.is_some()))?;
        if let Callee::Builtin(name @ ("and" | "or")) = callee {
            return self.short_circuit(dot, name == "or", rest, last);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for (i, operand) in rest.iter().enumerate() {
            args.push(self.argument(dot, operand, signature.param(i))?);
        }
        if let Some(last) = last {
            args.push(self.fit(last, signature.param(rest.len()))?);
        }
        let result = match &callee {
            Callee::Builtin("call") => {
                let callee_name = rest.first().map_or_else(|| args[0].show(), ToString::to_string);
                self.call_value(&callee_name, &args)
            }
            Callee::Builtin(name) => builtin::run(name, &args),
            Callee::Given(f) => {
                let values: Vec<Value> = args.iter().map(Dyn::value).collect();
                (f.run)(self.template, &values).map(Dyn::Iface)
            }
        };
        result.or_else(|message| {
            self.at = Some(node);
            self.error(format!("error calling {name}: {message}"))
        })
    }

    fn check_count(&self, signature: &Signature, name: &str, direct: usize, piped: usize) -> Walk {
        let (want, got) = (signature.fixed.len(), direct + piped);
        if signature.variadic.is_some() {
            if got < want {
                return self
                    .error(format!("wrong number of args for {name}: want at least {want} got {direct}"));
            }
        } else if got != want {
            return self.error(format!("wrong number of args for {name}: want {want} got {got}"));
        }
        Ok(())
    }

    /// `and` and `or` evaluate no more arguments than they need.
    fn short_circuit(&mut self, dot: &Dyn, or: bool, rest: &'a [Operand], last: Option<Dyn>) -> Walk<Dyn> {
        let mut value = Dyn::Invalid;
        for operand in rest {
            value = self.argument(dot, operand, Some(Param::Value))?;
            if value.value().truth() == or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// The built-in `call`: a function that is a value.
    fn call_value(&self, name: &str, args: &[Dyn]) -> Result<Dyn, String> {
        let function = match args[0].value() {
            Value::Func(f) => f,
            Value::Nil => return Err("call of nil".into()),
            other => return Err(format!("non-function {name} of type {}", other.type_name())),
        };
        let (got, want) = (args.len() - 1, function.signature.fixed.len());
        if function.signature.variadic.is_some() {
            if got < want {
                return Err(format!("wrong number of args for {name}: got {got} want at least {want}"));
            }
        } else if got != want {
            return Err(format!("wrong number of args for {name}: got {got} want {want}"));
        }
        let mut values = Vec::with_capacity(got);
        for (i, arg) in args[1..].iter().enumerate() {
            let value = arg.value();
            let param = function.signature.param(i).unwrap_or(Param::Any);
            if !fits(&value, param) {
                return Err(match value {
                    Value::Nil => format!("arg {i}: value is nil; should be of type {}", param.type_name()),
                    v => {
                        format!("arg {i}: value has type {}; should be {}", v.type_name(), param.type_name())
                    }
                });
            }
            values.push(value);
        }
        (function.run)(self.template, &values).map(Dyn::Iface)
    }

    /// An operand as an argument for a parameter (`None`: any type, as for the head of a chain).
    fn argument(&mut self, dot: &Dyn, operand: &'a Operand, param: Option<Param>) -> Walk<Dyn> {
        use OperandKind as K;
        self.at = Some(operand);
        let value = match &operand.kind {
            K::Dot => dot.clone(),
            K::Nil => return self.nil_argument(param),
            K::Field(names) => self.fields(dot, dot.clone(), operand, names, &[], None)?,
            K::Variable(names) => self.variable(dot, operand, names, &[], None)?,
            K::Pipe(pipe) => self.pipe(dot, pipe)?,
            K::Ident(name) => self.function(dot, operand, operand, name, &[], None)?,
            K::Chain(head, names) => self.chain(dot, operand, head, names, &[], None)?,
            K::Bool(_) | K::Number(_) | K::Str { .. } => return self.literal(dot, operand, param),
        };
        self.fit(value, param)
    }

    fn nil_argument(&self, param: Option<Param>) -> Walk<Dyn> {
        match param {
            Some(Param::Any) => Ok(Dyn::Iface(Value::Nil)),
            Some(p) if !p.can_be_nil() => self.error(format!("cannot assign nil to {}", p.type_name())),
            _ => Ok(Dyn::Invalid),
        }
    }

    fn literal(&mut self, dot: &Dyn, operand: &'a Operand, param: Option<Param>) -> Walk<Dyn> {
        use OperandKind as K;
        let value = match (param, &operand.kind) {
            (None | Some(Param::Any | Param::Value), _) => return self.constant(dot, operand),
            (Some(Param::Bool), K::Bool(b)) => Value::Bool(*b),
            (Some(Param::Str), K::Str { text, .. }) => Value::str(text.as_str()),
            (Some(Param::Int), K::Number(Number { int: Some(n), .. })) => Value::Int(*n),
            (Some(Param::Float), K::Number(Number { float: Some(f), .. })) => Value::Float(*f),
            (Some(Param::Strings), _) => {
                return self.error(format!("can't handle {operand} for arg of type []string"));
            }
            (Some(p), _) => {
                let wanted = match p {
                    Param::Int => "integer",
                    Param::Float => "float",
                    p => p.type_name(),
                };
                return self.error(format!("expected {wanted}; found {operand}"));
            }
        };
        Ok(Dyn::Val(value))
    }

    /// Checks a value against a parameter.
    fn fit(&self, value: Dyn, param: Option<Param>) -> Walk<Dyn> {
        let Some(param) = param else { return Ok(value) };
        match &value {
            Dyn::Invalid if !param.can_be_nil() => {
                self.error(format!("invalid value; expected {}", param.type_name()))
            }
            Dyn::Val(v) | Dyn::Iface(v) if !fits(v, param) => {
                let got =
                    if matches!(v, Value::Nil) { value.type_name() } else { v.type_name().into_owned() };
                self.error(format!("wrong type for value; expected {}; got {got}", param.type_name()))
            }
            _ => Ok(value),
        }
    }
}

fn fits(value: &Value, param: Param) -> bool {
    match param {
        Param::Any | Param::Value => true,
        Param::Str => matches!(value, Value::Str(_)),
        Param::Int => matches!(value, Value::Int(_)),
        Param::Float => matches!(value, Value::Float(_)),
        Param::Bool => matches!(value, Value::Bool(_)),
        Param::Strings => matches!(value, Value::List(l) if l.elem == crate::Elem::Str),
    }
}
