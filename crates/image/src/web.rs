//! Files of web servers in the builder's cache: with each, what its server said of it, so that the next build can ask
//! whether it is still the same.

use fluyt_model::Result;
use rusqlite::OptionalExtension;

use crate::digest::Digest;
use crate::layer::unpack::LayerRef;
use crate::lease::Lease;
use crate::store::Store;

impl Store {
    /// The layers of a file that was fetched before, protected by `lease`, with its `ETag` and its `Last-Modified`.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn web_find(&self, lease: &Lease, key: &Digest) -> Result<Option<(Vec<LayerRef>, String, String)>> {
        let said = self
            .db
            .connection()
            .prepare_cached("SELECT etag, modified FROM web WHERE key = ?1")
            .and_then(|mut s| s.query_row([key.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional())
            .map_err(|e| self.db.error(e))?;
        let Some((etag, modified)) = said else { return Ok(None) };
        Ok(self.cache_find(lease, key)?.map(|layers| (layers, etag, modified)))
    }

    /// Records a file that was fetched: its layers, what made it, its `ETag` and its `Last-Modified`.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn web_put(
        &self,
        key: &Digest,
        layers: &[LayerRef],
        note: &str,
        (etag, modified): (&str, &str),
    ) -> Result<()> {
        self.cache_put(&[(key.clone(), layers.to_vec(), note.to_owned())])?;
        self.db.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO web(key, etag, modified) SELECT key, ?2, ?3 FROM cache WHERE key = ?1",
                rusqlite::params![key.as_str(), etag, modified],
            )
            .map_err(|e| self.db.error(e))?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_said_goes_with_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let lease = store.lease().unwrap();
        let key = Digest::of(b"url");
        assert!(store.web_find(&lease, &key).unwrap().is_none());
        let layer = store.new_layer().unwrap();
        std::fs::write(layer.fs().join("file"), "x").unwrap();
        let layers = vec![store.publish_layer(&lease, layer, None).unwrap()];
        store.web_put(&key, &layers, "ADD", ("\"1\"", "")).unwrap();
        assert_eq!(
            store.web_find(&lease, &key).unwrap(),
            Some((layers.clone(), "\"1\"".into(), String::new()))
        );
        // Recorded anew without a word of the server's, it is not asked for again.
        store.cache_put(&[(key.clone(), layers, String::new())]).unwrap();
        assert!(store.web_find(&lease, &key).unwrap().is_none());
        store.cache_remove(&[key]).unwrap();
    }
}
