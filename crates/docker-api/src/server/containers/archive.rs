//! `/containers/{id}/archive`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluyt_http::Response;
use fluyt_image::layer::codec::Decoder;
use fluyt_model::{Error, Result};
use serde::Serialize;

use super::super::call::{Call, done};
use super::super::flow;
use crate::api::{PathStat, PutArchive};
use crate::time;

/// `HEAD`: what is at a path.
pub fn stat(call: &mut Call<'_, '_>) -> Result<Response> {
    let path = path(call)?;
    let stat = call.docker.container_stat(call.name(), &path)?;
    Ok(Response::new(200).header("X-Docker-Container-Path-Stat", header(&stat)?))
}

/// `GET`: the path and all below it.
pub fn get_archive(call: &mut Call<'_, '_>) -> Result<Response> {
    let path = path(call)?;
    let (stat, output) = call.docker.container_get_archive(call.name(), &path)?;
    let response = Response::new(200)
        .header("X-Docker-Container-Path-Stat", header(&stat)?)
        .header("Content-Type", "application/x-tar");
    Ok(flow::output(response, output))
}

/// `PUT`: unpacks an archive there.
pub fn put_archive(call: &mut Call<'_, '_>) -> Result<Response> {
    let how = PutArchive {
        path: path(call)?,
        no_overwrite_dir_non_dir: call.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.flag("copyUIDGID"),
    };
    let (docker, name) = (call.docker.clone(), call.name().to_owned());
    let mut archive =
        Decoder::detect(call.body()).map_err(|e| Error::invalid("the archive").with_source(e))?;
    docker.container_put_archive(&name, &how, &mut archive)?;
    done(200)
}

fn path(call: &Call<'_, '_>) -> Result<String> {
    match call.text("path") {
        "" => Err(Error::invalid("bad parameter: path: cannot be empty")),
        path => Ok(path.to_owned()),
    }
}

/// The stat as clients decode it: modes are Go's.
fn header(stat: &PathStat) -> Result<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Stat<'a> {
        name: &'a str,
        size: u64,
        mode: u32,
        mtime: String,
        link_target: &'a str,
    }
    let stat = Stat {
        name: &stat.name,
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: time::rfc3339_nano(stat.mtime),
        link_target: &stat.link_target,
    };
    let text = serde_json::to_vec(&stat).map_err(|e| Error::internal("the answer").with_source(e))?;
    Ok(STANDARD.encode(text))
}

/// The kernel's mode bits as Go's `fs.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let bits = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special: u32 = bits.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| *go).sum();
    kind | special | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o120_777), 134_218_239);
        assert_eq!(go_mode(0o104_755), 0o755 | 1 << 23);
    }
}
