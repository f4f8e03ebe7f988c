//! `meter export-keys` and `meter open-keys`: the keys of taken-over meters on their way to the supplier's own head end.
//!
//! The file is `envelope::KeyExport`. Its content as JSON, `cos-escrow/meter-keys/1`:
//!
//! ```json
//! { "format": "cos-escrow/meter-keys/1", "meters": [
//!   { "handover": "ho_…", "supply_point": "9693016118873", "serial": "E19B762798", "address": "10.31.22.221:4059",
//!     "protocol": "dlms", "suite": 0, "system_title": "4D4D4D0000BC614E", "guek": "…", "gak": "…", "kek": "…",
//!     "gbek": "…", "invocation_counter": 96 },
//!   { "handover": "ho_…", "supply_point": "…", "serial": "…", "address": "…",
//!     "protocol": "iec62056-21", "outstation": "001", "password_1": "…", "password_3": "…" } ] }
//! ```
//! Keys are hexadecimal. `other_clients` has the secrets of a meter's other clients, such as
//! `secret of client 17: 0011…; GUEK of client 18: 2233…`. `invocation_counter` is the highest that was used or may have been: go on above it. `gbek` and
//! the passwords of levels that the meter has not are left out. As CSV the same fields are columns, in the order of
//! `COLUMNS`, empty where JSON leaves them out.

use std::path::{Path, PathBuf};

use serde::Serialize;
use zeroize::Zeroizing;

use super::desk::{self, Desk};
use crate::cli::connect::now;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files::{self, NewFile};
use crate::cli::key::file as key_file;
use crate::cli::output::{Output, Row};
use crate::dlms::keys::{KeyRole, key_name};
use crate::envelope::{ExportProfile, KeyExport};
use crate::meter::journal::{Journal, Query, Record, State};
use crate::meter::link::DeviceId;
use crate::meter::secrets::{KeySet, Level, Secrets};
use crate::types::{HandoverId, KeyId, Secret, SystemRandom};

/// Which keys, for whom.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    desk: desk::Files,
    /// To whom: the head end's sealing key, or its public half as `key public` prints it.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The new file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The form inside.
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Only these takeovers; may be given several times.
    #[arg(long, value_name = "HANDOVER")]
    handover: Vec<HandoverId>,
}

/// The form inside.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Profile {
    /// One JSON document.
    #[default]
    Json,
    /// Comma-separated values with a header.
    Csv,
}

/// What to open.
#[derive(clap::Args, Debug)]
pub(super) struct Open {
    /// The file that `export-keys` wrote.
    file: PathBuf,
    /// The sealing key that it is sealed to.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The new file, for the owner alone.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What was exported, or opened.
#[derive(Serialize)]
struct Done {
    file: String,
    /// How many meters, where that is known.
    meters: Option<usize>,
    key_id: KeyId,
}

impl Row for Done {
    const COLUMNS: &'static [&'static str] = &["file", "meters", "key_id"];

    fn cells(&self) -> Vec<String> {
        let meters = self.meters.map(|meters| meters.to_string());
        let key_id = self.key_id.to_string();
        vec![self.file.clone(), meters.unwrap_or_default(), key_id]
    }
}

/// Seals the keys of meters that were taken over.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let to = key_file::read_public(&arguments.to)?;
    let journal = Desk::look(&arguments.desk).await?.journal;
    let file = NewFile::create(&arguments.out)?;
    let mut content = Content::start(arguments.profile);
    let named = &arguments.handover;
    let wanted = |handover: &HandoverId| named.is_empty() || named.contains(handover);
    let mut query = Query {
        states: vec![State::Reported],
        limit: PAGE,
        ..Query::default()
    };
    loop {
        let page = journal.list(&query).await?;
        let Some(last) = page.last() else { break };
        query.after = Some(last.handover);
        let taken = page.iter().filter(|status| status.stopped.is_none());
        for status in taken.filter(|status| wanted(&status.handover)) {
            let meter = Exported::read(&journal, status.handover).await?;
            content.add(&meter)?;
        }
    }
    if content.meters == 0 {
        let none = "no meter of this journal is taken over";
        return Err(Failure::new(Exit::NotFound, none));
    }
    let meters = content.meters;
    let (content, profile) = content.finish();
    let sealed = KeyExport::seal(&content, profile, &to, now(), &SystemRandom);
    file.write(&sealed.map_err(Failure::failed)?.encode())?;
    output.row(&Done {
        file: arguments.out.display().to_string(),
        meters: Some(meters),
        key_id: to.id(),
    })
}

