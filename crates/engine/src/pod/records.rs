//! The tables of pods and of their members.

use fluyt_model::{Error, Kind, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PodSpec;
use crate::records::{ContainerRecord, Records, json, value};

/// A pod as recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PodRecord {
    /// Full id.
    #[serde(skip)]
    pub id: String,
    /// Name.
    #[serde(skip)]
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// What it is.
    pub spec: PodSpec,
    /// The façade's document.
    pub document: Value,
    /// The id under which clients see the sandbox; empty without one.
    pub infra_id: String,
}

fn pod_row(row: &Row<'_>) -> rusqlite::Result<PodRecord> {
    let record: PodRecord = value(row, 2)?;
    Ok(PodRecord { id: row.get(0)?, name: row.get(1)?, ..record })
}

impl Records<'_> {
    /// Adds a pod.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    pub fn insert_pod(self, tx: &Connection, pod: &PodRecord) -> Result<()> {
        let owner: Option<String> = tx
            .query_row("SELECT id FROM pods WHERE name = ?", [&pod.name], |r| r.get(0))
            .optional()
            .map_err(self.sql())?;
        if owner.is_some() {
            return Err(Error::conflict(format!("name \"{}\" is in use: pod already exists", pod.name))
                .with_hint(format!("`fluyt pod rm {}` removes it, --replace takes its place", pod.name)));
        }
        tx.execute(
            "INSERT INTO pods(id, name, record) VALUES(?, ?, ?)",
            params![pod.id, pod.name, json(pod)],
        )
        .map_err(self.sql())?;
        Ok(())
    }

    /// All pods, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn pods(self) -> Result<Vec<PodRecord>> {
        let mut all = self.list("SELECT id, name, record FROM pods", pod_row)?;
        all.sort_by_key(|pod| std::cmp::Reverse(pod.created));
        Ok(all)
    }

    /// The pod that `name` stands for: a full id, a name, or an unambiguous beginning of an id.
    ///
    /// # Errors
    /// `NotFound` or, for an ambiguous beginning, `Invalid`.
    pub fn pod(self, name: &str) -> Result<PodRecord> {
        let mut found = self.read(|tx| {
            let mut statement = tx
                .prepare_cached(
                    "SELECT id, name, record FROM pods WHERE id = ?1 OR name = ?1
                     UNION ALL
                     SELECT id, name, record FROM pods
                     WHERE length(?1) BETWEEN 1 AND 63 AND id >= ?1 AND id < ?1 || 'g' AND name <> ?1 LIMIT 3",
                )
                .map_err(self.sql())?;
            let rows = statement.query_map([name], pod_row).map_err(self.sql())?;
            rows.collect::<rusqlite::Result<Vec<_>>>().map_err(self.sql())
        })?;
        let exact = found.iter().position(|p| p.id == name || p.name == name);
        match (exact, found.len()) {
            (Some(at), _) => Ok(found.swap_remove(at)),
            (None, 1) => Ok(found.swap_remove(0)),
            (None, 0) => Err(Error::not_found(format!("no pod with name or ID {name} found: no such pod"))
                .with_hint("`fluyt pod ps` lists all pods")),
            _ => Err(Error::invalid(format!("more than one pod has an ID that begins with {name}"))),
        }
    }

    /// Whether there is a pod with this full id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn has_pod(self, tx: &Connection, id: &str) -> Result<bool> {
        tx.query_row("SELECT 1 FROM pods WHERE id = ?", [id], |_| Ok(()))
            .optional()
            .map(|found| found.is_some())
            .map_err(self.sql())
    }

    /// Deletes a pod that has no members, and its leases.
    ///
    /// # Errors
    /// `Conflict` if a member has come meanwhile.
    pub fn delete_pod(self, id: &str) -> Result<()> {
        self.write(|tx| {
            let members: i64 = tx
                .query_row("SELECT count(*) FROM members WHERE pod = ?", [id], |r| r.get(0))
                .map_err(self.sql())?;
            if members > 0 {
                return Err(Error::conflict(format!("pod {id} has containers")));
            }
            for sql in ["DELETE FROM leases WHERE container = ?", "DELETE FROM pods WHERE id = ?"] {
                tx.execute(sql, [id]).map_err(self.sql())?;
            }
            Ok(())
        })
    }

    /// Notes that a container is a member of a pod.
    ///
    /// # Errors
    /// `NotFound` if the pod was removed meanwhile.
    pub(crate) fn join_pod(self, tx: &Connection, container: &str, pod: &str) -> Result<()> {
        if !self.has_pod(tx, pod)? {
            return Err(Error::new(
                Kind::NotFound,
                format!("no pod with name or ID {pod} found: no such pod"),
            ));
        }
        tx.execute("INSERT OR REPLACE INTO members(container, pod) VALUES(?, ?)", params![container, pod])
            .map_err(self.sql())?;
        Ok(())
    }

    /// The members of a pod, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn members(self, pod: &str) -> Result<Vec<ContainerRecord>> {
        let ids: Vec<String> = self.read(|tx| {
            let mut statement =
                tx.prepare_cached("SELECT container FROM members WHERE pod = ?").map_err(self.sql())?;
            let rows = statement.query_map([pod], |r| r.get(0)).map_err(self.sql())?;
            rows.collect::<rusqlite::Result<_>>().map_err(self.sql())
        })?;
        let mut members = Vec::with_capacity(ids.len());
        for id in ids {
            match self.container(&id) {
                // Removed meanwhile.
                Err(e) if e.kind() == Kind::NotFound => {}
                found => members.push(found?),
            }
        }
        members.sort_by(|a: &ContainerRecord, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(members)
    }
}
