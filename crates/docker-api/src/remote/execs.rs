//! Commands in containers.

use fluyt_model::{Kind, Result};
use serde::{Deserialize, Serialize};

use super::Remote;
use super::client::{Request, segment};
use super::containers::command_failure;
use super::session::{Session, Subject};
use crate::api::*;
use crate::types::{ExecInspect, ExecOptions};

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Start {
    detach: bool,
    tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    console_size: Option<[u16; 2]>,
}

impl Execs for Remote {
    fn exec_create(&self, container: &str, options: &ExecOptions) -> Result<String> {
        let request =
            Request::new("POST", format!("/containers/{}/exec", segment(container))).json(options)?;
        let created: Created = self.client.call(request)?.json()?;
        Ok(created.id)
    }

    fn exec_start(&self, id: &str, how: StartExec) -> Result<Option<Box<dyn Attached>>> {
        let size = how.size.filter(|_| how.tty).map(|(rows, columns)| [rows, columns]);
        let body = Start { detach: how.detach, tty: how.tty, console_size: size };
        let request = Request::new("POST", format!("/exec/{}/start", segment(id))).json(&body)?;
        if how.detach {
            self.client.call(request).map_err(command_failure)?.done()?;
            return Ok(None);
        }
        let connection = self.client.hijack(request).map_err(command_failure)?;
        Ok(Some(Box::new(Session::new(self, Subject::Exec(id.to_owned()), connection, how.tty))))
    }

    fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let request = Request::new("POST", format!("/exec/{}/resize", segment(id)))
            .query("h", &rows.to_string())
            .query("w", &columns.to_string());
        match self.client.call(request) {
            Ok(answer) => answer.done(),
            Err(e) if e.kind() == Kind::Internal => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        self.client.call(Request::new("GET", format!("/exec/{}/json", segment(id))))?.json()
    }
}
