//! How `compose` shows what it does: rows that change on a terminal, a line an event elsewhere, JSON, nothing.
//!
//! On a terminal a thread paints the picture of the board over the last one, ten times a second and in one write; the
//! terminal has no mode to be restored. It begins with the first event and ends with the display.

mod board;
mod picture;

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fluyt_compose::execute::{Event, Report, State};
use fluyt_docker_api::api::{Progress, ProgressMessage};
use fluyt_model::{Error, Result};

use super::Called;
use crate::cli::terminal;
use board::Board;
use picture::{Frame, picture};

/// Between two pictures.
const PAUSE: Duration = Duration::from_millis(100);

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Rows that change.
    Tty,
    /// A line an event.
    Plain,
    /// A line of JSON an event.
    Json,
    /// Nothing.
    Quiet,
}

impl Form {
    /// What `--progress`, `--ansi` and what stands for them in the environment ask for.
    ///
    /// # Errors
    /// They contradict each other, or say something that there is not.
    pub fn asked(progress: &str, ansi: &str, is_terminal: bool) -> Result<Self> {
        match progress {
            "" | "auto" => Ok(if ansi != "never" && is_terminal { Self::Tty } else { Self::Plain }),
            "tty" if ansi == "never" => {
                Err(Error::invalid("can't use --progress tty while ANSI support is disabled"))
            }
            "tty" => Ok(Self::Tty),
            "plain" if ansi == "always" => {
                Err(Error::invalid("can't use --progress plain while ANSI support is forced"))
            }
            "plain" => Ok(Self::Plain),
            "json" | "rawjson" => Ok(Self::Json),
            "quiet" | "none" => Ok(Self::Quiet),
            other => Err(Error::invalid(format!("unsupported --progress value {other:?}"))
                .with_hint("use auto, tty, plain, json or quiet")),
        }
    }

    /// The same for `build`.
    pub fn of_build(self) -> &'static str {
        match self {
            Self::Tty => "tty",
            Self::Plain => "plain",
            Self::Json => "rawjson",
            Self::Quiet => "quiet",
        }
    }
}

/// Whether colours are wanted where `is_terminal` says whether there is anything that shows them.
pub fn colors(ansi: &str, is_terminal: bool) -> bool {
    let none = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    match ansi {
        "never" => false,
        "always" => true,
        _ => is_terminal && !none,
    }
}

/// Shows what is told.
pub struct Display {
    form: Form,
    color: bool,
    /// Starts are not told of: the output of the containers says it.
    attached: bool,
    operation: String,
    screen: Arc<Screen>,
    painter: Mutex<Option<JoinHandle<()>>>,
}

/// What display and painter share.
struct Screen {
    since: Instant,
    painted: Mutex<Painted>,
    over: Condvar,
}

#[derive(Default)]
struct Painted {
    board: Board,
    /// Lines that are to stand above the picture for good.
    above: String,
    /// So many lines the last picture had.
    lines: usize,
    over: bool,
}

impl Display {
    /// For an operation.
    pub fn new(form: Form, color: bool, operation: &str) -> Self {
        let screen = Screen { since: Instant::now(), painted: Mutex::default(), over: Condvar::new() };
        Self {
            form,
            color,
            attached: false,
            operation: operation.to_owned(),
            screen: Arc::new(screen),
            painter: Mutex::default(),
        }
    }

    /// Beside the output of containers: what is told is a line of its own, and starts are not told of.
    #[must_use]
    pub fn beside_output(mut self) -> Self {
        self.attached = true;
        self
    }

