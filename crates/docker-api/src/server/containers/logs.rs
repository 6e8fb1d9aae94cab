//! `GET /containers/{id}/logs`.

use std::io::{self, Write};

use fluyt_http::Response;
use fluyt_model::{Error, Result};

use super::super::call::Call;
use super::super::flow;
use super::super::session::{frame, media_type};
use crate::api::{LogLine, LogsOf};
use crate::time;

/// Answers it.
pub fn logs(call: &mut Call<'_, '_>) -> Result<Response> {
    let (stdout, stderr) = (call.flag("stdout"), call.flag("stderr"));
    if !stdout && !stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let wanted = LogsOf {
        follow: call.flag("follow"),
        stdout,
        stderr,
        since: call.time("since")?,
        // Zero has always meant that there is no end.
        until: call.time("until")?.filter(|until| *until != 0),
        tail: call.text("tail").parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()),
        details: call.flag("details"),
    };
    let timestamps = call.flag("timestamps");
    let logs = call.docker.container_logs(call.name(), wanted)?;
    let framed = !logs.tty;
    let response = Response::new(200).header("Content-Type", media_type(framed, call.version));
    Ok(flow::items(response, logs.lines, move |out, line: LogLine| {
        write(out, &line, framed, timestamps, wanted.details)
    }))
}

/// One line, with what was asked to stand before it.
fn write(
    out: &mut dyn Write,
    line: &LogLine,
    framed: bool,
    timestamps: bool,
    details: bool,
) -> io::Result<()> {
    let mut prefix = String::new();
    if timestamps {
        prefix = time::rfc3339_nano_fixed(line.time) + " ";
    }
    if details {
        let all: Vec<String> = line.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        prefix.push_str(&all.join(","));
        prefix.push(' ');
    }
    if framed {
        out.write_all(&frame(line.stream, prefix.len() + line.line.len()))?;
    }
    if !prefix.is_empty() {
        out.write_all(prefix.as_bytes())?;
    }
    out.write_all(&line.line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Stream;

    #[test]
    fn lines_have_frames_times_and_details() {
        let line = LogLine {
            stream: Stream::Stderr,
            time: 1_500_000_000,
            line: b"x\n".to_vec(),
            attributes: vec![("a".to_owned(), "b".to_owned())],
        };
        let text = |framed, timestamps, details| {
            let mut out = Vec::new();
            write(&mut out, &line, framed, timestamps, details).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(true, false, false), "\x02\0\0\0\0\0\0\x02x\n");
        assert_eq!(text(false, true, true), "1970-01-01T00:00:01.500000000Z a=b x\n");
    }
}
