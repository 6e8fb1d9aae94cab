//! A registry of our own against the words of the distribution specification, by plain HTTP.

mod collection;
mod listings;
mod manifests;
mod notify;
mod observe;
mod proxy;
mod pull;
mod rights;
mod support;
mod uploads;
