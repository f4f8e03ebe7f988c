//! Between the passwords of a package and those that a takeover works with.

use crate::cli::exit::{Exit, Failure};
use crate::envelope::package::{Credential, Level as PackageLevel, Package, Password, SecretText};
use crate::meter::secrets::{InvalidSecrets, Level, PasswordSet};
use crate::types::Secret;

/// The passwords of a package. A set without the one that changes them is of no use.
pub(super) fn password_set(package: &Package) -> Result<PasswordSet, Failure> {
    let missing = || {
        let missing = "the package has neither DLMS keys nor a password of level 3";
        Failure::new(Exit::Refused, missing)
            .hint("reject it with `cos-escrow handover reject`: the losing supplier owes them")
    };
    let password = package.credentials.iter().find_map(password);
    let levels = password.ok_or_else(missing)?.levels.iter().map(|level| {
        let secret = Secret::new(level.password.expose().as_bytes().to_vec());
        Ok((Level::try_from(level.level)?, secret))
    });
    let levels = levels.collect::<Result<Vec<_>, InvalidSecrets>>();
    let set = levels.and_then(PasswordSet::new);
    let set = set.map_err(|error| Failure::new(Exit::Refused, error))?;
    match set.password(Level::Three) {
        Some(_) => Ok(set),
        None => Err(missing()),
    }
}

fn password(credential: &Credential) -> Option<&Password> {
    match credential {
        Credential::Password(password) => Some(password),
        Credential::Dlms(_) => None,
    }
}

/// User names stay as they are; levels that were not handed over are added. Whether all of them found their place.
pub(super) fn put_passwords(package: &mut Package, passwords: &PasswordSet) -> bool {
    let mut credentials = package.credentials.iter_mut();
    let found = credentials.find_map(|credential| match credential {
        Credential::Password(password) => Some(password),
        Credential::Dlms(_) => None,
    });
    let Some(package) = found else {
        return false;
    };
    let all = passwords.levels().all(|level| {
        let new = passwords.password(level).map(Secret::expose);
        let new = new.and_then(|new| SecretText::from_text(str::from_utf8(new).ok()?));
        let user = SecretText::from_text("");
        let (Some(password), Some(user)) = (new, user) else {
            return false;
        };
        let level = level.number();
        match package.levels.iter_mut().find(|known| known.level == level) {
            Some(known) => known.password = password,
            None => package.levels.push(PackageLevel {
                level,
                user,
                password,
            }),
        }
        true
    });
    package.levels.sort_by_key(|level| level.level);
    all
}
