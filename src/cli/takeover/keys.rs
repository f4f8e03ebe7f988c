//! Between the DLMS credentials of a package and the keys that a takeover works with.

use crate::cli::exit::{Exit, Failure};
use crate::dlms::keys::{KeyRole, Suite};
use crate::envelope::package::{Credential, Dlms, Package, SecretHex, Text};
use crate::meter::secrets::{KeySet, Role};
use crate::types::Secret;

/// Which credential has the manager's keys: the one that says so, or else the first of DLMS.
pub(super) fn management(package: &Package) -> Option<usize> {
    let dlms = |credential: &Credential| match credential {
        Credential::Dlms(dlms) => Some(dlms.association.as_str() == "management"),
        Credential::Password(_) => None,
    };
    let all: Vec<_> = package.credentials.iter().map(dlms).collect();
    let named = all.iter().position(|is_named| *is_named == Some(true));
    named.or_else(|| all.iter().position(Option::is_some))
}

/// The manager's keys, and what other clients come in with.
pub(super) fn key_set(package: &Package) -> Result<Option<KeySet>, Failure> {
    let Some(manager) = management(package) else {
        return Ok(None);
    };
    let missing = || Failure::new(Exit::Refused, "the package lacks GUEK, GAK or KEK");
    let mut set = None;
    let mut others = Vec::new();
    for (index, credential) in package.credentials.iter().enumerate() {
        match credential {
            Credential::Dlms(dlms) if index == manager => set = Some(manager_keys(dlms)?),
            Credential::Dlms(dlms) => others.push(&**dlms),
            Credential::Password(_) => {}
        }
    }
    let mut set = set.ok_or_else(missing)?;
    for other in others {
        for (role, secret) in secrets_of_client(other) {
            set = set.with_other(role, secret).map_err(Failure::failed)?;
        }
    }
    Ok(Some(set))
}

fn secrets_of_client(dlms: &Dlms) -> Vec<(Role, Secret)> {
    let client = dlms.client_sap;
    let keys = [
        (KeyRole::Guek, &dlms.guek),
        (KeyRole::Gak, &dlms.gak),
        (KeyRole::Kek, &dlms.kek),
    ];
    let keys = keys.into_iter().filter_map(|(role, key)| {
        let key = Secret::new(key.as_ref()?.expose().to_vec());
        Some((Role::ClientKey(client, role), key))
    });
    let secret = dlms.hls_secret.iter().map(|secret| {
        let secret = Secret::new(secret.expose().to_vec());
        (Role::Client(client), secret)
    });
    keys.chain(secret).collect()
}

fn manager_keys(dlms: &Dlms) -> Result<KeySet, Failure> {
    let missing = || Failure::new(Exit::Refused, "the package lacks GUEK, GAK or KEK");
    let key = |key: Option<&SecretHex<16, 32>>| {
        key.map(|key| Secret::new(key.expose().to_vec()))
            .ok_or_else(missing)
    };
    let suite = Suite::try_from(dlms.suite).map_err(|_| missing())?;
    let set = KeySet::new(
        suite,
        key(dlms.guek.as_ref())?,
        key(dlms.gak.as_ref())?,
        key(dlms.kek.as_ref())?,
    )
    .map_err(Failure::failed)?
    .with_last_counter(dlms.invocation_counter.unwrap_or_default());
    match &dlms.gbek {
        None => Ok(set),
        Some(gbek) => set
            .with_gbek(Secret::new(gbek.expose().to_vec()))
            .map_err(Failure::failed),
    }
}

/// Puts the manager's keys into their credential, and other clients' secrets into theirs. Whether there is a manager's.
pub(super) fn put_keys(package: &mut Package, keys: &KeySet) -> bool {
    let Some(manager) = management(package) else {
        return false;
    };
    if let Some(Credential::Dlms(dlms)) = package.credentials.get_mut(manager) {
        dlms.guek = hex(keys.guek());
        dlms.gak = hex(keys.gak());
        dlms.kek = hex(keys.kek());
        dlms.gbek = keys.key(KeyRole::Gbek).and_then(hex);
        dlms.invocation_counter = Some(keys.last_counter());
    }
    for (role, secret) in keys.others() {
        let (client, mechanism) = match role {
            Role::Client(client) => (client, PASSWORD),
            Role::ClientKey(client, _) => (client, GMAC),
            _ => continue,
        };
        let kind = (mechanism, keys.suite().id());
        let Some(dlms) = credential_of(package, manager, client, kind) else {
            continue;
        };
        match role {
            Role::Client(_) => dlms.hls_secret = hex(secret),
            Role::ClientKey(_, KeyRole::Guek) => dlms.guek = hex(secret),
            Role::ClientKey(_, KeyRole::Gak) => dlms.gak = hex(secret),
            Role::ClientKey(_, KeyRole::Kek) => dlms.kek = hex(secret),
            _ => {}
        }
    }
    true
}

