//! What differs between meters, as data: one TOML file a type of meter, so that a new type needs no code.
//!
//! ```toml
//! makes = ["EDMI Mk10"]        # which meters: beginnings of the package's `meter.make`; the longest that fits wins
//! [line]                       # how patient to be; all optional
//! connect_seconds = 20         # 1 to 300: until a connection has come about
//! answer_seconds = 30          # 1 to 300: until an answer has come
//! pause_milliseconds = 0       # up to 60000: between two connections; some meters keep the old one open for a while
//! [dlms]                       # the protocol; all but `objects` and `read` optional
//! public_client = 16           # SAP of the client that anybody may be
//! management_client = 1        # SAP of the client that may change keys
//! server = 1                   # SAP of the management logical device
//! key_transfer = "together"    # or `one_by_one`: GAK, then GUEK, for meters that take no array of two
//! secret_change = "attribute"  # other clients' secrets: SET attribute 7, or `change_HLS_secret`: `plain` or `wrapped`
//! get_with_list = false        # whether several attributes are read in one request, which saves round trips; a meter
//!                              # that refuses is asked one by one, one that hangs up instead needs `false`
//! [[dlms.clients]]             # other clients; only for meters that do not tell whose an association is
//! client = 2
//! association = "0.0.40.0.2.255"
//! mechanism = 1                # 0 none, 1 password, 5 GMAC …; `security` names its set-up
//! [dlms.objects]               # logical names; what is not named, the meter has not
//! serial = "0.0.96.1.0.255"    # also device_name, firmware, clock, counter, push, apn, port, auto_connect
//! security = "0.0.43.0.0.255"  # the management client's security set-up; required
//! [dlms.read]                  # the read of the change of supplier
//! registers = ["1.0.1.8.0.255"]
//! frozen = "1.0.98.1.0.255"    # optional: the profile in which the meter freezes them, read by selective access
//! ```
//! or, in the place of `dlms`:
//!
//! ```toml
//! [iec62056-21]                # mode C; all but `passwords` and `read` optional
//! readout = true               # whether a readout shows anybody the serial number
//! login = "plain"              # how a password answers a seed; there is no other way yet
//! [iec62056-21.passwords]
//! length = 8                   # always exactly so many characters
//! characters = "0123456789ABCDEF"
//! wrong_in_a_row = 2           # wrong passwords before a pause: fewer than make the meter lock
//! level_1 = "C003.1"           # the registers that take new passwords, all written at level 3
//! level_3 = "C003.3"           # level_3 is required
//! [iec62056-21.registers]      # what is not named, the meter has not
//! serial = "C.1.0"             # also firmware, date, time
//! [iec62056-21.settings]
//! apn = "C090.APN"             # also push, port
//! [[iec62056-21.read]]         # the read of the change of supplier
//! at = "1.8.0"
//! is = "1.0.1.8.0.255"
//! ```
//! The name of a file, without `.toml`, is the profile's name. The profile named like the protocol serves all meters that
//! no other names. A profile in the operator's folder takes the place of a built-in one of the same name.

mod dlms;
mod iec62056_21;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub use dlms::{Dlms, KeyTransfer, Objects, OtherClient, Read, SecretChange};
pub use iec62056_21::{LoginForm, ModeC, Passwords, ReadRegister, Registers};

use super::link::{Item, SettingName};

/// Everything about one type of meter that a takeover must know.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How journals and reports call it.
    pub name: String,
    /// The makes that it is for.
    makes: Vec<String>,
    /// How patient to be.
    pub line: Line,
    /// How it is spoken to.
    pub protocol: Protocol,
}

/// How a type of meter is spoken to.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// DLMS/COSEM over the TCP wrapper.
    Dlms(Dlms),
    /// IEC 62056-21 mode C over a transparent TCP connection.
    ModeC(Box<ModeC>),
}

/// How patient to be with a type of meter.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Line {
    connect_seconds: u16,
    answer_seconds: u16,
    pause_milliseconds: u16,
}

/// The profiles that are known.
#[derive(Clone, Debug)]
pub struct Profiles(BTreeMap<String, Arc<Profile>>);

/// A profile as it stands in its file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    makes: Vec<String>,
    #[serde(default)]
    line: Line,
    dlms: Option<Dlms>,
    #[serde(rename = "iec62056-21")]
    mode_c: Option<ModeC>,
}

