//! Commands in containers.

use std::sync::PoisonError;

use fluyt_engine::{ExecOptions as Options, ExecRecord};
use fluyt_model::{Error, Kind, Result};

use super::Local;
use super::attach::{Session, Told, Wants};
use crate::api::*;
use crate::types::{ExecInspect, ExecOptions, ExecProcess};

impl Execs for Local {
    fn exec_create(&self, container: &str, options: &ExecOptions) -> Result<String> {
        let document =
            serde_json::to_value(options).map_err(|e| Error::internal("the command").with_source(e))?;
        let wanted = Options {
            args: options.cmd.to_vec(),
            env: options.env.to_vec(),
            cwd: options.working_dir.clone(),
            user: options.user.clone(),
            privileged: options.privileged,
            tty: options.tty.then(|| options.console_size.map_or((0, 0), |[rows, columns]| (rows, columns))),
            stdin: options.attach_stdin,
        };
        let container = container.strip_prefix('/').unwrap_or(container);
        self.engine()?.exec_make(container, wanted, document)
    }

    fn exec_check(&self, id: &str) -> Result<()> {
        self.engine()?.exec_check(id)
    }

    fn exec_start(&self, id: &str, how: StartExec) -> Result<Option<Box<dyn Attached>>> {
        let engine = self.engine()?;
        let (record, _) = engine.exec_look(id)?;
        let asked = asked(&record);
        let started = engine.exec_begin(id, !how.detach, how.size)?;
        let lock = |e: PoisonError<_>| e.into_inner();
        self.shared.children.lock().unwrap_or_else(lock).push(started.keeper);
        if asked.tty {
            let mut controls = self.shared.controls.lock().unwrap_or_else(PoisonError::into_inner);
            controls.insert(id.to_owned(), started.control);
        }
        let wants = Wants { stdout: asked.attach_stdout, stderr: asked.attach_stderr };
        let told = Told {
            local: self.clone(),
            container: record.container,
            action: "exec_detach",
            exec: Some(id.to_owned()),
        };
        let session = started.session.map(|attach| Session::live(attach, wants).telling(told));
        Ok(session.map(|session| Box::new(session) as Box<dyn Attached>))
    }

    fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let ended = || Error::conflict(format!("exec process {id} is not running"));
        // The keeper may be there for a moment after the end.
        if self.engine()?.exec_look(id)?.0.exit_code.is_some() {
            return Err(ended());
        }
        let mut controls = self.shared.controls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(control) = controls.get_mut(id) {
            return match control.resize(rows, columns) {
                Err(e) if e.kind() == Kind::Unavailable => {
                    controls.remove(id);
                    Err(ended())
                }
                other => other,
            };
        }
        drop(controls);
        let (record, running) = self.engine()?.exec_look(id)?;
        Err(match (running, asked(&record).tty) {
            (true, true) => Error::conflict(format!("exec process {id} was started by another engine")),
            (true, false) => return Ok(()),
            _ => ended(),
        })
    }

    fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        let (record, running) = self.engine()?.exec_look(id)?;
        let asked = asked(&record);
        let mut words = record.options.args.iter().cloned();
        Ok(ExecInspect {
            id: record.id.clone(),
            running,
            exit_code: record.exit_code.map(i64::from),
            process_config: ExecProcess {
                tty: asked.tty,
                entrypoint: words.next().unwrap_or_default(),
                arguments: words.collect::<Vec<_>>().into(),
                privileged: Some(asked.privileged),
                user: asked.user,
            },
            open_stdin: asked.attach_stdin,
            open_stderr: asked.attach_stderr,
            open_stdout: asked.attach_stdout,
            can_remove: record.exit_code.is_some(),
            container_id: record.container,
            detach_keys: asked.detach_keys,
            pid: record.pid.into(),
        })
    }
}

/// What was asked for, in Docker's words.
fn asked(record: &ExecRecord) -> ExecOptions {
    serde_json::from_value(record.document.clone()).unwrap_or_default()
}
