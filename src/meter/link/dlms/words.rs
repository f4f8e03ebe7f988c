//! What this driver sends, in words: as exact as can be without a meter, and without any secret.

use super::values;
use crate::dlms::obis::{Member, Obis};
use crate::meter::link::{Item, Said};
use crate::meter::profile::{Dlms, SecretChange};
use crate::meter::secrets::Role;
use crate::types::Timestamp;

/// The requests for something, one text each.
pub(in crate::meter::link) fn words(profile: &Dlms, said: &Said<'_>) -> Vec<String> {
    match said {
        Said::Anybody => vec![format!("AARQ client {}", profile.public_client)],
        Said::Manager => vec![format!(
            "AARQ client {}, HLS with GMAC",
            profile.management_client
        )],
        Said::Other(Role::Client(client)) => {
            vec![format!("AARQ client {client}, password (redacted)")]
        }
        Said::Other(_) => Vec::new(),
        Said::Told(items) | Said::Identity(items) => {
            let attributes = items.iter().filter_map(|item| profile.objects.item(*item));
            gets(profile, &attributes.collect::<Vec<_>>())
        }
        Said::Registers(as_of) => registers(profile, *as_of),
        Said::OtherSecrets => vec![
            format!("GET {}", Member::OBJECT_LIST),
            "GET attributes 3, 6, 9 of each other class 15".to_owned(),
        ],
        Said::Setting(name) => {
            let attribute = profile.objects.setting(*name);
            gets(profile, attribute.as_slice())
        }
        Said::Set(setting) => {
            let attribute = profile.objects.setting(setting.name());
            let value = values::of_setting(setting).encode();
            let hex: String = value.iter().map(|byte| format!("{byte:02X}")).collect();
            let set = |attribute| format!("SET {attribute} = {hex} ({setting})");
            attribute.map(set).into_iter().collect()
        }
        Said::Change(roles) => vec![change(profile, roles)],
    }
}

fn registers(profile: &Dlms, as_of: Option<Timestamp>) -> Vec<String> {
    let mut words = Vec::new();
    if let (Some(buffer), Some(as_of)) = (profile.read.frozen, as_of) {
        let columns = Member::new(7, buffer, 3);
        let rows = Member::new(7, buffer, 2);
        words.push(format!("GET {columns}"));
        words.push(format!(
            "GET {rows}, rows of the day from {as_of}; then their scalers, or else:"
        ));
    }
    let both = |register: &Obis| [Member::register(*register), Member::scaler_unit(*register)];
    let mut attributes: Vec<_> = profile.read.registers.iter().flat_map(both).collect();
    attributes.extend(profile.objects.item(Item::Clock));
    words.extend(gets(profile, &attributes));
    words
}

fn gets(profile: &Dlms, attributes: &[Member]) -> Vec<String> {
    let names: Vec<_> = attributes.iter().map(ToString::to_string).collect();
    let get = |names: &[String]| format!("GET {}", names.join(", "));
    let at_once = if profile.get_with_list {
        super::LIST
    } else {
        1
    };
    names.chunks(at_once).map(get).collect()
}

fn change(profile: &Dlms, roles: &[Role]) -> String {
    let names: Vec<_> = roles.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    match (roles.first(), profile.secret_change) {
        (Some(Role::Key(_)), _) => {
            let method = Member::new(64, profile.objects.security(), 2);
            format!("ACTION {method}: {names} (redacted)")
        }
        (Some(Role::Client(_)), SecretChange::Attribute) => {
            format!("SET attribute 7 of its class 15: {names} (redacted)")
        }
        (Some(Role::Client(_)), SecretChange::Plain | SecretChange::Wrapped) => {
            format!("ACTION method 2 of its class 15: {names} (redacted)")
        }
        _ => format!("ACTION method 2 of its class 64: {names} (redacted)"),
    }
}
