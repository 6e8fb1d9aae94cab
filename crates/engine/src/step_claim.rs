//! Which commands of builds run, and clearing away what killed ones left.
//!
//! ```text
//! ROOT/build/steps/ID   the path of its cgroup; locked (flock) while its builder or its own process lives
//! ```
//! The file is there, locked, before the step gets an address, and goes after the address is given back. So an address
//! whose holder is neither a container nor a locked step belongs to nobody, after a reboot too.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_runtime::Cgroup;
use rustix::fs::{FlockOperation, flock};

use crate::Engine;

/// A step's claim to what it uses. Dropped, the file goes; its lock stays with whoever has inherited it.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Says which cgroup is the step's.
    pub(crate) fn cgroup(&mut self, path: &str) -> Result<()> {
        self.file.write_all(path.as_bytes()).about(|| self.path.display().to_string())
    }

    /// The lock, for the step's own process.
    pub(crate) fn share(&self) -> Result<File> {
        self.file.try_clone().about(|| self.path.display().to_string())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Engine {
    fn claims(&self) -> PathBuf {
        self.paths.root().join("build").join("steps")
    }

    /// Claims what a step will use.
    pub(crate) fn claim_step(&self, id: &str) -> Result<Claim> {
        let dir = self.claims();
        let path = dir.join(id);
        let about = || path.display().to_string();
        let open = || File::options().write(true).create_new(true).open(&path);
        for _ in 0..100 {
            let file = match open() {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(&dir).about(about)?;
                    open()
                }
                other => other,
            }
            .about(about)?;
            // Somebody who clears away may have seen it before it was locked.
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && file.metadata().about(about)?.nlink() > 0 {
                return Ok(Claim { path, file });
            }
            let _ = std::fs::remove_file(&path);
        }
        Err(Error::internal(format!("{}: it cannot be locked", path.display())))
    }

    /// Whether a step of this id is at work.
    pub(crate) fn step_runs(&self, id: &str) -> bool {
        let Ok(file) = File::open(self.claims().join(id)) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// Ends and removes what builders that were killed have left: commands, cgroups, addresses, directories.
    ///
    /// # Errors
    /// Something cannot be removed; the rest is done all the same.
    pub fn reclaim_steps(&self) -> Result<()> {
        let mut failure = None;
        for entry in std::fs::read_dir(self.claims()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Err(e) = self.reclaim_step(&name) {
                failure.get_or_insert(e);
            }
        }
        let freed = self.records().free_leases(&|id| self.step_runs(id));
        let cleared = self.store.clear_abandoned();
        failure.map_or(Ok(()), Err).and(freed).and(cleared)
    }

    fn reclaim_step(&self, id: &str) -> Result<()> {
        let path = self.claims().join(id);
        let Ok(mut file) = File::open(&path) else { return Ok(()) };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let mut group = String::new();
        file.read_to_string(&mut group).about(|| path.display().to_string())?;
        // Only what a step wrote there: a group of its own, named by its id.
        if group.ends_with(&format!("/{id}")) {
            end_group(&group)?;
        }
        std::fs::remove_file(&path).about(|| path.display().to_string())
    }
}

/// Ends everything in a cgroup and removes it; that there is none is no error.
pub(crate) fn end_group(path: &str) -> Result<()> {
    let cgroup = Cgroup::at(path)?;
    if cgroup.is_populated() {
        // Frozen processes do not die.
        let _ = cgroup.thaw();
        cgroup.kill(9)?;
    }
    cgroup.delete()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{ContainerRecord, NetworkRecord};
    use crate::{NetworkSpec, SubnetSpec};
    use fluyt_model::sandbox::NetworkAttachment;
    use fluyt_model::{Kind, id};

    /// A network with one address for anybody.
    fn narrow(engine: &Engine) -> NetworkRecord {
        let subnet = SubnetSpec {
            subnet: "10.9.8.0/30".to_owned(),
            gateway: "10.9.8.1".to_owned(),
            ..SubnetSpec::default()
        };
        let spec = NetworkSpec {
            name: "narrow".to_owned(),
            driver: "bridge".to_owned(),
            ipv4: true,
            subnets: vec![subnet],
            ..NetworkSpec::default()
        };
        let network = NetworkRecord {
            id: id::from_random([7; 32]),
            spec,
            ifname: "fy-narrow".to_owned(),
            ..NetworkRecord::default()
        };
        engine.records().write(|tx| engine.records().put_network(tx, &network)).expect("recorded");
        network
    }

    fn lease(engine: &Engine, network: &NetworkRecord, id: &str) -> Result<()> {
        let record = ContainerRecord { id: id.to_owned(), ..ContainerRecord::default() };
        let plug = NetworkAttachment { network: "narrow".to_owned(), ..NetworkAttachment::default() };
        engine.records().write(|tx| engine.lease(tx, &record, network, &plug)).map(drop)
    }

    #[test]
    fn the_address_of_a_step_is_its_own_while_it_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::open(dir.path()).expect("opened");
        let network = narrow(&engine);
        let [one, two] = [1, 2].map(|n| id::from_random([n; 32]));
        let claim = engine.claim_step(&one).expect("claimed");
        assert!(engine.step_runs(&one) && !engine.step_runs(&two));
        lease(&engine, &network, &one).expect("an address");
        assert_eq!(lease(&engine, &network, &two).expect_err("none is left").kind(), Kind::Exhausted);
        engine.reclaim_steps().expect("looked");
        assert_eq!(engine.records().leases_of_container(&one).expect("read").len(), 1);
        // The step's own process goes on when its builder is killed.
        let inherited = claim.share().expect("shared");
        std::mem::forget(claim);
        assert!(engine.step_runs(&one));
        // The builder of the forgotten claim lives as long as this test, so its lock is taken off by hand.
        flock(&inherited, FlockOperation::Unlock).expect("unlocked");
        engine.reclaim_steps().expect("reclaimed");
        assert!(engine.records().leases_of_container(&one).expect("read").is_empty());
        assert!(
            engine
                .records()
                .read(|tx| engine.records().leases_of_network(tx, &network.id))
                .expect("read")
                .is_empty()
        );
        lease(&engine, &network, &two).expect("an address again");
        assert!(std::fs::read_dir(engine.claims()).expect("there").next().is_none());
    }

    #[test]
    fn a_file_that_no_step_wrote_ends_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::open(dir.path()).expect("opened");
        std::fs::create_dir_all(engine.claims()).expect("made");
        std::fs::write(engine.claims().join("x"), "/").expect("written");
        engine.reclaim_steps().expect("reclaimed");
        assert!(!engine.claims().join("x").exists());
    }
}