impl Profiles {
    /// Those that are compiled in.
    pub fn built_in() -> Self {
        let mut profiles = Self(BTreeMap::new());
        for (name, text) in BUILT_IN {
            let profile = Profile::parse(name, text).expect("built-in profiles are valid");
            profiles.add(profile);
        }
        profiles
    }

    /// Adds every `*.toml` of a folder.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), ProfileError> {
        let unreadable = |error: std::io::Error| ProfileError {
            place: folder.display().to_string(),
            problem: error.to_string(),
        };
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path).map_err(|error| ProfileError {
                place: path.display().to_string(),
                problem: error.to_string(),
            })?;
            self.add(Profile::parse(&name, &text)?);
        }
        Ok(())
    }

    /// Adds a profile, in the place of one of the same name.
    pub fn add(&mut self, profile: Profile) {
        self.0.insert(profile.name.clone(), Arc::new(profile));
    }

    /// The profile of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.0.get(name)
    }

    /// The profile for a make that speaks a protocol, such as `dlms`: the one with the longest beginning of the make, or
    /// else the one named like the protocol.
    pub fn choose(&self, make: &str, protocol: &str) -> Option<&Arc<Profile>> {
        let make = make.to_ascii_lowercase();
        let fit = |profile: &&Arc<Profile>| profile.protocol.name() == protocol;
        let named = self.0.values().filter(fit).filter_map(|profile| {
            let makes = profile.makes.iter();
            let fits = makes.filter(|start| make.starts_with(&start.to_ascii_lowercase()));
            Some((fits.map(String::len).max()?, profile))
        });
        let longest = named.max_by_key(|(length, _)| *length);
        longest
            .map(|(_, profile)| profile)
            .or_else(|| self.get(protocol))
    }
}

impl Profile {
    /// The profile in the text of a file.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let wrong = |problem: String| ProfileError {
            place: format!("{name}.toml"),
            problem,
        };
        let document: Document =
            toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        let protocol = match (document.dlms, document.mode_c) {
            (Some(dlms), None) => Protocol::Dlms(dlms),
            (None, Some(mode_c)) => Protocol::ModeC(Box::new(mode_c)),
            _ => {
                return Err(wrong(
                    "one table `dlms` or `iec62056-21` is needed".to_owned(),
                ));
            }
        };
        let profile = Self {
            name: name.to_owned(),
            makes: document.makes,
            line: document.line,
            protocol,
        };
        match profile.problem() {
            Some(problem) => Err(wrong(problem)),
            None => Ok(profile),
        }
    }

    /// The same, by another name, for other makes.
    #[must_use]
    pub fn for_makes(&self, name: &str, makes: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            makes,
            ..self.clone()
        }
    }

    /// Whether meters of this type have a setting.
    pub fn offers(&self, setting: SettingName) -> bool {
        match &self.protocol {
            Protocol::Dlms(dlms) => dlms.objects.setting(setting).is_some(),
            Protocol::ModeC(mode_c) => mode_c.setting(setting).is_some(),
        }
    }

    /// Whether meters of this type tell an item.
    pub fn shows(&self, item: Item) -> bool {
        match &self.protocol {
            Protocol::Dlms(dlms) => dlms.objects.item(item).is_some(),
            Protocol::ModeC(mode_c) => mode_c.shows(item),
        }
    }

    /// How many wrong secrets in a row are dared before a pause.
    pub fn wrong_in_a_row(&self) -> u32 {
        match &self.protocol {
            Protocol::Dlms(_) => WRONG_IN_A_ROW,
            Protocol::ModeC(mode_c) => mode_c.passwords.wrong_in_a_row,
        }
    }

    /// Whether the secrets that open a meter of this type are changed in a request each.
    pub fn changes_one_by_one(&self) -> bool {
        match &self.protocol {
            Protocol::Dlms(dlms) => dlms.key_transfer == KeyTransfer::OneByOne,
            Protocol::ModeC(_) => true,
        }
    }

    fn problem(&self) -> Option<String> {
        if self.makes.iter().any(|make| make.trim().is_empty()) {
            return Some("`makes`: an empty beginning fits every meter".to_owned());
        }
        self.line.problem().or_else(|| match &self.protocol {
            Protocol::Dlms(dlms) => dlms.problem(),
            Protocol::ModeC(mode_c) => mode_c.problem(),
        })
    }
}

impl Protocol {
    /// The name of the protocol, as in profiles.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dlms(_) => "dlms",
            Self::ModeC(_) => "iec62056-21",
        }
    }
}

impl Line {
    /// How long a connection may take to come about.
    pub fn connect_within(&self) -> Duration {
        Duration::from_secs(self.connect_seconds.into())
    }

