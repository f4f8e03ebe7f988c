//! `cos-escrow pki`: an authority in a folder, for trials and for small rings of parties.

mod arguments;
mod folder;
mod rows;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

pub(super) use self::arguments::Command;
use self::arguments::{Init, Issue, Lists, P12, Renew, Revoke, Use};
use self::folder::{Entry, Folder, PRIVATE, create, subject, with_extension};
use self::rows::{Inspected, Listed, Made, Renewed};
use super::exit::{Exit, Failure};
use super::files::{at, read};
use super::output::Output;
use crate::identity::profile::Sort;
use crate::identity::{
    Certificate, Identity, Issued, RevocationList, Serial, Subject, pem, pkcs12, profile,
};
use crate::types::{Clock as _, Secret, SystemClock, Timestamp};

/// Runs one of the commands.
pub(super) fn run(command: Command, output: &Output) -> Result<(), Failure> {
    let now = SystemClock.now();
    match command {
        Command::Init(arguments) => init(&arguments, output, now),
        Command::Issue(arguments) => issue(arguments, output, now),
        Command::Renew(arguments) => renew(&arguments, output, now),
        Command::Revoke(arguments) => revoke(&arguments, output, now),
        Command::Crl(arguments) => lists(&arguments, output, now),
        Command::List { pki } => list(&pki, output),
        Command::Inspect { file } => inspect(&file, output),
        Command::P12(arguments) => p12(&arguments, output),
    }
}

fn init(arguments: &Init, output: &Output, now: Timestamp) -> Result<(), Failure> {
    let mut folder = Folder::create(&arguments.dir, &arguments.name, now)?;
    let subject = Subject::Server(arguments.server_name.clone());
    let days = profile::SERVER.default_days;
    let issued = folder.authority.issue(&subject, days, now)?;
    let stem = folder.path("server");
    folder.keep(&issued, &stem, now)?;
    folder.write_lists(arguments.list_days, now)?;
    output.note(format!(
        "made an authority in `{}`; whoever has root.key and issuing.key can be anybody",
        arguments.dir.display()
    ));
    output.row(&Made::new(&issued, &stem))
}

fn issue(arguments: Issue, output: &Output, now: Timestamp) -> Result<(), Failure> {
    let identity = Identity {
        kind: arguments.kind,
        id: arguments.id,
    };
    let stem = format!("{}-{}.{}", identity.kind, identity.id, arguments.usage);
    let subject = match arguments.usage {
        Use::Tls => Subject::Client(identity),
        Use::Signing => Subject::Signer(identity),
    };
    let order = Order {
        subject,
        request: arguments.csr.as_deref(),
        days: arguments.days,
        stem: &arguments.out.join(stem),
    };
    let mut folder = Folder::open(&arguments.pki)?;
    let issued = order.fulfil(&mut folder, now)?;
    output.row(&Made::new(&issued, order.stem))
}

fn renew(arguments: &Renew, output: &Output, now: Timestamp) -> Result<(), Failure> {
    let old = first_certificate(&arguments.file)?;
    let subject = match (old.sort, old.identity) {
        (Sort::Client, Some(identity)) => Subject::Client(identity),
        (Sort::Signing, Some(identity)) => Subject::Signer(identity),
        (Sort::Server, _) => Subject::Server(old.server_names),
        (sort, _) => {
            let wrong = format!("`{}` is a {sort}, no leaf", arguments.file.display());
            return Err(Failure::new(Exit::Usage, wrong));
        }
    };
    let mut folder = Folder::open(&arguments.pki)?;
    if folder.is_revoked(&old.serial) {
        let revoked = Failure::new(Exit::Refused, format!("`{}` is revoked", old.serial));
        return Err(revoked.hint("`cos-escrow pki issue` makes a certificate from nothing"));
    }
    let name = arguments.file.file_stem().unwrap_or_default();
    let order = Order {
        subject,
        request: arguments.csr.as_deref(),
        days: arguments.days,
        stem: &arguments.out.join(name),
    };
    let issued = order.fulfil(&mut folder, now)?;
    output.note("the former certificate stays valid until it ends or is revoked");
    output.row(&Made::new(&issued, order.stem))
}

fn revoke(arguments: &Revoke, output: &Output, now: Timestamp) -> Result<(), Failure> {
    let serial = match arguments.certificate.to_str().map(str::parse::<Serial>) {
        Some(Ok(serial)) => serial,
        _ => first_certificate(&arguments.certificate)?.serial,
    };
    let mut folder = Folder::open(&arguments.pki)?;
    // ORDER: the index first; a crash in between is mended by the next `crl`.
    folder.revoke(&serial, now)?;
    let next_update = folder.write_lists(arguments.list_days, now)?;
    output.note(format!(
        "revoked `{serial}`; takes effect where `{}` is loaded",
        folder.path(folder::LISTS).display()
    ));
    output.row(&Renewed::new(&folder, next_update))
}

