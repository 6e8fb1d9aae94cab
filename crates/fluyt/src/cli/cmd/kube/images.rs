//! Images of pods: found, fetched or built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fluyt_docker_api::api::AuthConfig;
use fluyt_docker_api::types::ContainerConfig;
use fluyt_docker_api::{policy, transfer};
use fluyt_engine::Engine;
use fluyt_image::Image;
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_pod::lower::{ImageFacts, ImageNeed, Pull};

use crate::cli::build;
use crate::cli::cmd::Cli;
use crate::cli::fail::Failure;
use crate::cli::flags::{self, Parsed};
use crate::cli::progress::Report;

/// How images are fetched.
pub struct Wanted {
    quiet: bool,
    verify: bool,
    build: Option<bool>,
    directory: PathBuf,
    credentials: Option<AuthConfig>,
    policy: Option<String>,
}

impl Wanted {
    /// By the flags of `kube play`.
    ///
    /// # Errors
    /// Credentials without a colon; there is no present directory.
    pub fn read(flags: &Parsed) -> Result<Self> {
        let build = flags.changed("build").then(|| flags.on("build"));
        let directory = match flags.given("context-dir") {
            Some(_) if build != Some(true) => {
                return Err(Error::invalid("--build must be specified when using --context-dir option"));
            }
            Some(directory) => PathBuf::from(directory),
            None => std::env::current_dir().about(|| "the present directory")?,
        };
        let credentials = flags.given("creds").map(|text| match text.split_once(':') {
            Some((username, password)) => Ok(AuthConfig {
                username: username.to_owned(),
                password: password.to_owned(),
                ..AuthConfig::default()
            }),
            None => Err(Error::invalid("--creds: no password").with_hint("write --creds USERNAME:PASSWORD")),
        });
        Ok(Self {
            quiet: flags.on("quiet"),
            verify: flags.on("tls-verify"),
            build,
            directory,
            credentials: credentials.transpose()?,
            policy: flags.given("signature-policy").map(str::to_owned),
        })
    }

    /// What all of `needs` say about themselves, and the images that annotations name.
    ///
    /// # Errors
    /// One cannot be fetched or built.
    pub fn all(
        &self,
        cli: &Cli,
        needs: &[ImageNeed],
        known: &mut BTreeMap<String, ImageFacts>,
    ) -> std::result::Result<(), (String, Failure)> {
        for need in needs.iter().filter(|need| !need.name.is_empty()) {
            if known.contains_key(&need.name) && need.pull != Pull::Always {
                continue;
            }
            let facts = self.one(cli, need).map_err(|failure| (need.path.clone(), failure))?;
            known.insert(need.name.clone(), facts);
        }
        Ok(())
    }

    fn one(&self, cli: &Cli, need: &ImageNeed) -> std::result::Result<ImageFacts, Failure> {
        let engine = cli.engine()?;
        let here = found(engine, &need.name)?;
        if self.build != Some(false)
            && (here.is_none() || self.build == Some(true))
            && let Some(file) = build_file(&self.directory, &need.name)
        {
            self.build(cli, &need.name, &file)?;
            return Ok(self.facts(engine, need, engine.images().resolve(&need.name)?)?);
        }
        let image = match (need.pull, here) {
            (Pull::Never, None) => {
                return Err(Error::not_found(format!(
                    "no image {} is here, and it is not to be fetched",
                    need.name
                ))
                .with_hint("load or build it, or change imagePullPolicy")
                .into());
            }
            (Pull::Never | Pull::Missing, Some(image)) => image,
            (Pull::Newer, Some(image)) => self.newer(engine, &need.name)?.unwrap_or(image),
            (_, _) => self.pull(engine, &need.name)?,
        };
        Ok(self.facts(engine, need, image)?)
    }

    fn facts(&self, engine: &Engine, need: &ImageNeed, image: Image) -> Result<ImageFacts> {
        policy::check(engine, self.policy.as_deref(), &need.name, &image)?;
        facts(engine, &image)
    }