    /// How long an answer may take.
    pub fn answer_within(&self) -> Duration {
        Duration::from_secs(self.answer_seconds.into())
    }

    /// How long to wait between two connections.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_milliseconds.into())
    }

    fn problem(&self) -> Option<String> {
        let seconds = [
            ("connect_seconds", self.connect_seconds),
            ("answer_seconds", self.answer_seconds),
        ];
        let wrong = seconds
            .into_iter()
            .find(|(_, value)| !(1..=300).contains(value));
        if let Some((name, value)) = wrong {
            return Some(format!("`line.{name}` is `{value}`, not from 1 to 300"));
        }
        (self.pause_milliseconds > 60_000)
            .then(|| "`line.pause_milliseconds` is more than 60000".to_owned())
    }
}

impl Default for Line {
    /// What suits a meter behind a mobile network.
    fn default() -> Self {
        Self {
            connect_seconds: 20,
            answer_seconds: 30,
            pause_milliseconds: 0,
        }
    }
}

/// A profile cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("meter profile `{place}`: {problem}")]
pub struct ProfileError {
    place: String,
    problem: String,
}

/// Meters lock their doors after a few failures; how many differs, and nobody tells.
const WRONG_IN_A_ROW: u32 = 3;
const BUILT_IN: [(&str, &str); 2] = [
    ("dlms", include_str!("../../../policies/meters/dlms.toml")),
    (
        "simulated-mode-c",
        include_str!("../../../policies/meters/simulated-mode-c.toml"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[dlms.objects]\nsecurity = \"0.0.43.0.0.255\"\n[dlms.read]\nregisters = [\"1.0.1.8.0.255\"]\n";

    fn error(text: &str) -> String {
        Profile::parse("odd", text).unwrap_err().to_string()
    }

    #[test]
    fn the_longest_make_that_fits_wins_and_the_protocol_serves_the_rest() {
        let mut profiles = Profiles::built_in();
        for (name, makes) in [
            ("edmi", r#"["EDMI"]"#),
            ("mk10", r#"["Other", "EDMI mk10"]"#),
        ] {
            let text = format!("makes = {makes}\n{SMALL}");
            profiles.add(Profile::parse(name, &text).unwrap());
        }
        for (make, expected) in [
            ("EDMI Mk10A", Some("mk10")),
            ("edmi Mk7", Some("edmi")),
            ("Elster A1700", Some("dlms")),
            ("", Some("dlms")),
        ] {
            let chosen = profiles.choose(make, "dlms").map(|p| p.name.as_str());
            assert_eq!(chosen, expected, "{make}");
        }
        assert!(profiles.choose("EDMI Mk10A", "smoke-signals").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_said_with_its_place() {
        for (text, expected) in [
            ("", "one table `dlms` or `iec62056-21` is needed"),
            ("mekes = []\n", "unknown field `mekes`"),
            (
                "[line]\nanswer_seconds = 0\n",
                "`line.answer_seconds` is `0`",
            ),
            ("[line]\npause_milliseconds = 65000\n", "more than 60000"),
            ("makes = [\" \"]\n", "empty beginning"),
        ] {
            let found = error(&format!(
                "{text}{}",
                if text.is_empty() { "" } else { SMALL }
            ));
            assert!(found.starts_with("meter profile `odd.toml`: "), "{found}");
            assert!(found.contains(expected), "{found}");
        }
        let bad_name = SMALL.replace("0.0.43.0.0.255", "0.0.43.0.0");
        assert!(error(&bad_name).contains("six numbers"));
    }

    #[test]
    fn a_folder_adds_profiles_and_replaces_built_in_ones() {
        let folder = tempfile::tempdir().unwrap();
        let patient = format!("[line]\nanswer_seconds = 77\n{SMALL}");
        fs::write(folder.path().join("dlms.toml"), &patient).unwrap();
        fs::write(folder.path().join("README"), "not a profile").unwrap();
        let mut profiles = Profiles::built_in();
        profiles.add_folder(folder.path()).unwrap();
        let changed = profiles.get("dlms").unwrap();
        assert_eq!(changed.line.answer_within(), Duration::from_secs(77));
        assert!(!changed.offers(SettingName::Apn));
        fs::write(folder.path().join("bad.toml"), "nonsense").unwrap();
        assert!(profiles.add_folder(folder.path()).is_err());
        assert!(profiles.add_folder(&folder.path().join("none")).is_err());
    }
}