fn lists(arguments: &Lists, output: &Output, now: Timestamp) -> Result<(), Failure> {
    let folder = Folder::open(&arguments.pki)?;
    let next_update = folder.write_lists(arguments.list_days, now)?;
    output.row(&Renewed::new(&folder, next_update))
}

fn list(pki: &Path, output: &Output) -> Result<(), Failure> {
    let folder = Folder::open(pki)?;
    let rows: Vec<_> = folder
        .index
        .iter()
        .filter_map(|entry| Listed::new(entry, &folder))
        .collect();
    output.rows(&rows)
}

fn inspect(file: &Path, output: &Output) -> Result<(), Failure> {
    let text = read(file)?;
    let certificates = pem::certificates(&text).unwrap_or_default();
    let lists = pem::lists(&text).unwrap_or_default();
    let rows: Vec<_> = certificates
        .iter()
        .map(|der| Inspected::certificate(Certificate::inspect(der)))
        .chain(
            lists
                .iter()
                .map(|der| Inspected::list(RevocationList::read(der))),
        )
        .collect();
    if rows.is_empty() {
        let nothing = "neither a certificate nor a revocation list in it";
        return Err(Failure::failed(format!("`{}`: {nothing}", file.display())));
    }
    output.rows(&rows)?;
    match rows.iter().filter(|row| row.problem.is_some()).count() {
        0 => Ok(()),
        bad => Err(Failure::new(
            Exit::Unverified,
            format!("{bad} of {} are out of profile", rows.len()),
        )),
    }
}

fn p12(arguments: &P12, output: &Output) -> Result<(), Failure> {
    let chain = pem::certificates(&read(&arguments.cert)?)
        .map_err(|error| Failure::failed(format!("`{}`: {error}", arguments.cert.display())))?;
    let key = pem::key(&read(&arguments.key)?)
        .map_err(|error| Failure::failed(format!("`{}`: {error}", arguments.key.display())))?;
    let password = read(&arguments.password_file)?;
    let password = std::str::from_utf8(&password)
        .map(|text| text.trim_end_matches(['\r', '\n']))
        .ok()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Failure::new(Exit::Usage, "the password file holds no text"))?;
    let password = Secret::new(password.as_bytes().to_vec());
    let store = pkcs12::encode(&chain, &key, &password, &crate::types::SystemRandom)
        .map_err(Failure::failed)?;
    create(&arguments.out, store.expose(), PRIVATE)?;
    output.note(format!("wrote `{}`", arguments.out.display()));
    Ok(())
}

/// A leaf that is to be issued.
struct Order<'a> {
    subject: Subject,
    request: Option<&'a Path>,
    days: Option<u32>,
    stem: &'a Path,
}

impl Order<'_> {
    fn fulfil(&self, folder: &mut Folder, now: Timestamp) -> Result<Issued, Failure> {
        // The key of a request is its owner's, and may well be there.
        let written: &[_] = match self.request {
            Some(_) => &["pem"],
            None => &["pem", "key"],
        };
        for extension in written {
            let path = with_extension(self.stem, extension);
            if path.exists() {
                let taken = Failure::new(Exit::Refused, format!("`{}` exists", path.display()));
                return Err(taken.hint("name another folder with `--out`; nothing is overwritten"));
            }
        }
        if let Some(out) = self.stem.parent() {
            fs::create_dir_all(out).map_err(|error| at(out, &error))?;
        }
        let days = self.days.unwrap_or(match self.subject {
            Subject::Client(_) => profile::CLIENT.default_days,
            Subject::Signer(_) => profile::SIGNING.default_days,
            Subject::Server(_) => profile::SERVER.default_days,
        });
        let issued = match self.request {
            None => folder.authority.issue(&self.subject, days, now)?,
            Some(path) => {
                let request = read(path)?;
                let request = std::str::from_utf8(&request).map_err(Failure::failed)?;
                folder
                    .authority
                    .issue_for_request(&self.subject, request, days, now)?
            }
        };
        folder.keep(&issued, self.stem, now)?;
        Ok(issued)
    }
}

fn first_certificate(file: &Path) -> Result<Certificate, Failure> {
    let failed = |error: &dyn std::fmt::Display| format!("`{}`: {error}", file.display());
    let chain = pem::certificates(&read(file)?).map_err(|e| Failure::failed(failed(&e)))?;
    Certificate::inspect(&chain[0]).map_err(|e| Failure::new(Exit::Unverified, failed(&e)))
}
