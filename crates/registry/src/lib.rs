//! The OCI distribution protocol.
#![forbid(unsafe_code)]
