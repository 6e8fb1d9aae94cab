//! The processes of a container as a table, read from /proc: no `ps` is needed in the image or on the host.
//!
//! With arguments, the host's own `ps` is asked and its rows for other processes are dropped, as Docker does.

use std::process::Command;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

/// Titles and rows.
pub type Table = (Vec<String>, Vec<Vec<String>>);

/// The table for `pids`; `ps_args` as for ps(1), empty for the form of `ps -ef`.
///
/// # Errors
/// `NotFound` if the host has no `ps` and arguments were given; `Invalid` if their output has no PID column.
pub fn processes(pids: &[i32], ps_args: &[String]) -> Result<Table> {
    if ps_args.is_empty() || ps_args == ["-ef"] {
        let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"].map(str::to_owned).to_vec();
        let rows = pids.iter().filter_map(|pid| row(*pid)).collect();
        return Ok((titles, rows));
    }
    let output = Command::new("ps").args(ps_args).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_found("ps: not installed on this host")
            .with_hint("without arguments the table is made without it"),
        _ => Error::io("ps", e),
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::new(Kind::Invalid, format!("ps: {text}")));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let column = titles
        .iter()
        .position(|t| t == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let width = titles.len();
    let rows = lines.map(|line| fields(line, width)).filter(|row| {
        row.get(column).and_then(|pid| pid.parse::<i32>().ok()).is_some_and(|pid| pids.contains(&pid))
    });
    let rows = rows.collect();
    Ok((titles, rows))
}

/// The words of a line; what is more than `count` stays together in the last one.
fn fields(line: &str, count: usize) -> Vec<String> {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if words.len() > count && count > 0 {
        let last = words.split_off(count - 1).join(" ");
        words.push(last);
    }
    words
}

/// One process; `None` if it has just ended. Fields as in proc(5), /proc/PID/stat.
fn row(pid: i32) -> Option<Vec<String>> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).about(|| "process").ok();
    let stat = read("stat")?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let status = read("status")?;
    let uid = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse::<u32>().ok())?;
    let command = read("cmdline")?.replace('\0', " ").trim_end().to_owned();
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    let used = (number(11) + number(12)) / hertz;
    let uptime: f64 =
        std::fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a processor share in percent needs no more")]
    let age = (uptime - number(19) as f64 / hertz as f64).max(0.01);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as above"
    )]
    let share = (used as f64 * 100.0 / age).min(99.0) as u64;
    Some(vec![
        user(uid),
        pid.to_string(),
        fields.get(1)?.to_string(),
        share.to_string(),
        started(age),
        terminal(number(4)),
        format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60),
        if command.is_empty() { format!("[{name}]") } else { command },
    ])
}

fn user(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.get(2) == Some(&uid.to_string().as_str()));
    found.and_then(|f| f.first().map(|n| (*n).to_owned())).unwrap_or_else(|| uid.to_string())
}

/// Hour and minute (UTC) of a start so many seconds ago.
fn started(age: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds")]
    let time = fluyt_monitor::state::now() - (age * 1e9) as i64;
    let text = fluyt_model::time::rfc3339(time);
    text.get(11..16).unwrap_or("?").to_owned()
}

/// `pts/0` from a device number as the kernel packs it.
fn terminal(device: u64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}
