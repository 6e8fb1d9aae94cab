//! The tables of the image store. What they mean is drawn here; the modules that use them own the queries.
//!
//! ```text
//! images  id = config digest        one row an image that is here for one platform
//!         config                    the configuration blob, verbatim
//!         layers                    JSON list of LayerRef, lowest first: all that a container start needs
//! refs    name = full reference     docker.io/library/x:tag or docker.io/library/x@sha256:…
//!         target                    the manifest or index that the name stands for
//!         image                     -> images.id
//! layers  key = diff id or chain id directory layers/HEX/fs, link l/LINK
//!         dependent                 whether its content depends on the layers below (key = chain id then)
//! cache   key                       the builder's: what it leads to stays
//!         layers                    JSON list of LayerRef, lowest first
//! web     key -> cache.key          what a web server said of a file, to ask whether it is still the same
//! layer_blobs  diff_id              the compressed archive that was made of a layer
//! origins  image, name              what an image was pulled as, with its signatures
//! manifest_lists  name              a list in the making, JSON (crate::lists)
//! manifest_list_blobs  list, digest the blobs that it needs; blobs_of_manifest_lists is what collection sees of it
//! ```

/// The steps of the schema; see [`crate::db::Db::migrate`].
pub(crate) const SCHEMA: &[&str] = &[
    "
CREATE TABLE images(
    id TEXT PRIMARY KEY NOT NULL,
    manifest TEXT NOT NULL,
    config TEXT NOT NULL,
    layers TEXT NOT NULL,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL,
    added INTEGER NOT NULL,
    parent TEXT
) WITHOUT ROWID;
CREATE TABLE refs(
    name TEXT PRIMARY KEY NOT NULL,
    target TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES images(id),
    updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX refs_by_image ON refs(image);
CREATE TABLE layers(
    key TEXT PRIMARY KEY NOT NULL,
    diff_id TEXT NOT NULL,
    link TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    dependent INTEGER NOT NULL,
    disk INTEGER
) WITHOUT ROWID;
",
    "
CREATE TABLE cache(
    key TEXT PRIMARY KEY NOT NULL,
    layers TEXT NOT NULL,
    note TEXT NOT NULL,
    created INTEGER NOT NULL,
    used INTEGER NOT NULL,
    uses INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE layer_blobs(
    diff_id TEXT PRIMARY KEY NOT NULL,
    blob TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
",
    "
CREATE TABLE web(
    key TEXT PRIMARY KEY NOT NULL REFERENCES cache(key) ON DELETE CASCADE,
    etag TEXT NOT NULL,
    modified TEXT NOT NULL
) WITHOUT ROWID;
",
    "
CREATE TABLE origins(
    image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    target TEXT NOT NULL,
    manifest TEXT NOT NULL,
    signatures TEXT NOT NULL,
    PRIMARY KEY(image, name)
) WITHOUT ROWID;
CREATE TABLE manifest_lists(
    name TEXT PRIMARY KEY NOT NULL,
    content TEXT NOT NULL,
    updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE manifest_list_blobs(
    list TEXT NOT NULL REFERENCES manifest_lists(name) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY(list, digest)
) WITHOUT ROWID;
CREATE VIEW blobs_of_manifest_lists AS SELECT digest FROM manifest_list_blobs;
",
];
