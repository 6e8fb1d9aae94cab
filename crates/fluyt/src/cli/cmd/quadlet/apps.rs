//! Which files were installed together, and are removed together: `.NAME.app` beside them names one a line, as
//! podman's does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fluyt_model::Result;
use fluyt_model::error::IoContext;

/// The applications of a directory.
#[derive(Debug, Default)]
pub struct Apps {
    directory: PathBuf,
    /// What belongs to each.
    files: BTreeMap<String, Vec<String>>,
}

/// Whether this is the name of an application's file.
pub fn is_app(name: &str) -> bool {
    name.len() > ".x.app".len() - 1 && name.starts_with('.') && name.ends_with(".app") && !name.contains('/')
}

impl Apps {
    /// Reads those of a directory; one that cannot be read has none.
    pub fn read(directory: &Path) -> Self {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_app(&name) || name.starts_with('.') && name.ends_with(".asset") {
                files.insert(name, lines(&entry.path()));
            }
        }
        Self { directory: directory.to_owned(), files }
    }

    /// The application that a file belongs to.
    pub fn of(&self, file: &str) -> Option<&str> {
        self.files.iter().find(|(_, files)| files.iter().any(|f| f == file)).map(|(name, _)| name.as_str())
    }

    /// The files of an application.
    pub fn files(&self, app: &str) -> &[String] {
        self.files.get(app).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a file to an application.
    ///
    /// # Errors
    /// The file that says so cannot be written.
    pub fn add(&mut self, app: &str, file: &str) -> Result<()> {
        let files = self.files.entry(app.to_owned()).or_default();
        if files.iter().any(|f| f == file) {
            return Ok(());
        }
        files.push(file.to_owned());
        let path = self.directory.join(app);
        std::fs::write(&path, files.join("\n") + "\n").about(|| path.display().to_string())
    }
}

/// The names in a file, without those that lead out of its directory.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let names =
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.contains('/') && !l.starts_with(".."));
    names.map(str::to_owned).collect()
}
