//! Real log services, one for each test: Debian's rsyslogd on private sockets and ports, and systemd-journald on a private
//! `/run` (see [`mounts::isolate`](crate::mounts::isolate)).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Scratch, wait};

/// A running rsyslogd; it ends with this value.
pub struct Rsyslog {
    child: Child,
    scratch: Scratch,
    port: u16,
}

impl Rsyslog {
    /// Starts one in the calling thread's namespaces, which listens at `/run/log`, at [`Rsyslog::socket`] and, by UDP and
    /// TCP, at [`Rsyslog::port`]; none (said as a skip) where it is not installed. The thread has a `/run` of its own.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start() -> Option<Self> {
        let scratch = Scratch::new("rsyslog");
        let port = wait::free_port();
        let service = Self { child: Self::spawn(&scratch, port)?, scratch, port };
        service.wait();
        Some(service)
    }

    fn spawn(scratch: &Scratch, port: u16) -> Option<Child> {
        let directory = scratch.path().display();
        let config = format!(
            "global(workDirectory=\"{directory}\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             module(load=\"imudp\")\nmodule(load=\"imtcp\")\n\
             input(type=\"imuxsock\" Socket=\"/run/log\" CreatePath=\"on\" RateLimit.Interval=\"0\")\n\
             input(type=\"imuxsock\" Socket=\"{directory}/socket\" RateLimit.Interval=\"0\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"fields\" type=\"string\" string=\"%syslogfacility-text%.%syslogseverity-text%|%hostname%|\
             %app-name%|%procid%|%msgid%|%protocol-version%|%timereported:::date-unixtimestamp%|%inputname%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{directory}/lines\" template=\"fields\")\n"
        );
        let file = scratch.write("rsyslog.conf", config);
        let child = Command::new("rsyslogd")
            .args(["-n", "-f"])
            .arg(file)
            .arg("-i")
            .arg(scratch.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            crate::skip("rsyslogd is not installed");
            return None;
        };
        Some(child)
    }

    fn wait(&self) {
        wait::until("rsyslogd to listen", 20, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port))
                .ok()
                .filter(|_| Path::new("/run/log").exists())
        });
    }

    /// Its socket for datagrams.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }

    /// Its port on 127.0.0.1, UDP and TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote: `facility.severity|host|app|pid|msgid|version|seconds|input|message` lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read(self.scratch.join("lines")).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Waits for a line that contains `needle`; its fields.
    ///
    /// # Panics
    /// It does not come.
    #[must_use]
    pub fn wait_for(&self, needle: &str) -> Vec<String> {
        let line = wait::until(&format!("{needle} at rsyslogd"), 20, || {
            self.lines().into_iter().find(|l| l.contains(needle))
        });
        line.splitn(9, '|').map(str::to_owned).collect()
    }

    /// Ends it and starts it again, as an administrator does.
    ///
    /// # Panics
    /// It does not come up.
    pub fn restart(&mut self) {
        self.stop();
        self.child = Self::spawn(&self.scratch, self.port).expect("it was installed a moment ago");
        self.wait();
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for socket in [PathBuf::from("/run/log"), self.socket()] {
            let _ = fs::remove_file(socket);
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running systemd-journald; it ends with this value.
pub struct Journald {
    child: Child,
}

impl Journald {
    /// Starts one in the calling thread's mount namespace, with a volatile journal below its own `/run`; none (said as a
    /// skip) where it is not installed.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start() -> Option<Self> {
        // A machine with a journal of its own is not to be read from or written to by a test.
        fs::create_dir_all("/run/systemd/journald.conf.d").expect("an own /run");
        let config = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\nForwardToSyslog=no\nForwardToWall=no\n";
        fs::write("/run/systemd/journald.conf.d/test.conf", config).expect("an own /run");
        if !Path::new("/etc/machine-id").exists() {
            crate::skip("a journal needs /etc/machine-id");
            return None;
        }
        let service = Self { child: Self::spawn()? };
        service.wait();
        Some(service)
    }

    fn spawn() -> Option<Child> {
        let child = Command::new("/lib/systemd/systemd-journald")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            crate::skip("systemd-journald is not installed");
            return None;
        };
        Some(child)
    }

    fn wait(&self) {
        wait::until("journald to listen", 20, || {
            let socket = std::os::unix::net::UnixDatagram::unbound().ok()?;
            socket.connect("/run/systemd/journal/socket").ok()
        });
    }

    /// Ends it and starts it again.
    ///
    /// # Panics
    /// It does not come up.
    pub fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = Self::spawn().expect("it was installed a moment ago");
        self.wait();
    }

    /// What `journalctl` says with these words.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn journalctl(&self, words: &[&str]) -> String {
        let output = Command::new("journalctl").args(["--quiet", "--no-pager"]).args(words).output();
        String::from_utf8_lossy(&output.expect("journalctl is installed").stdout).into_owned()
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
