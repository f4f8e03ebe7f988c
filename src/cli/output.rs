//! The one place that prints: data to stdout, talk to stderr.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use super::exit::Failure;

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

/// Whether escape sequences are sent to stderr.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// Yes: a terminal, and `NO_COLOR` is not set.
    On,
    /// No.
    Off,
}

impl Colour {
    /// Colour on a terminal, unless `NO_COLOR` is set to anything but nothing.
    pub fn detect(no_color: Option<&std::ffi::OsStr>) -> Self {
        let wanted = no_color.is_none_or(std::ffi::OsStr::is_empty);
        match wanted && io::stderr().is_terminal() {
            true => Self::On,
            false => Self::Off,
        }
    }
}

/// One kind of data that commands print. JSON has all of its fields, tables and CSV have the columns.
pub trait Row: serde::Serialize {
    /// The names of the columns, `snake_case`.
    const COLUMNS: &'static [&'static str];

    /// The cells, as many as columns.
    fn cells(&self) -> Vec<String>;
}

/// The terminal, or whatever stands in for it.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// How data is printed.
    pub format: Format,
    /// No talk but errors.
    pub quiet: bool,
    /// Whether stderr gets colours.
    pub colour: Colour,
}

impl Output {
    /// Prints a list.
    pub fn rows<R: Row>(&self, rows: &[R]) -> Result<(), Failure> {
        self.print(&Self::text(rows, self.format)?)
    }

    /// A list as text.
    pub fn text<R: Row>(rows: &[R], format: Format) -> Result<String, Failure> {
        match format {
            Format::Table | Format::Csv => Sheet::new(format).lot(rows),
            Format::Json => {
                let text = serde_json::to_string_pretty(rows).map_err(Failure::failed)?;
                Ok(format!("{text}\n"))
            }
        }
    }

    /// Prints one thing; as a table one line a field.
    pub fn row<R: Row>(&self, row: &R) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.print(&fields(row)),
            Format::Json => self.json(row),
            Format::Csv => self.print(&csv(std::slice::from_ref(row), true)?),
        }
    }

    /// Prints a JSON document, whatever the format.
    pub fn json<T: serde::Serialize + ?Sized>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
        self.print(&format!("{text}\n"))
    }

    /// Prints text as it is.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        match written {
            // The reader, `head` say, has what it wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Failure::failed(format!("stdout: {error}"))),
        }
    }

    /// Says something that is not data, unless told to be quiet.
    pub fn note(&self, message: impl fmt::Display) {
        if !self.quiet {
            talk(&format!("cos-escrow: {message}\n"));
        }
    }

    /// Says why a command failed, and what may help.
    pub fn failure(&self, failure: &Failure) {
        let mut text = format!("{} {}\n", self.label("error:", RED), failure.message);
        for hint in &failure.hints {
            text.push_str(&format!("{} {hint}\n", self.label("hint:", CYAN)));
        }
        talk(&text);
    }

    fn label(&self, label: &str, colour: &str) -> String {
        match self.colour {
            Colour::On => format!("{colour}{label}{RESET}"),
            Colour::Off => label.to_owned(),
        }
    }
}

/// Nobody is left to be told when stderr fails.
fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Rows that come in lots: one header, and the columns as wide as the first lot needs them.
pub struct Sheet {
    format: Format,
    /// None before the first lot.
    widths: Option<Vec<usize>>,
}

impl Sheet {
    /// A sheet without rows.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            widths: None,
        }
    }

    /// The text of the next rows: JSON one document a line, tables and CSV after their header.
    pub fn lot<R: Row>(&mut self, rows: &[R]) -> Result<String, Failure> {
        let is_first = self.widths.is_none();
        match self.format {
            Format::Json => rows
                .iter()
                .map(|row| serde_json::to_string(row).map(|json| json + "\n"))
                .collect::<Result<_, _>>()
                .map_err(Failure::failed),
            Format::Table => Ok(table(rows, &mut self.widths)),
            Format::Csv => {
                self.widths.get_or_insert_default();
                csv(rows, is_first)
            }
        }
    }
}