    /// The registry's image, if it answers: an image that is here is good enough otherwise.
    fn newer(&self, engine: &Engine, name: &str) -> Result<Option<Image>> {
        match self.pull(engine, name) {
            Ok(image) => Ok(Some(image)),
            Err(e) if e.kind() == Kind::PermissionDenied => Err(e),
            Err(_) => Ok(None),
        }
    }

    fn pull(&self, engine: &Engine, name: &str) -> Result<Image> {
        let reference = Reference::parse_untagged(name)?.or_latest();
        let registry = match &self.credentials {
            Some(given) => {
                transfer::client_for(reference.domain(), Some(given), self.policy.as_deref(), true)?
            }
            None => transfer::client(self.verify, self.policy.as_deref())?,
        };
        let report = Report::on_stderr(self.quiet);
        transfer::pull(engine, &registry, &reference, None, &report).map(|(_, image)| image)
    }

    fn build(&self, cli: &Cli, image: &str, file: &Path) -> std::result::Result<(), Failure> {
        let directory = file.parent().unwrap_or(&self.directory);
        let mut words = vec!["--tag".to_owned(), image.to_owned()];
        words.extend(["--file".to_owned(), file.display().to_string()]);
        if self.quiet {
            words.push("--quiet".to_owned());
        }
        words.push(directory.display().to_string());
        let parsed = flags::parse(&crate::cli::cmd::build::BUILD, "build", &words)
            .map_err(|_| Error::internal("the build's own command line"))?;
        match build::build(cli, &parsed)? {
            0 => Ok(()),
            code => Err(Failure::Code(code)),
        }
    }
}

/// The image of a name, if it is here.
pub fn found(engine: &Engine, name: &str) -> Result<Option<Image>> {
    match engine.images().resolve(name) {
        Ok(image) => Ok(Some(image)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// What an image says about itself.
///
/// # Errors
/// Its configuration cannot be read.
pub fn facts(engine: &Engine, image: &Image) -> Result<ImageFacts> {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(default)]
        config: Option<ContainerConfig>,
    }
    let raw = engine.images().raw_config(&image.id)?;
    let document: Document = serde_json::from_str(&raw)
        .map_err(|e| Error::corrupt(format!("configuration of image {}", image.id)).with_source(e))?;
    let config = document.config.unwrap_or_default();
    Ok(ImageFacts {
        id: image.id.to_string(),
        entrypoint: config.entrypoint.to_vec(),
        cmd: config.cmd.to_vec(),
        env: config.env.to_vec(),
        user: config.user,
        working_dir: config.working_dir,
        volumes: config.volumes.keys().cloned().collect(),
        stop_signal: config.stop_signal,
        labels: config.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    })
}

/// `DIR/NAME/Containerfile`, else `DIR/NAME/Dockerfile`, where NAME is the last part of an image's name.
fn build_file(directory: &Path, image: &str) -> Option<PathBuf> {
    let name = image.split('@').next().unwrap_or(image);
    let last = name.rsplit('/').next().unwrap_or(name);
    let last = last.split(':').next().unwrap_or(last);
    let inside = directory.join(last);
    ["Containerfile", "Dockerfile"].iter().map(|file| inside.join(file)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_to_build_is_in_a_directory_of_the_images_name() {
        let scratch = std::env::temp_dir().join(format!("fluyt-kube-build-{}", std::process::id()));
        std::fs::create_dir_all(scratch.join("web")).unwrap();
        std::fs::write(scratch.join("web/Dockerfile"), "FROM scratch").unwrap();
        for image in ["web", "web:1", "reg:5000/x/web", "localhost/web@sha256:00"] {
            assert_eq!(build_file(&scratch, image), Some(scratch.join("web/Dockerfile")), "{image}");
        }
        std::fs::write(scratch.join("web/Containerfile"), "FROM scratch").unwrap();
        assert_eq!(build_file(&scratch, "web"), Some(scratch.join("web/Containerfile")));
        assert_eq!(build_file(&scratch, "other"), None);
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}
