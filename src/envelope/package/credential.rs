//! What opens a meter: DLMS keys or passwords.

use serde::Deserialize;

use crate::envelope::header::{DLMS_NEEDED, PASSWORD_NEEDED};
use crate::envelope::json::{ObjectWriter, Problem};

use super::{SecretHex, SecretText, Text};

/// What opens a meter, or one part of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The keys of one DLMS association.
    Dlms(Box<Dlms>),
    /// The passwords of a meter that is read by IEC 62056-21 or a maker's protocol.
    Password(Password),
}

/// The keys of one DLMS association.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dlms {
    /// What the association is for, such as `management`.
    pub association: Text<1, 48>,
    /// The client's address.
    pub client_sap: u16,
    /// The authentication mechanism: 0 none, 1 password, 2 to 7 high-level (5 = GMAC).
    pub mechanism: u8,
    /// The security suite: 0, 1 or 2.
    pub suite: u8,
    /// The meter's system title.
    pub system_title: Option<SecretHex<8, 8>>,
    /// Key-encryption key, under which new keys are sent: 16 bytes, in suite 2 32 bytes.
    pub kek: Option<SecretHex<16, 32>>,
    /// Global unicast encryption key, of the same length.
    pub guek: Option<SecretHex<16, 32>>,
    /// Global authentication key, of the same length.
    pub gak: Option<SecretHex<16, 32>>,
    /// Global broadcast encryption key, of the same length.
    pub gbek: Option<SecretHex<16, 32>>,
    /// The secret of the mechanism, where it is not GMAC; or the password.
    pub hls_secret: Option<SecretHex<1, 64>>,
    /// The last invocation counter used with the unicast key.
    pub invocation_counter: Option<u32>,
    /// The last invocation counter used with the broadcast key.
    pub broadcast_counter: Option<u32>,
}

/// The passwords of one meter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Password {
    /// Levels 1 (read) to 3 (configure), ascending, each once.
    pub levels: Vec<Level>,
    /// Password of the reader.
    pub reader_password: Option<SecretText<1, 64>>,
    /// PIN of the outstation.
    pub pin: Option<SecretText<1, 64>>,
    /// Key that encrypts the line.
    pub encryption_key: Option<SecretText<1, 128>>,
}

/// The password of one level.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// 1, 2 or 3.
    pub level: u8,
    /// User name, where the meter has any.
    #[serde(default = "no_user")]
    pub user: SecretText<0, 64>,
    /// The password.
    pub password: SecretText<1, 64>,
}

impl Credential {
    /// Which fields are there, by their names in an inventory.
    pub(super) fn present(&self) -> Vec<&'static str> {
        match self {
            Self::Dlms(dlms) => dlms.present(),
            Self::Password(password) => password.present(),
        }
    }

    /// Which fields a gaining supplier will miss.
    pub(super) fn gaps(&self) -> Vec<&'static str> {
        let needed = match self {
            Self::Dlms(_) => DLMS_NEEDED,
            Self::Password(_) => PASSWORD_NEEDED,
        };
        let present = self.present();
        let missing = needed.iter().copied();
        missing.filter(|name| !present.contains(name)).collect()
    }

    /// What is wrong beyond single fields: the place inside the credential, and the problem.
    pub(super) fn problem(&self) -> Option<(String, Problem)> {
        match self {
            Self::Dlms(dlms) => {
                let field = dlms.invalid_field()?;
                Some((format!("dlms.{field}"), Problem::Invalid))
            }
            Self::Password(password) => {
                let (field, problem) = password.problem()?;
                Some((format!("password.{field}"), problem))
            }
        }
    }

    /// Lists that have an order are put into it.
    pub(super) fn put_in_order(&mut self) {
        if let Self::Password(password) = self {
            password.levels.sort_by_key(|level| level.level);
        }
    }

    pub(super) fn write(&self, o: &mut ObjectWriter<'_>) {
        match self {
            Self::Dlms(dlms) => o.object("dlms", |o| dlms.write(o)),
            Self::Password(password) => o.object("password", |o| password.write(o)),
        }
    }
}

