//! The arguments of `cos-escrow pki`.

use std::fmt;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand, ValueEnum};

use crate::identity::Kind;
use crate::types::PartyId;

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an authority: root, issuing authority, a leaf for the service, revocation lists.
    #[command(
        after_help = "Example:\n  cos-escrow pki init ca --server-name escrow.example --server-name 127.0.0.1"
    )]
    Init(Init),
    /// Issue a leaf for an identity.
    #[command(after_help = "Examples:\n  \
        cos-escrow pki issue --pki ca --kind party --id north --out north\n  \
        cos-escrow pki issue --pki ca --kind party --id north --use signing --out north\n  \
        cos-escrow pki issue --pki ca --kind auditor --id kate --csr kate.csr --days 30 --out kate")]
    Issue(Issue),
    /// Issue a new leaf for the name of an old one.
    #[command(
        after_help = "Example:\n  cos-escrow pki renew --pki ca north/party-north.tls.pem --out north/2027"
    )]
    Renew(Renew),
    /// Revoke a leaf and make new revocation lists.
    #[command(after_help = "Examples:\n  \
        cos-escrow pki revoke --pki ca north/party-north.tls.pem\n  \
        cos-escrow pki revoke --pki ca 5f0c7a2b9d")]
    Revoke(Revoke),
    /// Make new revocation lists.
    #[command(
        after_help = "Example:\n  cos-escrow pki crl --pki ca --list-days 7\n\n\
        Run it well before the lists end: with a stale list everybody is refused."
    )]
    Crl(Lists),
    /// List what was issued.
    #[command(after_help = "Example:\n  cos-escrow pki list --pki ca -o json")]
    List {
        /// The folder of the authority.
        #[arg(long, value_name = "DIR", default_value = "pki")]
        pki: PathBuf,
    },
    /// Show certificates and revocation lists, and whether they are in profile.
    #[command(after_help = "Examples:\n  \
        cos-escrow pki inspect north/party-north.tls.pem\n  \
        cos-escrow pki inspect ca/lists.pem -o json")]
    Inspect {
        /// A PEM file.
        file: PathBuf,
    },
    /// Pack a chain and its key into a PKCS#12 file for a browser.
    #[command(
        after_help = "Example:\n  cos-escrow pki p12 --cert kate.pem --key kate.key --password-file pw --out kate.p12"
    )]
    P12(P12),
}

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder to make.
    pub(super) dir: PathBuf,
    /// What the authorities are called.
    #[arg(long, default_value = "cos-escrow")]
    pub(super) name: String,
    /// A DNS name or IP address of the service; may be given several times.
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1"])]
    pub(super) server_name: Vec<String>,
    /// How long the revocation lists count.
    #[arg(long, value_name = "N", default_value_t = LIST_DAYS, value_parser = list_days())]
    pub(super) list_days: u32,
}

#[derive(Args, Debug)]
pub(crate) struct Issue {
    /// The folder of the authority.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub(super) pki: PathBuf,
    /// What the identity is for.
    #[arg(long, value_parser = kind())]
    pub(super) kind: Kind,
    /// Its name: lower-case letters, digits and inner hyphens.
    #[arg(long)]
    pub(super) id: PartyId,
    /// What the leaf is used for.
    #[arg(long = "use", value_name = "USE", value_enum, default_value_t)]
    pub(super) usage: Use,
    /// A signing request (PEM) whose key is certified; else a new key is made.
    #[arg(long, value_name = "FILE")]
    pub(super) csr: Option<PathBuf>,
    /// Days of validity; by default those of the profile.
    #[arg(long, value_name = "N")]
    pub(super) days: Option<u32>,
    /// The folder for `<kind>-<id>.<use>.pem` and `.key`.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Renew {
    /// The old chain (PEM).
    pub(super) file: PathBuf,
    /// The folder of the authority.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub(super) pki: PathBuf,
    /// A signing request (PEM) whose key is certified; else a new key is made.
    #[arg(long, value_name = "FILE")]
    pub(super) csr: Option<PathBuf>,
    /// Days of validity; by default those of the profile.
    #[arg(long, value_name = "N")]
    pub(super) days: Option<u32>,
    /// The folder for the new chain and key, under the old names.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The certificate (PEM file), or its serial number.
    pub(super) certificate: PathBuf,
    /// The folder of the authority.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub(super) pki: PathBuf,
    /// How long the new revocation lists count.
    #[arg(long, value_name = "N", default_value_t = LIST_DAYS, value_parser = list_days())]
    pub(super) list_days: u32,
}

#[derive(Args, Debug)]
pub(crate) struct Lists {
    /// The folder of the authority.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub(super) pki: PathBuf,
    /// How long the new revocation lists count.
    #[arg(long, value_name = "N", default_value_t = LIST_DAYS, value_parser = list_days())]
    pub(super) list_days: u32,
}

#[derive(Args, Debug)]
pub(crate) struct P12 {
    /// The chain (PEM), leaf first.
    #[arg(long, value_name = "FILE")]
    pub(super) cert: PathBuf,
    /// The key of its leaf (PEM).
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

/// What a leaf is used for.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Use {
    /// Connections.
    #[default]
    Tls,
    /// Key statements, envelopes and confirmations.
    Signing,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "tls",
            Self::Signing => "signing",
        })
    }
}

fn kind() -> impl clap::builder::TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)).try_map(|text| text.parse::<Kind>())
}

fn list_days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=400)
}

/// Long enough for a holiday, short enough that a lost list is noticed.
const LIST_DAYS: u32 = 14;