/// Opens an export into a new file for the owner alone.
pub(super) fn open(arguments: &Open, output: &Output) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        let place = arguments.file.display();
        Failure::new(Exit::Unverified, format!("`{place}`: {error}"))
    };
    let export = KeyExport::decode(&files::read(&arguments.file)?).map_err(|e| wrong(&e))?;
    let key = key_file::read(&arguments.key)?;
    let content = export.open(&key).map_err(|e| wrong(&e))?;
    write_new(&arguments.out, &content)?;
    output.row(&Done {
        file: arguments.out.display().to_string(),
        meters: None,
        key_id: export.key_id(),
    })
}

fn write_new(path: &Path, content: &Secret) -> Result<(), Failure> {
    NewFile::create(path)?.write(content.expose())
}

/// A meter with what opens it.
struct Exported {
    handover: HandoverId,
    record: Record,
    secrets: Secrets,
    /// The highest invocation counter.
    counter: u32,
}

impl Exported {
    async fn read(journal: &Journal, handover: HandoverId) -> Result<Self, Failure> {
        let mut record = journal.record(handover).await?;
        let newest = record.sets.pop_last().map(|(_, set)| set);
        let secrets = newest.ok_or_else(|| Failure::failed("a takeover has no keys"))?;
        let counter = match secrets.keys() {
            Some(keys) => journal.highest_counter(key_name(keys.guek())).await?,
            None => 0,
        };
        Ok(Self {
            handover,
            record,
            secrets,
            counter,
        })
    }

    /// The fields in the order of `COLUMNS`.
    fn fields(&self) -> Vec<Field> {
        let meter = &self.record.meter;
        let moved = meter.repoint.as_ref().and_then(|repoint| repoint.address);
        let way = meter.ways.get(self.record.progress.way);
        let address = moved.or(way.map(|way| way.address));
        let text = |value: &dyn ToString| Field::Text(Zeroizing::new(value.to_string()));
        let mut fields = vec![
            text(&self.handover),
            text(&meter.supply_point),
            text(&meter.serial),
            address.map_or(Field::None, |address| text(&address)),
            text(&self.secrets.protocol()),
        ];
        match &self.secrets {
            Secrets::Keys(keys) => {
                fields.extend(self.of_keys(keys));
                fields.extend((0..4).map(|_| Field::None));
                fields.push(others(keys));
            }
            Secrets::Passwords(passwords) => {
                fields.extend((0..7).map(|_| Field::None));
                fields.push(match way.map(|way| &way.device) {
                    Some(DeviceId::Outstation(address)) => text(address),
                    Some(DeviceId::SystemTitle(_)) | None => Field::None,
                });
                let levels = [Level::One, Level::Two, Level::Three];
                fields.extend(levels.map(|level| {
                    let password = passwords.password(level);
                    let shown = password.map(|p| String::from_utf8_lossy(p.expose()).into_owned());
                    shown.map_or(Field::None, |shown| Field::Text(Zeroizing::new(shown)))
                }));
                fields.push(Field::None);
            }
        }
        fields
    }

    fn of_keys(&self, keys: &KeySet) -> [Field; 7] {
        let way = self.record.meter.ways.get(self.record.progress.way);
        let title = match way.map(|way| &way.device) {
            Some(DeviceId::SystemTitle(title)) => Field::Text(Zeroizing::new(title.to_string())),
            Some(DeviceId::Outstation(_)) | None => Field::None,
        };
        let key = |role| {
            keys.key(role)
                .map_or(Field::None, |key| Field::Text(hex(key)))
        };
        [
            Field::Number(keys.suite().id().into()),
            title,
            key(KeyRole::Guek),
            key(KeyRole::Gak),
            key(KeyRole::Kek),
            key(KeyRole::Gbek),
            Field::Number(self.counter),
        ]
    }
}

