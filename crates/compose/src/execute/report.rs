//! What is told while a plan is carried out: which thing is where, in docker compose's words.

use crate::lower::{container_name, resource_name};
use crate::plan::Action;
use crate::project::Project;

/// How far a thing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Something is being done to it.
    Working,
    /// That has been done.
    Done,
    /// It has been left out, or there is something that the user should know.
    Warning,
    /// It failed.
    Failed,
}

/// Something that has happened to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The thing: `Container shop-web-1`, `Image redis:7`, a layer.
    pub thing: &'a str,
    /// The thing that it is a part of; empty: none.
    pub parent: &'a str,
    /// How far it has come.
    pub state: State,
    /// What is being done or has been done: `Creating`, `Created`.
    pub text: &'a str,
    /// What else is to be said.
    pub details: &'a str,
    /// Bytes that are done.
    pub current: u64,
    /// Of so many; 0: not known.
    pub total: u64,
}

impl<'a> Event<'a> {
    /// An event without anything more.
    pub fn new(thing: &'a str, state: State, text: &'a str) -> Self {
        Self { thing, parent: "", state, text, details: "", current: 0, total: 0 }
    }

    /// The same with something more to say.
    #[must_use]
    pub fn details(mut self, details: &'a str) -> Self {
        self.details = details;
        self
    }
}

/// Is told how a plan gets on; calls come from several threads.
pub trait Report: Sync {
    /// Something has happened to a thing.
    fn tell(&self, event: &Event<'_>);

    /// A service hook said something.
    fn says(&self, who: &str, bytes: &[u8]);
}

/// A step as it is told of: the thing, the word while it is done and the word when it is done. A step inside something
/// larger has no word for what it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// `Container shop-web-1`.
    pub thing: String,
    /// Empty: not told.
    pub doing: &'static str,
    /// Empty: not told.
    pub done: &'static str,
}

/// How a step is told of; `replaced` are the ids of containers whose place another one takes.
pub(super) fn told(project: &Project, action: &Action, replaced: &[String]) -> Told {
    let container =
        |service: &str, number: u32| format!("Container {}", container_name(project, service, number));
    let old = |id: &String| replaced.contains(id);
    let (thing, doing, done) = match action {
        Action::CreateNetwork(key) => {
            (format!("Network {}", resource_name(project, "networks", key)), "Creating", "Created")
        }
        Action::RemoveNetwork(name) => (format!("Network {name}"), "Removing", "Removed"),
        Action::CreateVolume(key) => {
            (format!("Volume {}", resource_name(project, "volumes", key)), "Creating", "Created")
        }
        Action::RemoveVolume(name) => (format!("Volume {name}"), "Removing", "Removed"),
        Action::CreateContainer { service, number, replaces, aside } => {
            let (doing, done) = match (replaces, aside) {
                (None, _) => ("Creating", "Created"),
                (Some(_), false) => ("Recreate", "Recreated"),
                (Some(_), true) => ("Recreate", ""),
            };
            (container(service, *number), doing, done)
        }
        Action::RenameContainer { service, number } => (container(service, *number), "", "Recreated"),
        Action::StartContainer { service, number } => (container(service, *number), "Starting", "Started"),
        // What they say is shown.
        Action::PreStart { service, number } => (container(service, *number), "", ""),
        Action::StopContainer { id, name, .. } | Action::RemoveContainer { id, name, .. } if old(id) => {
            (format!("Container {name}"), "", "")
        }
        Action::StopContainer { name, .. } => (format!("Container {name}"), "Stopping", "Stopped"),
        Action::RemoveContainer { name, .. } => (format!("Container {name}"), "Removing", "Removed"),
        Action::Disconnect { name, .. } => (format!("Container {name}"), "Disconnecting", "Disconnected"),
        Action::Connect { name, .. } => (format!("Container {name}"), "Connecting", "Connected"),
        Action::RemoveImage(name) => (format!("Image {name}"), "Removing", "Removed"),
        // Told of by container: see `wait`.
        Action::Wait { service, .. } => (service.clone(), "", ""),
    };
    Told { thing, doing, done }
}
