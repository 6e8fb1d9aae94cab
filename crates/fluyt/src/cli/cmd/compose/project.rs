//! What the commands of a project share: the project, what is there of it, its containers, calls of other commands.

use std::time::Duration;

use fluyt_compose::Project;
use fluyt_compose::execute::{How, observe};
use fluyt_compose::plan::{Container, Observed};
use fluyt_docker_api::api::Docker;
use fluyt_model::{Error, Kind, Result};

use super::super::Cli;
use super::Called;
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{self, Command, Parsed, UsageError};

/// A project as a command found it: with its files, or only by name.
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its files, if there are any.
    pub project: Option<Project>,
    /// What is there.
    pub observed: Observed,
}

impl Found {
    /// Containers of these services (all, if none is named), those of `run` left out.
    ///
    /// # Errors
    /// There is no such service.
    pub fn containers(&self, services: &[String]) -> Result<Vec<&Container>> {
        for service in services {
            let known = self
                .project
                .as_ref()
                .is_some_and(|p| p.service(service).is_some() || p.disabled.contains_key(service));
            if !known && !self.observed.containers.iter().any(|c| c.service == *service) {
                return Err(Error::not_found(format!("no such service: {service}")));
            }
        }
        let mut list: Vec<&Container> = self
            .observed
            .containers
            .iter()
            .filter(|c| !c.one_off && (services.is_empty() || services.contains(&c.service)))
            .collect();
        list.sort_by(|a, b| (&a.service, a.number, &a.name).cmp(&(&b.service, b.number, &b.name)));
        Ok(list)
    }

    /// One container of a service: the one of this number, or the first that runs.
    ///
    /// # Errors
    /// There is none.
    pub fn one(&self, service: &str, index: i64) -> Result<&Container> {
        let all = self.containers(&[service.to_owned()])?;
        let found = match index {
            0 => all.iter().find(|c| c.is_up()).or(all.first()),
            index => all.iter().find(|c| i64::from(c.number) == index),
        };
        found.copied().ok_or_else(|| {
            Error::not_found(format!("service {service:?} is not running"))
                .with_hint(format!("start it: fluyt compose up -d {service}"))
        })
    }
}

impl Called<'_> {
    /// The engine that the project is on.
    ///
    /// # Errors
    /// It cannot be opened or reached.
    pub fn docker(&self) -> Result<&dyn Docker> {
        self.cli.docker()
    }

    /// The project with all its services, and what is there of it. Without files a name is enough.
    ///
    /// # Errors
    /// There are no files and no name; the files are wrong; the engine does not answer.
    pub fn found(&self) -> Result<Found> {
        let mut options = self.options()?;
        // Containers of services whose profiles are not active belong to the project too.
        if options.profiles.is_empty() {
            options.profiles = vec!["*".to_owned()];
        }
        // What is there can be listed and stopped whatever the files lack.
        (options.consistency, options.resolve_environment) = (false, false);
        let named = options.name.clone().or_else(|| options.environment.get("COMPOSE_PROJECT_NAME").cloned());
        let project = match (fluyt_compose::load(&options, self.source()), named) {
            (Ok(project), _) => Some(project),
            (Err(e), Some(_)) if e.kind() == Kind::NotFound && options.files.is_empty() => None,
            (Err(e), _) => return Err(e),
        };
        let named = self.global.given("project-name").map(str::to_owned);
        let named = named.or_else(|| std::env::var("COMPOSE_PROJECT_NAME").ok());
        let name = project.as_ref().map(|p| p.name.clone()).or(named).unwrap_or_default();
        let observed = observe(self.docker()?, &name, project.as_ref())?;
        Ok(Found { name, project, observed })
    }

    /// Whether plans are only printed.
    pub fn dry_run(&self) -> bool {
        self.global.on("dry-run") || (self.parsed.has("dry-run") && self.parsed.on("dry-run"))
    }

    /// Calls another command of the program as if the user had.
    ///
    /// # Errors
    /// What the command says.
    pub fn call(
        &self,
        command: &'static Command,
        run: fn(&Cli, &Parsed) -> Outcome,
        words: &[String],
    ) -> Outcome {
        match flags::parse(command, command.name, words) {
            Ok(parsed) => run(self.cli, &parsed),
            Err(UsageError::Flag(why) | UsageError::Arguments(why)) => {
                Err(Failure::Error(Error::invalid(why)))
            }
            Err(UsageError::Help) => Ok(0),
        }
    }

    /// How plans are carried out, by `--timeout` and `--wait-timeout` where the command has them.
    ///
    /// # Errors
    /// The number of things at once is none.
    pub fn how(&self, timeout: bool, wait_timeout: bool) -> Result<How> {
        let number = |name: &str| self.parsed.given(name).and_then(|t| t.parse::<i64>().ok());
        let timeout = if timeout { number("timeout") } else { None };
        let wait = if wait_timeout { number("wait-timeout") } else { None };
        let wait = wait.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        Ok(How {
            timeout,
            wait_timeout: wait.map(Duration::from_secs),
            parallel: self.parallel()?,
            ..How::default()
        })
    }
}

/// An argument of a command.
pub fn word(text: impl Into<String>) -> String {
    text.into()
}
