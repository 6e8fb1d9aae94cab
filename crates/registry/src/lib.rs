//! The distribution protocol: the client (pull, push, login, tags, against any registry on http or https), and a
//! registry of our own ([`server`]).
//!
//! Blocking, with threads for parallel blobs only. It stands on [`fluyt_image`]'s blobs and knows neither the image
//! store's records nor unpacking: [`Registry::pull`] hands the arriving layers to its caller. It draws nothing:
//! progress goes through [`fluyt_image::Progress`].
//!
//! # Map
//! - [`Settings`]: what to trust, mirrors, limits. [`Registry`]: the way in.
//! - `http` makes one exchange, `remote` adds authentication and repetition, `auth` talks to token services.
//! - `manifest`, `download`, `ranges`, `board`, `pull`, `artifact` fetch; `upload`, `push` send, `compress` prepares
//!   for that.
//! - `places` says where a name is fetched from, by `registries_conf` and `hosts_toml`; `content` reads, puts and copies
//!   documents and blobs by themselves.
//! - `signed` finds and attaches signatures, and asks the policy; what they mean is the trust crate's part.
//! - `config_file`, `helper`, `login` keep credentials.
//!
//! # Names in a static binary
//! Host names are resolved by the C library. Statically linked glibc (2.34 and later) has the `files` and `dns`
//! services built in, so /etc/hosts and DNS work. Other services that /etc/nsswitch.conf may name (`resolve`,
//! `mdns`, `myhostname`) would have to be loaded at run time; where that fails they are passed over.
#![forbid(unsafe_code)]

mod artifact;
mod auth;
mod board;
mod challenge;
mod compress;
mod config_file;
mod content;
mod download;
mod fetch;
mod helper;
mod hosts_toml;
mod http;
mod login;
mod manifest;
mod places;
mod platform;
mod pull;
mod push;
mod ranges;
mod refusal;
mod registries_conf;
mod registry;
mod remote;
mod search;
pub mod server;
mod settings;
mod signed;
mod tls;
mod upload;

pub use board::Layer;
pub use config_file::Credentials;
pub use content::{Put, RawDocument, packed_manifest};
pub use fetch::{FileAnswer, FileAsk, fetch_file};
pub use hosts_toml::Rules;
pub use login::LoggedIn;
pub use pull::{Arriving, PullOptions, Pulled};
pub use push::{PushOptions, Pushed};
pub use registries_conf::RegistriesConf;
pub use registry::Registry;
pub use search::FoundRepository;
pub use settings::{CredentialFiles, Settings};
pub use signed::SignatureMode;