/// What other clients of a meter come in with.
fn others(keys: &KeySet) -> Field {
    let mut text = Zeroizing::new(String::with_capacity(RECORD_BYTES));
    for (role, secret) in keys.others() {
        let separator = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!("{separator}{role}: "));
        text.push_str(&hex(secret));
    }
    match text.is_empty() {
        true => Field::None,
        false => Field::Text(text),
    }
}

enum Field {
    Text(Zeroizing<String>),
    Number(u32),
    None,
}

fn hex(key: &Secret) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = key.expose();
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

/// The content as it grows; what it grew out of is zeroized.
struct Content {
    profile: Profile,
    bytes: Zeroizing<Vec<u8>>,
    meters: usize,
}

impl Content {
    fn start(profile: Profile) -> Self {
        let mut content = Self {
            profile,
            bytes: Zeroizing::new(Vec::with_capacity(RECORD_BYTES)),
            meters: 0,
        };
        match profile {
            Profile::Json => content.put(b"{\"format\":\"cos-escrow/meter-keys/1\",\"meters\":["),
            Profile::Csv => content.put(COLUMNS.join(",").as_bytes()),
        }
        content
    }

    fn add(&mut self, meter: &Exported) -> Result<(), Failure> {
        let fields = meter.fields();
        match self.profile {
            Profile::Json => self.add_json(&fields)?,
            Profile::Csv => self.add_csv(&fields),
        }
        self.meters += 1;
        Ok(())
    }

    fn add_json(&mut self, fields: &[Field]) -> Result<(), Failure> {
        self.put(if self.meters == 0 { b"\n{" } else { b",\n{" });
        let mut separator = "";
        for (name, field) in COLUMNS.iter().zip(fields) {
            let mut value = Zeroizing::new(Vec::with_capacity(RECORD_BYTES));
            let written = match field {
                Field::None => continue,
                Field::Text(text) => serde_json::to_writer(&mut *value, text.as_str()),
                Field::Number(number) => serde_json::to_writer(&mut *value, number),
            };
            written.map_err(Failure::failed)?;
            self.put(format!("{separator}\"{name}\":").as_bytes());
            self.put(&value);
            separator = ",";
        }
        self.put(b"}");
        Ok(())
    }

    fn add_csv(&mut self, fields: &[Field]) {
        let mut separator: &[u8] = b"\n";
        for field in fields {
            self.put(separator);
            separator = b",";
            match field {
                Field::None => {}
                Field::Number(number) => self.put(number.to_string().as_bytes()),
                Field::Text(text) if text.contains(['"', ',', '\n', '\r']) => {
                    let quoted = Zeroizing::new(text.replace('"', "\"\""));
                    self.put(b"\"");
                    self.put(quoted.as_bytes());
                    self.put(b"\"");
                }
                Field::Text(text) => self.put(text.as_bytes()),
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            // A plain reallocation would leave the keys behind in what it frees.
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * needed));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn finish(mut self) -> (Secret, ExportProfile) {
        let profile = match self.profile {
            Profile::Json => {
                self.put(b"\n]}\n");
                ExportProfile::Json
            }
            Profile::Csv => {
                self.put(b"\n");
                ExportProfile::Csv
            }
        };
        (Secret::new(std::mem::take(&mut *self.bytes)), profile)
    }
}

const COLUMNS: [&str; 17] = [
    "handover",
    "supply_point",
    "serial",
    "address",
    "protocol",
    "suite",
    "system_title",
    "guek",
    "gak",
    "kek",
    "gbek",
    "invocation_counter",
    "outstation",
    "password_1",
    "password_2",
    "password_3",
    "other_clients",
];
/// More than a record takes.
const RECORD_BYTES: usize = 2_048;
/// Takeovers that are looked up at a time.
const PAGE: u32 = 500;
