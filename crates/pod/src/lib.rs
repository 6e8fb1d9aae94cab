//! Kubernetes pods on one machine.
//!
//! [`stream`] reads the objects of YAML files with the places where they were written, [`lower`] makes of a pod what the
//! sandbox contract asks for, [`generate`] makes pods of what runs. All of it is pure: what images, ConfigMaps and Secrets
//! say comes in as arguments, nothing is executed, and no other façade's documents are known. A command line and the
//! agent of a cluster's node use the same code.

#![forbid(unsafe_code)]

pub mod annotations;
pub mod decode;
pub mod generate;
pub mod lower;
pub mod objects;
pub mod stream;

/// The result of a step about a place in a file.
pub type Outcome<T> = fluyt_yaml::fault::Outcome<T>;
