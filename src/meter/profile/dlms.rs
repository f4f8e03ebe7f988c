//! The part of a profile that is about DLMS/COSEM.

use serde::Deserialize;

use crate::dlms::obis::{Member, Obis};
use crate::meter::link::{Item, SettingName};

/// How a type of DLMS meter is spoken to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dlms {
    /// The SAP of the client that anybody may be.
    #[serde(default = "public_client")]
    pub public_client: u8,
    /// The SAP of the client that may change keys.
    #[serde(default = "management_client")]
    pub management_client: u8,
    /// The SAP of the management logical device.
    #[serde(default = "server")]
    pub server: u16,
    /// How GUEK and GAK are sent.
    #[serde(default)]
    pub key_transfer: KeyTransfer,
    /// Whether several attributes may be read in one request. A meter that clearly refuses is then asked one by one.
    #[serde(default)]
    pub get_with_list: bool,
    /// How the password or secret of another client is changed.
    #[serde(default)]
    pub secret_change: SecretChange,
    /// Other clients, for meters that do not tell whose an association is.
    #[serde(default)]
    pub clients: Vec<OtherClient>,
    /// Where things are.
    pub objects: Objects,
    /// What is read at a change of supplier.
    pub read: Read,
}

/// How GUEK and GAK are sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum KeyTransfer {
    /// Both in one request.
    #[default]
    Together,
    /// One request each, GAK first, as head ends in the field do.
    OneByOne,
}

/// How the password or secret of another client is changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum SecretChange {
    /// Attribute 7 of its association is written.
    #[default]
    Attribute,
    /// Method 2 of its association (`change_HLS_secret`) is called with the secret itself.
    Plain,
    /// Method 2 is called with the secret wrapped under the key encryption key.
    Wrapped,
}

/// Another client than the manager.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct OtherClient {
    /// Its SAP.
    pub client: u16,
    /// Its association.
    pub association: Obis,
    /// How it proves itself: 0 not at all, 1 password, 2 to 7 high-level (5 = GMAC).
    pub mechanism: u8,
    /// Its security set-up, where that is told.
    pub security: Option<Obis>,
}

/// The logical names of what a takeover needs; what is not named, the meter has not.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    device_name: Option<Obis>,
    serial: Option<Obis>,
    firmware: Option<Obis>,
    clock: Option<Obis>,
    counter: Option<Obis>,
    security: Obis,
    push: Option<Obis>,
    apn: Option<Obis>,
    port: Option<Obis>,
    auto_connect: Option<Obis>,
}

/// What is read at a change of supplier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The registers, the total import first.
    pub registers: Vec<Obis>,
    /// The profile in which the meter freezes them, to be read by selective access.
    pub frozen: Option<Obis>,
}

impl Dlms {
    pub(super) fn problem(&self) -> Option<String> {
        if self.public_client == self.management_client {
            return Some("`dlms`: two clients have the same SAP".to_owned());
        }
        if let Some(other) = self.clients.iter().find(|other| other.mechanism > 7) {
            return Some(format!(
                "`dlms.clients`: mechanism `{}` is not from 0 to 7",
                other.mechanism
            ));
        }
        let registers = self.read.registers.len();
        (!(1..=MAX_REGISTERS).contains(&registers)).then(|| {
            format!("`dlms.read.registers` has `{registers}` names, not from 1 to {MAX_REGISTERS}")
        })
    }
}

impl Objects {
    /// The attribute that tells an item, if the meter has it.
    pub fn item(&self, item: Item) -> Option<Member> {
        let data = |object: Option<Obis>| Some(Member::new(1, object?, 2));
        match item {
            Item::DeviceName => data(self.device_name),
            Item::Serial => data(self.serial),
            Item::Firmware => data(self.firmware),
            Item::Counter => data(self.counter),
            Item::Clock => Some(Member::new(8, self.clock?, 2)),
        }
    }

    /// The attribute that holds a setting, if the meter has it.
    pub fn setting(&self, name: SettingName) -> Option<Member> {
        Some(match name {
            SettingName::Apn => Member::new(45, self.apn?, 2),
            SettingName::PushDestination => Member::new(40, self.push?, 3),
            SettingName::Port => Member::new(41, self.port?, 2),
            SettingName::AutoConnect => Member::new(29, self.auto_connect?, 6),
        })
    }

    /// The manager's security set-up.
    pub fn security(&self) -> Obis {
        self.security
    }
}

fn public_client() -> u8 {
    16
}

fn management_client() -> u8 {
    1
}

fn server() -> u16 {
    1
}

/// More than any meter shows to a customer.
const MAX_REGISTERS: usize = 32;
