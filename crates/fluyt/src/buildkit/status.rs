//! What a build's process tells (`--progress rawjson`) as BuildKit's status. Pure, but for the time that comes in.

use std::collections::BTreeMap;

use fluyt_buildkit::proto::{StatusResponse, Timestamp, Vertex, VertexLog};
use fluyt_image::digest::{Algorithm, Hasher};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Vertexes { vertexes: Vec<Told> },
    Logs { logs: Vec<Log> },
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Told {
    digest: String,
    name: String,
    started: bool,
    completed: bool,
    cached: bool,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Log {
    vertex: String,
    stream: i64,
    data: String,
}

/// Remembers what a status has to repeat.
#[derive(Default)]
pub struct Teller {
    begun: BTreeMap<String, Timestamp>,
}

impl Teller {
    /// A line of the process at a time in nanoseconds since the epoch; none for what is no status.
    pub fn line(&mut self, line: &str, now: i64) -> Option<StatusResponse> {
        let now = timestamp(now);
        let mut status = StatusResponse::default();
        match serde_json::from_str(line).ok()? {
            Line::Vertexes { vertexes } => {
                status.vertexes = vertexes.into_iter().map(|told| self.vertex(told, now)).collect();
            }
            Line::Logs { logs } => {
                status.logs = logs
                    .into_iter()
                    .map(|log| VertexLog {
                        vertex: log.vertex,
                        timestamp: Some(now),
                        stream: log.stream,
                        message: log.data.into_bytes(),
                    })
                    .collect();
            }
        }
        Some(status)
    }

    fn vertex(&mut self, told: Told, now: Timestamp) -> Vertex {
        let digest = if told.digest.is_empty() { digest(&told.name) } else { told.digest };
        let begun = *self.begun.entry(digest.clone()).or_insert(now);
        let ended = told.completed || told.error.is_some();
        Vertex {
            digest,
            name: told.name,
            cached: told.cached,
            started: (told.started || ended).then_some(begun),
            completed: ended.then_some(now),
            error: told.error.unwrap_or_default(),
            ..Vertex::default()
        }
    }
}

/// The digest of what has none of its own.
fn digest(name: &str) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(name.as_bytes());
    hasher.finish().to_string()
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp {
        seconds: nanoseconds.div_euclid(1_000_000_000),
        nanos: i32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_begins_says_something_and_ends() {
        let mut teller = Teller::default();
        let second = 1_000_000_000;
        let begun = teller
            .line(r#"{"vertexes": [{"digest": "d", "name": "n", "started": true}]}"#, 7 * second)
            .unwrap();
        assert_eq!((begun.vertexes[0].started.unwrap().seconds, begun.vertexes[0].completed), (7, None));
        let log =
            teller.line(r#"{"logs": [{"vertex": "d", "stream": 2, "data": "x\n"}]}"#, 8 * second).unwrap();
        assert_eq!((log.logs[0].message.as_slice(), log.logs[0].stream), (&b"x\n"[..], 2));
        let text = r#"{"vertexes": [{"digest": "d", "name": "n", "completed": true, "cached": false, "error": "e"}]}"#;
        let ended = teller.line(text, 9 * second + 1).unwrap();
        let vertex = &ended.vertexes[0];
        assert_eq!((vertex.started.unwrap().seconds, vertex.completed.unwrap().nanos), (7, 1));
        assert_eq!(vertex.error, "e");
        let other = teller.line(r#"{"vertexes": [{"name": "x", "completed": true}]}"#, 0).unwrap();
        assert!(other.vertexes[0].digest.starts_with("sha256:"));
        assert_eq!(teller.line("fluyt: something else", 0), None);
    }
}
