//! Go's text/template over JSON values.
#![forbid(unsafe_code)]
