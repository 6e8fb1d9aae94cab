//! What is asked of the builder's cache when room is to be made.

use std::collections::HashSet;

use fluyt_model::Result;

use crate::digest::Digest;
use crate::lease;
use crate::store::Store;

impl Store {
    /// What living work protects now: blobs and layers.
    ///
    /// # Errors
    /// I/O errors.
    pub fn leased(&self) -> Result<HashSet<Digest>> {
        let _guard = lease::lock_exclusive(&self.root)?;
        lease::protected(&self.root)
    }

    /// When the record of the cache that was used longest ago was used, in seconds since the epoch; `None` without records.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn cache_oldest(&self) -> Result<Option<i64>> {
        self.db
            .connection()
            .prepare_cached("SELECT min(max(used, created)) FROM cache")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(|e| self.db.error(e))
    }

    /// More than all layers take on disk, in bytes, told from records alone: for finding out cheaply that there is room.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn layers_bound(&self) -> Result<u64> {
        // What is not measured yet takes some blocks more than its files' sizes.
        const SQL: &str = "SELECT coalesce(sum(coalesce(disk, size * 2 + 65536)), 0) FROM layers";
        self.db
            .connection()
            .prepare_cached(SQL)
            .and_then(|mut s| s.query_row([], |row| row.get::<_, i64>(0)))
            .map(i64::cast_unsigned)
            .map_err(|e| self.db.error(e))
    }
}