fn table<R: Row>(rows: &[R], widths: &mut Option<Vec<usize>>) -> String {
    let header = R::COLUMNS.iter().map(|name| heading(name)).collect();
    let header = widths.is_none().then_some(header);
    let body = rows.iter().map(|row| visible(row.cells()));
    let lines: Vec<Vec<String>> = header.into_iter().chain(body).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths = widths.get_or_insert_with(|| (0..R::COLUMNS.len()).map(width).collect());
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<_> = line
            .iter()
            .zip(&*widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn fields<R: Row>(row: &R) -> String {
    let names: Vec<_> = R::COLUMNS.iter().map(|name| heading(name)).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let cells = visible(row.cells());
    let lines = names.iter().zip(&cells);
    lines
        .map(|(name, cell)| format!("{name:width$}  {cell}").trim_end().to_owned() + "\n")
        .collect()
}

fn heading(column: &str) -> String {
    column.to_uppercase().replace('_', " ")
}

/// What a peer sent must not steer the terminal.
fn visible(cells: Vec<String>) -> Vec<String> {
    let clean = |cell: String| match cell.chars().any(char::is_control) {
        true => cell.escape_debug().to_string(),
        false => cell,
    };
    cells.into_iter().map(clean).collect()
}

fn csv<R: Row>(rows: &[R], header: bool) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if header {
        writer.write_record(R::COLUMNS).map_err(Failure::failed)?;
    }
    for row in rows {
        writer.write_record(row.cells()).map_err(Failure::failed)?;
    }
    let bytes = writer.into_inner().map_err(Failure::failed)?;
    String::from_utf8(bytes).map_err(Failure::failed)
}

const RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Meter {
        serial: &'static str,
        made_by: &'static str,
    }

    impl Row for Meter {
        const COLUMNS: &'static [&'static str] = &["serial", "made_by"];

        fn cells(&self) -> Vec<String> {
            vec![self.serial.to_owned(), self.made_by.to_owned()]
        }
    }

    const METERS: [Meter; 2] = [
        Meter {
            serial: "E1",
            made_by: "Acme, Ltd",
        },
        Meter {
            serial: "E12345678",
            made_by: "\x1b[2J",
        },
    ];

    #[test]
    fn a_table_aligns_and_shows_no_escape_sequence() {
        assert_eq!(
            table(&METERS, &mut None),
            "SERIAL     MADE BY\nE1         Acme, Ltd\nE12345678  \\u{1b}[2J\n"
        );
        assert_eq!(fields(&METERS[0]), "SERIAL   E1\nMADE BY  Acme, Ltd\n");
        assert_eq!(table::<Meter>(&[], &mut None), "SERIAL  MADE BY\n");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let text = csv(&METERS[..1], true).unwrap();
        assert_eq!(text, "serial,made_by\nE1,\"Acme, Ltd\"\n");
    }

    #[test]
    fn lots_have_one_header_and_the_widths_of_the_first() {
        let lots = |format| {
            let mut sheet = Sheet::new(format);
            let first = sheet.lot(&METERS[..1]).unwrap();
            first + &sheet.lot(&METERS[..1]).unwrap()
        };
        assert_eq!(
            lots(Format::Table),
            "SERIAL  MADE BY\nE1      Acme, Ltd\nE1      Acme, Ltd\n"
        );
        assert_eq!(
            lots(Format::Csv),
            "serial,made_by\nE1,\"Acme, Ltd\"\nE1,\"Acme, Ltd\"\n"
        );
        let json = "{\"serial\":\"E1\",\"made_by\":\"Acme, Ltd\"}\n";
        assert_eq!(lots(Format::Json), json.repeat(2));
    }

    #[test]
    fn no_color_is_obeyed() {
        assert_eq!(Colour::detect(Some("1".as_ref())), Colour::Off);
    }
}