/// The credential of another client; a new one where the package has none.
fn credential_of(
    package: &mut Package,
    manager: usize,
    client: u16,
    (mechanism, suite): (u8, u8),
) -> Option<&mut Dlms> {
    let is_it = |(index, credential): (usize, &Credential)| match credential {
        Credential::Dlms(dlms) => index != manager && dlms.client_sap == client,
        Credential::Password(_) => false,
    };
    let found = package.credentials.iter().enumerate().position(is_it);
    let index = found.unwrap_or(package.credentials.len());
    if found.is_none() {
        let association = Text::from_text(&format!("client {client}"));
        package.credentials.push(Credential::Dlms(Box::new(Dlms {
            association: association.expect("a short name"),
            client_sap: client,
            mechanism,
            suite,
            system_title: None,
            kek: None,
            guek: None,
            gak: None,
            gbek: None,
            hls_secret: None,
            invocation_counter: None,
            broadcast_counter: None,
        })));
    }
    match package.credentials.get_mut(index)? {
        Credential::Dlms(dlms) => Some(dlms),
        Credential::Password(_) => None,
    }
}

fn hex<const LEAST: usize, const MOST: usize>(secret: &Secret) -> Option<SecretHex<LEAST, MOST>> {
    SecretHex::from_secret(Secret::new(secret.expose().to_vec()))
}

/// Mechanisms by which other clients prove themselves.
const PASSWORD: u8 = 1;
const GMAC: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::profile::Profiles;
    use crate::meter::secrets::Secrets;
    use crate::types::SystemRandom;

    fn package() -> Package {
        let key = |digit: &str| digit.repeat(32);
        let package = serde_json::json!({
            "format": "cos-escrow/package/1", "supply_point": "9693016118873",
            "meter": { "serial": "1" }, "comms": {},
            "credentials": [
                { "dlms": { "association": "reader", "client_sap": 2, "mechanism": 1, "suite": 0,
                            "hls_secret": "3132333435363738" } },
                { "dlms": { "association": "management", "client_sap": 1, "mechanism": 5, "suite": 0,
                            "kek": key("1"), "guek": key("2"), "gak": key("3"), "invocation_counter": 7 } },
                { "dlms": { "association": "installer", "client_sap": 3, "mechanism": 5, "suite": 0,
                            "kek": key("4"), "guek": key("5"), "gak": key("6") } } ] });
        Package::parse(package.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn secrets_of_every_client_go_into_the_package_and_come_out_again() {
        let mut package = package();
        let released = key_set(&package).unwrap().unwrap();
        assert_eq!(released.last_counter(), 7);
        assert_eq!(released.guek().expose(), [0x22; 16]);
        let known: Vec<_> = released.others().map(|(role, _)| role).collect();
        let installer = [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek];
        let expected = installer.map(|key| Role::ClientKey(3, key));
        assert_eq!(known, [&[Role::Client(2)][..], &expected].concat());

        let profiles = Profiles::built_in();
        let found = [known, vec![Role::Client(9)]].concat();
        let next = Secrets::from(released)
            .successor(profiles.get("dlms").unwrap(), &found, &SystemRandom)
            .unwrap();
        let next = next.keys().unwrap();
        assert!(put_keys(&mut package, next));
        // One more client was found in the meter than was handed over.
        assert_eq!(package.credentials.len(), 4);
        let back = key_set(&Package::parse(package.to_json().expose()).unwrap());
        let back = back.unwrap().unwrap();
        assert_eq!(back.kek().expose(), next.kek().expose());
        let both = back.others().zip(next.others());
        for ((role, kept), (made_role, made)) in both {
            assert_eq!((role, kept.expose()), (made_role, made.expose()));
        }
        assert_eq!(back.others().count(), 5);
    }

    #[test]
    fn a_package_without_keys_has_no_place_for_any() {
        let mut package = package();
        package.credentials.clear();
        assert!(key_set(&package).unwrap().is_none());
        let keys = KeySet::new(
            Suite::Zero,
            Secret::new(vec![1; 16]),
            Secret::new(vec![2; 16]),
            Secret::new(vec![3; 16]),
        );
        assert!(!put_keys(&mut package, &keys.unwrap()));
    }
}
