//! Files of web servers: fetched, or asked whether they are still the same.

use std::path::Path;

use fluyt_image::{Digest, LayerRef, NewLayer, Store};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::{KEYS, Solver};
use crate::executor::{Fetched, Validators};
use crate::graph::{HttpOp, Id};

/// What a file is called whose address has no name and whose server gives none.
const UNNAMED: &str = "__unnamed__";

impl Solver<'_> {
    /// The layer of a file, and whether it is the one that was here.
    pub(super) fn http(
        &self,
        store: &Store,
        id: Id,
        op: &HttpOp,
        layer: NewLayer,
    ) -> Result<(Vec<LayerRef>, bool)> {
        let vertex = &self.graph().vertices[id];
        let key = Digest::of(format!("{KEYS} web\n{}\n{}", op.url, op.name).as_bytes());
        let known = match vertex.no_cache || !op.checksum.is_empty() {
            true => None,
            false => store.web_find(self.lease, &key)?,
        };
        let (known, asked) = match known {
            Some((layers, etag, modified)) => (Some(layers), Validators { etag, modified }),
            None => (None, Validators::default()),
        };
        let part = layer.dir().join("fetched");
        let (name, time, validators) = match self.world.fetch.http(&op.url, &asked, &part)? {
            Fetched::Unchanged => {
                store.cache_touch(&[key])?;
                let known = known.ok_or_else(|| Error::internal(format!("{}: nothing was asked", op.url)))?;
                return Ok((known, true));
            }
            Fetched::File { name, time, validators } => (name, time, validators),
        };
        check(op, &part)?;
        let name = match op.name.as_str() {
            "" => name.unwrap_or_else(|| UNNAMED.to_owned()),
            name => name.to_owned(),
        };
        place(&part, &layer.fs().join(name), time.unwrap_or(0))?;
        let layers = vec![store.publish_layer(self.lease, layer, None)?];
        if validators != Validators::default() {
            store.web_put(&key, &layers, &vertex.name, (&validators.etag, &validators.modified))?;
        }
        Ok((layers, false))
    }
}

fn check(op: &HttpOp, file: &Path) -> Result<()> {
    if op.checksum.is_empty() {
        return Ok(());
    }
    let wanted = Digest::parse(&op.checksum)?;
    let found = digest_file(file, &wanted)?;
    if found == wanted {
        return Ok(());
    }
    Err(Error::corrupt(format!("digest mismatch {found}: {wanted}"))
        .with_hint(format!("{} has other content than --checksum states", op.url)))
}

/// Puts a file that was fetched where it belongs, as its owner's alone and with its server's time.
fn place(from: &Path, to: &Path, time: i64) -> Result<()> {
    let about = || to.display().to_string();
    std::fs::rename(from, to).about(about)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(to, mode).about(about)?;
    let opened = std::fs::File::options().write(true).open(to).about(about)?;
    let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.max(0).cast_unsigned());
    opened.set_modified(when).about(about)
}

fn digest_file(path: &Path, like: &Digest) -> Result<Digest> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).about(|| path.display().to_string())?;
    let mut hasher = fluyt_image::digest::Hasher::new(like.algorithm());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = file.read(&mut buffer).about(|| path.display().to_string())?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
    }
}
