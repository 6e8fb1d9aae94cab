//! The engine's tables in the data root's database, and the queries on them.
//!
//! ```text
//! containers  id, name (unique)   record: JSON of ContainerRecord
//! uses        container, volume   which volumes a container uses
//! networks    id, name (unique)   record: JSON of NetworkRecord
//! leases      network, container  address (unique on the network), endpoint: JSON of Lease
//! volumes     name                record: JSON of VolumeRecord
//! pods        id, name (unique)   record: JSON of PodRecord
//! members     container           the pod that a container is a member of
//! ```

use std::collections::HashMap;
use std::path::PathBuf;

use fluyt_image::{Db, Part};
use fluyt_model::sandbox::{IdMaps, SandboxSpec};
use fluyt_model::{Error, Kind, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{EndpointView, MountView, NetworkSpec, VolumeSpec};

/// The steps of the schema; a step that has been released never changes.
const SCHEMA: &[&str] = &[
    "
CREATE TABLE containers(
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    image TEXT NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE uses(
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    volume TEXT NOT NULL,
    PRIMARY KEY(container, volume)
) WITHOUT ROWID;
CREATE INDEX uses_by_volume ON uses(volume);
CREATE TABLE networks(
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE leases(
    network TEXT NOT NULL,
    container TEXT NOT NULL,
    address TEXT,
    endpoint TEXT NOT NULL,
    PRIMARY KEY(network, container)
) WITHOUT ROWID;
CREATE UNIQUE INDEX leases_by_address ON leases(network, address);
CREATE INDEX leases_by_container ON leases(container);
CREATE TABLE volumes(
    name TEXT PRIMARY KEY NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
",
    "
CREATE TABLE pods(
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE members(
    container TEXT PRIMARY KEY NOT NULL,
    pod TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX members_by_pod ON members(pod);
",
];

/// A container as recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Full id.
    #[serde(skip)]
    pub id: String,
    /// Name.
    #[serde(skip)]
    pub name: String,
    /// Nanoseconds since the epoch.
    #[serde(skip)]
    pub created: i64,
    /// The contract.
    pub spec: SandboxSpec,
    /// The façade's document.
    pub document: Value,
    /// Mounts with volumes named and sources resolved.
    pub mounts: Vec<MountView>,
    /// Layers, top first.
    pub lower: Vec<PathBuf>,
    /// The mappings of its own user namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_maps: Option<IdMaps>,
}

/// A container's row, its record unread.
#[derive(Debug)]
pub struct ContainerRow {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// JSON of a [`ContainerRecord`].
    pub text: String,
}

/// A network as recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Full id.
    #[serde(skip)]
    pub id: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// What was asked for, completed.
    pub spec: NetworkSpec,
    /// Link on the host.
    pub ifname: String,
    /// The address that was given out last.
    pub last: String,
}

/// A volume as recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// What was asked for.
    pub spec: VolumeSpec,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Made without a name.
    pub anonymous: bool,
}

/// The engine's view of the database.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    db: &'a Db,
}

impl<'a> Records<'a> {
    /// Brings the engine's tables up to date.
    ///
    /// # Errors
    /// The database cannot be written, or comes from a newer version.
    pub fn migrate(db: &'a Db) -> Result<()> {
        db.migrate(Part::Engine, SCHEMA)
    }

    /// The tables in `db`.
    #[must_use]
    pub fn new(db: &'a Db) -> Self {
        Self { db }
    }

    /// Runs `work` in one transaction, alone.
    ///
    /// # Errors
    /// Those of `work`, and of the database.
    pub fn write<T>(self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.db.write(work)
    }

    pub(crate) fn sql(self) -> impl Fn(rusqlite::Error) -> Error + 'a {
        let db = self.db;
        move |e| db.error(e)
    }

    /// Adds a container.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    pub fn insert_container(self, tx: &Connection, record: &ContainerRecord) -> Result<()> {
        if let Some(owner) = self.id_of_name(tx, &record.name)? {
            return Err(name_taken(&record.name, &owner));
        }
        let image = record.spec.containers.first().map(|c| c.image_id.clone()).unwrap_or_default();
        let mut statement = tx
            .prepare_cached("INSERT INTO containers(id, name, created, image, record) VALUES(?, ?, ?, ?, ?)")
            .map_err(self.sql())?;
        statement
            .execute(params![record.id, record.name, record.created, image, json(record)])
            .map_err(self.sql())?;
        if !record.spec.pod.is_empty() {
            self.join_pod(tx, &record.id, &record.spec.pod)?;
        }
        for volume in record.mounts.iter().filter(|m| m.kind == "volume") {
            tx.execute(
                "INSERT OR IGNORE INTO uses(container, volume) VALUES(?, ?)",
                params![record.id, volume.name],
            )
            .map_err(self.sql())?;
        }
        Ok(())
    }

    /// Replaces a container's record (not its name).
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn update_container(self, record: &ContainerRecord) -> Result<()> {
        self.write(|tx| {
            tx.execute("UPDATE containers SET record = ? WHERE id = ?", params![json(record), record.id])
                .map_err(self.sql())?;
            Ok(())
        })
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    pub fn rename_container(self, id: &str, name: &str) -> Result<()> {
        self.write(|tx| {
            if let Some(owner) = self.id_of_name(tx, name)? {
                return Err(name_taken(name, &owner));
            }
            tx.execute("UPDATE containers SET name = ? WHERE id = ?", params![name, id])
                .map_err(self.sql())?;
            Ok(())
        })
    }

    fn id_of_name(self, tx: &Connection, name: &str) -> Result<Option<String>> {
        tx.query_row("SELECT id FROM containers WHERE name = ?", [name], |r| r.get(0))
            .optional()
            .map_err(self.sql())
    }

    /// Deletes a container and its leases; whether it was there.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn delete_container(self, id: &str) -> Result<bool> {
        self.write(|tx| {
            let mut rows = 0;
            for sql in [
                "DELETE FROM leases WHERE container = ?",
                "DELETE FROM uses WHERE container = ?",
                "DELETE FROM members WHERE container = ?",
                "DELETE FROM containers WHERE id = ?",
            ] {
                let mut statement = tx.prepare_cached(sql).map_err(self.sql())?;
                rows = statement.execute([id]).map_err(self.sql())?;
            }
            Ok(rows > 0)
        })
    }

    /// The container that `name` stands for: a full id, a name, or an unambiguous beginning of an id.
    ///
    /// # Errors
    /// `NotFound` or, for an ambiguous beginning, `Invalid`.
    pub fn container(self, name: &str) -> Result<ContainerRecord> {
        let row = self.db.read(|tx| self.container_row(tx, name))?;
        let record = serde_json::from_str(&row.text).map_err(unreadable).map_err(self.sql())?;
        Ok(ContainerRecord { id: row.id, name: row.name, created: row.created, ..record })
    }

    /// The same as it stands in the table.
    ///
    /// # Errors
    /// `NotFound` or, for an ambiguous beginning, `Invalid`.
    pub fn container_row(self, tx: &Connection, name: &str) -> Result<ContainerRow> {
        let bare = name.strip_prefix('/').unwrap_or(name);
        let mut statement = tx
            .prepare_cached(
                "SELECT id, name, created, record FROM containers WHERE id = ?1 OR name = ?1
                 UNION ALL
                 SELECT id, name, created, record FROM containers
                 WHERE length(?1) < 64 AND id >= ?1 AND id < ?1 || 'g' AND name <> ?1 LIMIT 3",
            )
            .map_err(self.sql())?;
        let row = |r: &Row<'_>| {
            Ok(ContainerRow { id: r.get(0)?, name: r.get(1)?, created: r.get(2)?, text: r.get(3)? })
        };
        let rows = statement.query_map([bare], row).map_err(self.sql())?;
        let found: Vec<ContainerRow> = rows.collect::<rusqlite::Result<_>>().map_err(self.sql())?;
        let exact =
            found.iter().position(|c| c.id == bare).or_else(|| found.iter().position(|c| c.name == bare));
        match (exact, found.len()) {
            (Some(at), _) => Ok(found.into_iter().nth(at).expect("the position was just found")),
            (None, 1) if !bare.is_empty() => Ok(found.into_iter().next().expect("there is one")),
            (None, 0 | 1) => Err(Error::not_found(format!("No such container: {name}"))
                .with_hint("`fluyt ps -a` lists all containers")),
            _ => Err(Error::invalid(format!("multiple IDs found with provided prefix: {name}"))),
        }
    }

    /// Shows `look` every container: id, name, time of creation, record. The order means nothing.
    ///
    /// # Errors
    /// Those of `look`, and of the database.
    pub fn each_container(
        self,
        tx: &Connection,
        mut look: impl FnMut(&str, &str, i64, &str) -> serde_json::Result<()>,
    ) -> Result<()> {
        let mut statement =
            tx.prepare_cached("SELECT id, name, created, record FROM containers").map_err(self.sql())?;
        let mut rows = statement.query([]).map_err(self.sql())?;
        while let Some(row) = rows.next().map_err(self.sql())? {
            let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?));
            let mut show = || look(text(0)?, text(1)?, row.get(2)?, text(3)?).map_err(unreadable);
            show().map_err(self.sql())?;
        }
        Ok(())
    }

    /// The plugs of all containers, by their ids.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn leases(self, tx: &Connection) -> Result<HashMap<String, Vec<EndpointView>>> {
        let mut statement =
            tx.prepare_cached("SELECT container, endpoint FROM leases").map_err(self.sql())?;
        let mut rows = statement.query([]).map_err(self.sql())?;
        let mut all: HashMap<String, Vec<EndpointView>> = HashMap::new();
        while let Some(row) = rows.next().map_err(self.sql())? {
            let container = row.get(0).map_err(self.sql())?;
            all.entry(container).or_default().push(value(row, 1).map_err(self.sql())?);
        }
        Ok(all)
    }

    /// All containers, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn containers(self) -> Result<Vec<ContainerRecord>> {
        // Sorted here: sorting whole records, SQLite would put them into a temporary file.
        let mut all = self.list("SELECT id, name, created, record FROM containers", container_row)?;
        all.sort_by_key(|record| std::cmp::Reverse(record.created));
        Ok(all)
    }

    /// The images of all containers, one id each: much cheaper than whole records.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn container_images(self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Record {
            spec: Spec,
        }
        #[derive(Deserialize)]
        struct Spec {
            containers: Vec<Container>,
        }
        #[derive(Deserialize)]
        struct Container {
            image_id: String,
        }
        let records = self.list("SELECT record FROM containers", |row| value::<Record>(row, 0))?;
        Ok(records.into_iter().flat_map(|r| r.spec.containers).map(|c| c.image_id).collect())
    }

    /// Ids of the containers that use a volume.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn users_of_volume(self, tx: &Connection, volume: &str) -> Result<Vec<String>> {
        let mut statement =
            tx.prepare_cached("SELECT container FROM uses WHERE volume = ?").map_err(self.sql())?;
        let rows = statement.query_map([volume], |r| r.get(0)).map_err(self.sql())?;
        rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
    }

    /// All containers in the transaction `tx`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn containers_in(self, tx: &Connection) -> Result<Vec<ContainerRecord>> {
        let mut statement =
            tx.prepare_cached("SELECT id, name, created, record FROM containers").map_err(self.sql())?;
        let rows = statement.query_map([], container_row).map_err(self.sql())?;
        rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
    }

    /// Adds or replaces a network.
    ///
    /// # Errors
    /// `Conflict` if another network has the name.
    pub fn put_network(self, tx: &Connection, network: &NetworkRecord) -> Result<()> {
        let owner: Option<String> = tx
            .query_row("SELECT id FROM networks WHERE name = ?", [&network.spec.name], |r| r.get(0))
            .optional()
            .map_err(self.sql())?;
        if owner.is_some_and(|id| id != network.id) {
            return Err(Error::conflict(format!("network with name {} already exists", network.spec.name)));
        }
        tx.prepare_cached("INSERT OR REPLACE INTO networks(id, name, record) VALUES(?, ?, ?)")
            .and_then(|mut s| s.execute(params![network.id, network.spec.name, json(network)]))
            .map_err(self.sql())?;
        Ok(())
    }

    /// All networks in the transaction `tx`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn networks(self, tx: &Connection) -> Result<Vec<NetworkRecord>> {
        let mut statement = tx.prepare_cached("SELECT id, record FROM networks").map_err(self.sql())?;
        let rows = statement.query_map([], network_row).map_err(self.sql())?;
        rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
    }

    /// The network that `name` stands for: a name, an id, or an unambiguous beginning of an id.
    ///
    /// # Errors
    /// `NotFound` or, for an ambiguous beginning, `Invalid`.
    pub fn network(self, tx: &Connection, name: &str) -> Result<NetworkRecord> {
        let all = self.networks(tx)?;
        if let Some(exact) = all.iter().find(|n| n.spec.name == name || n.id == name) {
            return Ok(exact.clone());
        }
        let mut matching = all.into_iter().filter(|n| !name.is_empty() && n.id.starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => Err(Error::invalid(format!("network {name} is ambiguous"))),
            _ => Err(Error::not_found(format!("network {name} not found"))
                .with_hint("`fluyt network ls` lists all networks")),
        }
    }

    /// Deletes a network.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn delete_network(self, tx: &Connection, id: &str) -> Result<()> {
        tx.execute("DELETE FROM leases WHERE network = ?", [id]).map_err(self.sql())?;
        tx.execute("DELETE FROM networks WHERE id = ?", [id]).map_err(self.sql())?;
        Ok(())
    }

    /// The plugs of one network: (container id, endpoint).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn leases_of_network(self, tx: &Connection, network: &str) -> Result<Vec<(String, EndpointView)>> {
        let mut statement = tx
            .prepare_cached("SELECT container, endpoint FROM leases WHERE network = ?")
            .map_err(self.sql())?;
        let rows = statement.query_map([network], |r| Ok((r.get(0)?, value(r, 1)?))).map_err(self.sql())?;
        rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
    }

    /// The plugs of one container.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn leases_of_container(self, container: &str) -> Result<Vec<EndpointView>> {
        self.db.read(|tx| self.leases_of(tx, container))
    }

    /// The plugs of one container in the transaction `tx`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn leases_of(self, tx: &Connection, container: &str) -> Result<Vec<EndpointView>> {
        let mut statement =
            tx.prepare_cached("SELECT endpoint FROM leases WHERE container = ?").map_err(self.sql())?;
        let rows = statement.query_map([container], |r| value(r, 0)).map_err(self.sql())?;
        rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
    }

    /// Records a plug.
    ///
    /// # Errors
    /// `Conflict` if the address is taken on that network.
    pub fn put_lease(self, tx: &Connection, container: &str, endpoint: &EndpointView) -> Result<()> {
        let address = endpoint.ipv4.map(|(a, _)| a.to_string());
        tx.prepare_cached(
            "INSERT INTO leases(network, container, address, endpoint) VALUES(?1, ?2, ?3, ?4)
             ON CONFLICT(network, container) DO UPDATE SET address = ?3, endpoint = ?4",
        )
        .and_then(|mut s| s.execute(params![endpoint.network_id, container, address, json(endpoint)]))
        .map_err(self.sql())?;
        Ok(())
    }

    /// Forgets a plug.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn delete_lease(self, tx: &Connection, network: &str, container: &str) -> Result<()> {
        tx.execute("DELETE FROM leases WHERE network = ? AND container = ?", params![network, container])
            .map_err(self.sql())?;
        Ok(())
    }

    /// Forgets the plugs of those who are neither containers nor, as `lives` tells, at work.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn free_leases(self, lives: &dyn Fn(&str) -> bool) -> Result<()> {
        const STRAY: &str =
            "SELECT DISTINCT container FROM leases WHERE container NOT IN (SELECT id FROM containers)
             AND container NOT IN (SELECT id FROM pods)";
        let strays = |tx: &Connection| -> Result<Vec<String>> {
            let mut statement = tx.prepare_cached(STRAY).map_err(self.sql())?;
            let rows = statement.query_map([], |r| r.get(0)).map_err(self.sql())?;
            rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
        };
        if self.db.read(strays)?.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            for id in strays(tx)?.iter().filter(|id| !lives(id)) {
                tx.execute("DELETE FROM leases WHERE container = ?", [id]).map_err(self.sql())?;
            }
            Ok(())
        })
    }

    /// Adds a volume unless one of that name exists; the one that exists afterwards comes back.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn ensure_volume(self, tx: &Connection, volume: &VolumeRecord) -> Result<VolumeRecord> {
        tx.execute(
            "INSERT OR IGNORE INTO volumes(name, record) VALUES(?, ?)",
            params![volume.spec.name, json(volume)],
        )
        .map_err(self.sql())?;
        self.volume(tx, &volume.spec.name)
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn volume(self, tx: &Connection, name: &str) -> Result<VolumeRecord> {
        tx.query_row("SELECT record FROM volumes WHERE name = ?", [name], |r| value(r, 0))
            .optional()
            .map_err(self.sql())?
            .ok_or_else(|| {
                Error::not_found(format!("get {name}: no such volume"))
                    .with_hint("`fluyt volume ls` lists all volumes")
            })
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn volumes(self) -> Result<Vec<VolumeRecord>> {
        self.list("SELECT record FROM volumes ORDER BY name", |r| value(r, 0))
    }

    /// Deletes a volume's record.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn delete_volume(self, tx: &Connection, name: &str) -> Result<()> {
        tx.execute("DELETE FROM volumes WHERE name = ?", [name]).map_err(self.sql())?;
        Ok(())
    }

    /// Runs `work` on a consistent view.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn read<T>(self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.db.read(work)
    }

    pub(crate) fn list<T>(
        self,
        sql: &str,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.db.read(|tx| {
            let mut statement = tx.prepare_cached(sql).map_err(self.sql())?;
            let rows = statement.query_map([], row).map_err(self.sql())?;
            rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
        })
    }
}

fn name_taken(name: &str, owner: &str) -> Error {
    Error::new(
        Kind::Conflict,
        format!("Conflict. The container name \"/{name}\" is already in use by container \"{owner}\"."),
    )
    .with_hint("You have to remove (or rename) that container to be able to reuse that name")
}

pub(crate) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("records are plain data")
}

pub(crate) fn value<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(unreadable)
}

fn unreadable(e: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e))
}

fn container_row(row: &Row<'_>) -> rusqlite::Result<ContainerRecord> {
    let record: ContainerRecord = value(row, 3)?;
    Ok(ContainerRecord { id: row.get(0)?, name: row.get(1)?, created: row.get(2)?, ..record })
}

fn network_row(row: &Row<'_>) -> rusqlite::Result<NetworkRecord> {
    let record: NetworkRecord = value(row, 1)?;
    Ok(NetworkRecord { id: row.get(0)?, ..record })
}