    /// In which form it is shown.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Text for good, above the rows.
    pub fn write(&self, text: &str) {
        if self.form == Form::Tty && !self.attached {
            let mut painted = self.screen.lock();
            if !painted.board.is_empty() {
                painted.above.push_str(text);
                return;
            }
        }
        if self.form != Form::Quiet {
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }

    /// Paints the last picture. What is told after that begins a new one.
    pub fn finish(&self) {
        let painter = self.painter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(painter) = painter {
            self.screen.lock().over = true;
            self.screen.over.notify_all();
            let _ = painter.join();
            *self.screen.lock() = Painted::default();
        }
    }

    fn rows(&self, event: &Event<'_>) {
        self.screen.lock().board.note(event, self.screen.since.elapsed());
        let mut painter = self.painter.lock().unwrap_or_else(PoisonError::into_inner);
        if painter.is_none() {
            let (screen, operation, color) = (Arc::clone(&self.screen), self.operation.clone(), self.color);
            *painter = Some(std::thread::spawn(move || screen.paint_on(&operation, color)));
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, Painted> {
        self.painted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Paints until it is over.
    fn paint_on(&self, operation: &str, color: bool) {
        let mut painted = self.lock();
        loop {
            let over = painted.over;
            self.paint(&mut painted, operation, color);
            if over {
                return;
            }
            painted = match self.over.wait_timeout(painted, PAUSE) {
                Ok((painted, _)) => painted,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn paint(&self, painted: &mut Painted, operation: &str, color: bool) {
        let (rows, columns) = terminal::size().unwrap_or((24, 80));
        let frame =
            Frame { operation, columns: columns.into(), rows: rows.into(), color, now: self.since.elapsed() };
        let lines = picture(&painted.board, &frame);
        let mut text = String::from("\x1b[?25l");
        if painted.lines > 0 {
            text.push_str(&format!("\x1b[{}A", painted.lines));
        }
        text.push_str("\r\x1b[J");
        text.push_str(&std::mem::take(&mut painted.above));
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\x1b[?25h");
        painted.lines = lines.len();
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

impl Report for Display {
    fn tell(&self, event: &Event<'_>) {
        if self.attached && matches!(event.text, "Starting" | "Started") {
            return;
        }
        match self.form {
            Form::Quiet => {}
            Form::Tty if !self.attached => self.rows(event),
            // Parts are too many for lines.
            Form::Tty | Form::Plain if !event.parent.is_empty() => {}
            Form::Tty | Form::Plain => eprintln!("{}", line(event)),
            Form::Json => eprintln!("{}", json(event)),
        }
    }

    fn says(&self, who: &str, bytes: &[u8]) {
        let text: String =
            String::from_utf8_lossy(bytes).lines().map(|line| format!("{who} | {line}\n")).collect();
        self.write(&text);
    }
}

fn line(event: &Event<'_>) -> String {
    let line = format!(" {} {} {}", event.thing, event.text, event.details);
    line.trim_end().to_owned()
}

fn json(event: &Event<'_>) -> serde_json::Value {
    let status = match event.state {
        State::Working => "Working",
        State::Done => "Done",
        State::Warning => "Warning",
        State::Failed => "Error",
    };
    let mut map = serde_json::Map::new();
    let texts = [
        ("id", event.thing),
        ("parent_id", event.parent),
        ("status", status),
        ("text", event.text),
        ("details", event.details),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        map.insert(key.to_owned(), text.into());
    }
    for (key, number) in [("current", event.current), ("total", event.total)] {
        if number > 0 {
            map.insert(key.to_owned(), number.into());
        }
    }
    if let Some(percent) = (event.current * 100).checked_div(event.total).filter(|p| *p > 0) {
        map.insert("percent".to_owned(), percent.min(100).into());
    }
    map.into()
}

/// What a pull or a push tells, as parts of an image.
pub struct Layers<'d> {
    display: &'d Display,
    thing: String,
}

impl<'d> Layers<'d> {
    /// Of the thing of this name.
    pub fn of(display: &'d Display, thing: &str) -> Self {
        Self { display, thing: thing.to_owned() }
    }
}

impl Progress for Layers<'_> {
    fn tell(&self, message: ProgressMessage) -> Result<()> {
        let status = message.status.as_str();
        // The opening has the tag where a layer's name is.
        if message.id.is_empty() || status.starts_with("Pulling from") {
            return Ok(());
        }
        let done = matches!(
            status,
            "Pull complete" | "Already exists" | "Pushed" | "Layer already exists" | "Download complete"
        ) || status.starts_with("Mounted from");
        let state = if done { State::Done } else { State::Working };
        let detail = message.detail.unwrap_or_default();
        self.display.tell(&Event {
            parent: &self.thing,
            current: detail.current,
            total: detail.total,
            ..Event::new(&message.id, state, status)
        });
        Ok(())
    }
}

impl Called<'_> {
    /// The variable of Compose that stands for an option that was not given, else the option.
    fn option(&self, name: &str, variable: &str) -> String {
        let given = self.global.given(name).map(str::to_owned);
        given.or_else(|| std::env::var(variable).ok()).unwrap_or_else(|| self.global.text(name).to_owned())
    }

    /// `--ansi`, or `COMPOSE_ANSI`.
    pub fn ansi(&self) -> String {
        self.option("ansi", "COMPOSE_ANSI")
    }

    /// In which form steps are shown.
    ///
    /// # Errors
    /// See [`Form::asked`].
    pub fn form(&self) -> Result<Form> {
        let (progress, ansi) = (self.option("progress", "COMPOSE_PROGRESS"), self.ansi());
        if !["auto", "never", "always", ""].contains(&ansi.as_str()) {
            return Err(Error::invalid(format!("invalid value {ansi:?} for --ansi"))
                .with_hint("use auto, never or always"));
        }
        Form::asked(&progress, &ansi, terminal::stderr_is_terminal())
    }

    /// What shows the steps of an operation.
    ///
    /// # Errors
    /// See [`Form::asked`].
    pub fn display(&self, operation: &str) -> Result<Display> {
        let color = colors(&self.ansi(), terminal::stderr_is_terminal());
        Ok(Display::new(self.form()?, color, operation))
    }

    /// How many things may be done at once: `--parallel`, or `COMPOSE_PARALLEL_LIMIT`; `None`: no limit.
    ///
    /// # Errors
    /// The variable is no number.
    pub fn parallel(&self) -> Result<Option<usize>> {
        let text = self.option("parallel", "COMPOSE_PARALLEL_LIMIT");
        let number: i64 = text.parse().map_err(|_| {
            Error::invalid(format!("COMPOSE_PARALLEL_LIMIT must be an integer (found: {text:?})"))
        })?;
        Ok(usize::try_from(number).ok().filter(|n| *n > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_by_options_and_terminal() {
        let form = |progress, ansi, is_terminal| Form::asked(progress, ansi, is_terminal).ok();
        assert_eq!(form("", "auto", true), Some(Form::Tty));
        assert_eq!(form("auto", "auto", false), Some(Form::Plain));
        assert_eq!(form("", "never", true), Some(Form::Plain));
        assert_eq!(form("tty", "auto", false), Some(Form::Tty));
        assert_eq!(form("tty", "never", true), None);
        assert_eq!(form("plain", "always", true), None);
        assert_eq!(form("json", "auto", true), Some(Form::Json));
        assert_eq!(form("none", "auto", true), Some(Form::Quiet));
        assert_eq!(form("loud", "auto", true), None);
    }

    #[test]
    fn events_as_lines() {
        let event = Event::new("Container a", State::Failed, "Error").details("why");
        assert_eq!(line(&event), " Container a Error why");
        assert_eq!(
            json(&event).to_string(),
            r#"{"details":"why","id":"Container a","status":"Error","text":"Error"}"#
        );
        let part =
            Event { parent: "Image x", current: 1, total: 4, ..Event::new("l", State::Working, "Down") };
        assert_eq!(json(&part)["percent"], 25);
        assert_eq!(json(&part)["parent_id"], "Image x");
    }
}
