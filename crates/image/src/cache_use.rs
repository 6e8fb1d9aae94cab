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
}
