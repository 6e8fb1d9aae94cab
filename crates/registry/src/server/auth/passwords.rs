//! A password file of Apache's form, bcrypt only, read again when it changes.
//!
//! bcrypt is slow by design. A password that was right is remembered for a while as a keyed hash, so that a client
//! that sends it with each of a hundred requests costs one computation; wrong ones are computed one at a time.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use sha2::{Digest as _, Sha256};

/// How long a right password is remembered.
const REMEMBER: Duration = Duration::from_secs(600);
/// How many are.
const REMEMBERED: usize = 4096;
/// What unknown users are compared with, after its cost.
const NOBODY: &str = "$CwTycUXWue0Thq9StjUM0uJ8.5Q4q4q4q4q4q4q4q4q4q4q4q4q4q";

/// The users of a registry.
#[derive(Debug)]
pub(crate) struct Passwords {
    path: PathBuf,
    salt: [u8; 16],
    state: Mutex<State>,
    computing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    changed: Option<SystemTime>,
    hashes: HashMap<String, String>,
    right: HashMap<[u8; 32], Instant>,
}

impl Passwords {
    /// Reads the file.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` for lines that are not `USER:BCRYPT`.
    pub fn open(path: &Path) -> Result<Self> {
        let mut salt = [0; 16];
        crate::server::random(&mut salt)?;
        let state = State { changed: modified(path), hashes: read(path)?, right: HashMap::new() };
        Ok(Self { path: path.to_owned(), salt, state: Mutex::new(state), computing: Mutex::default() })
    }

    /// What is kept of a user's password; `None` if there is no such user.
    pub fn hash(&self, user: &str) -> Option<String> {
        self.state().hashes.get(user).cloned()
    }

    /// Whether the password is the user's.
    pub fn check(&self, user: &str, password: &str) -> bool {
        let (hash, nobody) = {
            let state = self.state();
            (state.hashes.get(user).cloned(), nobody(&state.hashes))
        };
        let mut hasher = Sha256::new();
        for part in [
            &self.salt[..],
            user.as_bytes(),
            &[0],
            password.as_bytes(),
            &[0],
            hash.as_deref().unwrap_or("").as_bytes(),
        ] {
            hasher.update(part);
        }
        let memory: [u8; 32] = hasher.finalize().into();
        if hash.is_some() && self.state().right.get(&memory).is_some_and(|t| t.elapsed() < REMEMBER) {
            return true;
        }
        let turn = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        let right =
            bcrypt::verify(password, hash.as_deref().unwrap_or(&nobody)).unwrap_or(false) && hash.is_some();
        drop(turn);
        if right {
            let mut state = self.state();
            if state.right.len() >= REMEMBERED {
                state.right.clear();
            }
            state.right.insert(memory, Instant::now());
        }
        right
    }

    /// What is known, read again if the file has another time. A file that cannot be read just now changes nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = modified(&self.path);
        if changed.is_some() && changed != state.changed {
            match read(&self.path) {
                Ok(hashes) => *state = State { changed, hashes, right: HashMap::new() },
                Err(e) => {
                    eprintln!("registry: {}", e.chain());
                    state.changed = changed;
                }
            }
        }
        state
    }
}

/// What unknown users are compared with: at the cost that most users have, so that the time does not tell who is one.
fn nobody(hashes: &HashMap<String, String>) -> String {
    let mut costs: BTreeMap<&str, usize> = BTreeMap::new();
    for cost in hashes.values().filter_map(|hash| hash.get(4..6)) {
        *costs.entry(cost).or_default() += 1;
    }
    let commonest = costs.into_iter().max_by_key(|(_, users)| *users).map_or("10", |(cost, _)| cost);
    format!("$2b${commonest}{NOBODY}")
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|m| m.modified()).ok()
}

fn read(path: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(path).about(|| path.display().to_string())?;
    let mut hashes = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |why: &str| {
            Error::invalid(format!("{}: line {}: {why}", path.display(), number + 1))
                .with_hint("make users with `htpasswd -B FILE USER`")
        };
        let (user, hash) = line.split_once(':').ok_or_else(|| bad("not USER:HASH"))?;
        if !["$2y$", "$2a$", "$2b$", "$2x$"].iter().any(|start| hash.starts_with(start)) || hash.len() != 60 {
            return Err(bad("only bcrypt hashes are accepted"));
        }
        hashes.insert(user.to_owned(), hash.to_owned());
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_is_right_and_a_changed_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let hash = |p: &str| bcrypt::hash(p, 4).unwrap();
        std::fs::write(&path, format!("# people\nann:{}\n", hash("secret"))).unwrap();
        let passwords = Passwords::open(&path).unwrap();
        for _ in 0..2 {
            assert!(passwords.check("ann", "secret"));
        }
        assert!(
            !passwords.check("ann", "Secret")
                && !passwords.check("bob", "secret")
                && !passwords.check("", "")
        );
        assert!(passwords.hash("ann").is_some_and(|h| h.len() == 60) && passwords.hash("bob").is_none());
        std::fs::write(&path, format!("ann:{}\n", hash("other"))).unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(!passwords.check("ann", "secret") && passwords.check("ann", "other"));
    }

    #[test]
    fn unknown_users_take_as_long_as_most_known_ones() {
        let hashes = |costs: &[&str]| {
            let named = costs.iter().enumerate();
            named.map(|(user, cost)| (user.to_string(), format!("$2y${cost}{NOBODY}"))).collect()
        };
        assert_eq!(&nobody(&hashes(&["05", "12", "05"]))[..7], "$2b$05$");
        assert_eq!(&nobody(&hashes(&["05", "12"]))[..7], "$2b$12$");
        assert_eq!(&nobody(&hashes(&[]))[..7], "$2b$10$");
        // It is computed, not refused at once.
        assert_eq!(bcrypt::verify("x", &nobody(&hashes(&["04"]))).ok(), Some(false));
    }

    #[test]
    fn other_hashes_are_refused_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "\nann:$apr1$x$y\n").unwrap();
        assert!(Passwords::open(&path).unwrap_err().to_string().contains("line 2"));
    }
}
