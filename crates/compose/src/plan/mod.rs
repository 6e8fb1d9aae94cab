//! What is to be done so that what is there becomes what the files say: a graph of single-effect steps, each with its
//! cause. Pure: what is there comes as [`Observed`]. Nothing here decides twice; the executor decides nothing.

mod down;
mod observed;
mod text;
mod up;

#[cfg(test)]
mod tests;

pub use down::{Down, Images, down, is_anonymous};
pub use observed::{Container, Network, Observed, Volume};
pub use text::{action as action_text, text};
pub use up::{Recreate, Up, in_order, up};

/// What one step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes a network of the project, by key.
    CreateNetwork(String),
    /// Removes a network, by name.
    RemoveNetwork(String),
    /// Makes a volume of the project, by key.
    CreateVolume(String),
    /// Removes a volume, by name.
    RemoveVolume(String),
    /// Makes a container of a service.
    CreateContainer {
        /// The service.
        service: String,
        /// Which of its containers, from 1.
        number: u32,
        /// The id of the container that it takes the place of.
        replaces: Option<String>,
        /// Whether it gets a name for the meantime, because the other one still has its own.
        aside: bool,
    },
    /// Gives the container that took another's place its name.
    RenameContainer {
        /// The service.
        service: String,
        /// Which of its containers.
        number: u32,
    },
    /// Runs what a service has to run before its first container starts.
    PreStart {
        /// The service.
        service: String,
        /// The container whose volumes it gets.
        number: u32,
    },
    /// Starts a container of a service.
    StartContainer {
        /// The service.
        service: String,
        /// Which of its containers.
        number: u32,
    },
    /// Stops a container, by id.
    StopContainer {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Its service, if the project has it.
        service: String,
    },
    /// Removes a container, by id.
    RemoveContainer {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// With its anonymous volumes.
        volumes: bool,
    },
    /// Waits until a service is as somebody needs it.
    Wait {
        /// The service.
        service: String,
        /// As it must be.
        condition: Condition,
        /// Whether it is a failure if it does not come to that.
        required: bool,
    },
    /// Takes a container out of a network, by their names and its id.
    Disconnect {
        /// The network's name.
        network: String,
        /// The container's id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Puts a container into a network of the project.
    Connect {
        /// The network's key.
        network: String,
        /// The container's id.
        id: String,
        /// Its name.
        name: String,
        /// The other names that it has there.
        aliases: Vec<String>,
    },
    /// Removes an image.
    RemoveImage(String),
}

/// When a service is ready for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// All its containers have been started.
    Started,
    /// All its containers run, and are healthy if they have health checks.
    RunningOrHealthy,
    /// All its containers are healthy.
    Healthy,
    /// All its containers have ended with 0.
    Completed,
}

/// A step: what, why, and after which others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Why.
    pub cause: String,
    /// Steps that must be done before, by their places in the plan; all are smaller than its own.
    pub after: Vec<usize>,
}

/// Steps in an order in which they can be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The plan in two: what makes and removes, and what starts and waits. Nothing of the first needs the second.
    pub fn in_two(self) -> (Self, Self) {
        let removed: Vec<String> = self
            .steps
            .iter()
            .filter_map(|s| match &s.action {
                Action::RemoveContainer { id, .. } => Some(id.clone()),
                _ => None,
            })
            .collect();
        let starts = |action: &Action| match action {
            Action::PreStart { .. } | Action::StartContainer { .. } | Action::Wait { .. } => true,
            // A container that is started again is not removed.
            Action::StopContainer { id, .. } => !removed.contains(id),
            _ => false,
        };
        let mut parts = [Self::default(), Self::default()];
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(self.steps.len());
        for mut step in self.steps {
            let part = usize::from(starts(&step.action));
            let after = step.after.iter().map(|a| places[*a]).filter(|(p, _)| *p == part);
            step.after = after.map(|(_, place)| place).collect();
            places.push((part, parts[part].steps.len()));
            parts[part].steps.push(step);
        }
        let [made, started] = parts;
        (made, started)
    }

    fn add(
        &mut self,
        action: Action,
        cause: impl Into<String>,
        after: impl IntoIterator<Item = usize>,
    ) -> usize {
        let mut after: Vec<usize> = after.into_iter().collect();
        after.sort_unstable();
        after.dedup();
        self.steps.push(Step { action, cause: cause.into(), after });
        self.steps.len() - 1
    }
}
