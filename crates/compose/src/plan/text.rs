//! A plan as people read it: a line a step, with its cause.

use super::{Action, Condition, Plan};
use crate::lower::{container_name, resource_name};
use crate::project::Project;

/// One line a step: what, and why.
pub fn text(project: &Project, plan: &Plan) -> String {
    let lines: Vec<(String, &str)> =
        plan.steps.iter().map(|s| (action(project, &s.action), s.cause.as_str())).collect();
    let width = lines.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    lines.into_iter().map(|(what, cause)| format!("{what:width$}  # {cause}\n")).collect()
}

/// What a step does, as words.
pub fn action(project: &Project, action: &Action) -> String {
    let name = |service: &str, number: u32| container_name(project, service, number);
    match action {
        Action::CreateNetwork(key) => format!("create network {}", resource_name(project, "networks", key)),
        Action::RemoveNetwork(name) => format!("remove network {name}"),
        Action::CreateVolume(key) => format!("create volume {}", resource_name(project, "volumes", key)),
        Action::RemoveVolume(name) => format!("remove volume {name}"),
        Action::CreateContainer { service, number, aside: false, .. } => {
            format!("create container {}", name(service, *number))
        }
        Action::CreateContainer { service, number, aside: true, .. } => {
            format!("create container {} beside the old one", name(service, *number))
        }
        Action::RenameContainer { service, number } => {
            format!("name the new container {}", name(service, *number))
        }
        Action::PreStart { service, .. } => format!("run the pre_start hooks of {service}"),
        Action::StartContainer { service, number } => format!("start container {}", name(service, *number)),
        Action::StopContainer { name, .. } => format!("stop container {name}"),
        Action::RemoveContainer { name, volumes: false, .. } => format!("remove container {name}"),
        Action::RemoveContainer { name, volumes: true, .. } => {
            format!("remove container {name} and its anonymous volumes")
        }
        Action::Wait { service, condition, .. } => match condition {
            Condition::Started => format!("wait until {service} is started"),
            Condition::RunningOrHealthy => format!("wait until {service} runs and is healthy"),
            Condition::Healthy => format!("wait until {service} is healthy"),
            Condition::Completed => format!("wait until {service} has ended well"),
        },
        Action::Disconnect { network, name, .. } => format!("take container {name} out of network {network}"),
        Action::Connect { network, name, .. } => {
            format!("put container {name} into network {}", resource_name(project, "networks", network))
        }
        Action::RemoveImage(name) => format!("remove image {name}"),
    }
}