impl Dlms {
    fn present(&self) -> Vec<&'static str> {
        [
            ("dlms.broadcast_counter", self.broadcast_counter.is_some()),
            ("dlms.gak", self.gak.is_some()),
            ("dlms.gbek", self.gbek.is_some()),
            ("dlms.guek", self.guek.is_some()),
            ("dlms.hls_secret", self.hls_secret.is_some()),
            ("dlms.invocation_counter", self.invocation_counter.is_some()),
            ("dlms.kek", self.kek.is_some()),
            ("dlms.suite", true),
            ("dlms.system_title", self.system_title.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }

    fn invalid_field(&self) -> Option<&'static str> {
        if self.suite > 2 {
            return Some("suite");
        }
        if self.mechanism > 7 {
            return Some("mechanism");
        }
        let key_bytes = if self.suite == 2 { 32 } else { 16 };
        [
            ("kek", &self.kek),
            ("guek", &self.guek),
            ("gak", &self.gak),
            ("gbek", &self.gbek),
        ]
        .into_iter()
        .find(|(_, key)| {
            key.as_ref()
                .is_some_and(|key| key.expose().len() != key_bytes)
        })
        .map(|(field, _)| field)
    }

    fn write(&self, o: &mut ObjectWriter<'_>) {
        let key = |key: &Option<SecretHex<16, 32>>| key.as_ref().map(SecretHex::to_text);
        o.text("association", self.association.as_str());
        o.optional_number("broadcast_counter", self.broadcast_counter);
        o.number("client_sap", self.client_sap.into());
        o.optional_text("gak", key(&self.gak).as_ref().map(|text| text.as_str()));
        o.optional_text("gbek", key(&self.gbek).as_ref().map(|text| text.as_str()));
        o.optional_text("guek", key(&self.guek).as_ref().map(|text| text.as_str()));
        let secret = self.hls_secret.as_ref().map(SecretHex::to_text);
        o.optional_text("hls_secret", secret.as_ref().map(|text| text.as_str()));
        o.optional_number("invocation_counter", self.invocation_counter);
        o.optional_text("kek", key(&self.kek).as_ref().map(|text| text.as_str()));
        o.number("mechanism", self.mechanism.into());
        o.number("suite", self.suite.into());
        let title = self.system_title.as_ref().map(SecretHex::to_text);
        o.optional_text("system_title", title.as_ref().map(|text| text.as_str()));
    }
}

impl Password {
    fn present(&self) -> Vec<&'static str> {
        let others = [
            ("password.encryption_key", self.encryption_key.is_some()),
            ("password.pin", self.pin.is_some()),
            ("password.reader_password", self.reader_password.is_some()),
        ];
        let levels = self.levels.iter().filter_map(|level| {
            PASSWORD_NEEDED
                .get(usize::from(level.level).checked_sub(1)?)
                .copied()
        });
        let others = others
            .into_iter()
            .filter_map(|(name, there)| there.then_some(name));
        levels.chain(others).collect()
    }

    fn problem(&self) -> Option<(String, Problem)> {
        let wrong = |level: &Level| !(1..=3).contains(&level.level);
        if let Some(n) = self.levels.iter().position(wrong) {
            return Some((format!("levels[{n}].level"), Problem::Invalid));
        }
        if let Some(field) = self.untypable() {
            return Some((field, Problem::Invalid));
        }
        let distinct = self.levels.is_sorted_by(|a, b| a.level < b.level);
        (!distinct).then(|| ("levels".to_owned(), Problem::Repeated))
    }

    /// The first field that no meter takes.
    fn untypable(&self) -> Option<String> {
        let levels = self.levels.iter().enumerate().flat_map(|(n, level)| {
            [
                (format!("levels[{n}].user"), level.user.expose()),
                (format!("levels[{n}].password"), level.password.expose()),
            ]
        });
        let reader = self.reader_password.as_ref().map(SecretText::expose);
        let pin = self.pin.as_ref().map(SecretText::expose);
        let key = self.encryption_key.as_ref().map(SecretText::expose);
        let others = [
            ("reader_password", reader),
            ("pin", pin),
            ("encryption_key", key),
        ];
        let others = others
            .into_iter()
            .filter_map(|(field, text)| Some((field.to_owned(), text?)));
        let mut all = levels.chain(others);
        all.find_map(|(field, text)| (!is_typable(text)).then_some(field))
    }

    fn write(&self, o: &mut ObjectWriter<'_>) {
        let expose = SecretText::expose;
        o.optional_text("encryption_key", self.encryption_key.as_ref().map(expose));
        o.objects("levels", &self.levels, |o, level| {
            o.number("level", level.level.into());
            o.text("password", level.password.expose());
            let user = level.user.expose();
            o.optional_text("user", (!user.is_empty()).then_some(user));
        });
        o.optional_text("pin", self.pin.as_ref().map(SecretText::expose));
        let reader = self.reader_password.as_ref().map(SecretText::expose);
        o.optional_text("reader_password", reader);
    }
}

/// Whether a meter takes it on its line: printable ASCII. The `…` of an example is none.
fn is_typable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn no_user() -> SecretText<0, 64> {
    SecretText::from_text("").expect("a user name may be empty")
}
