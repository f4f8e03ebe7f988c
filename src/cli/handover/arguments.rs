//! The arguments of `cos-escrow handover`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::cli::config;
use crate::envelope::Kem;
use crate::handover::State;
use crate::types::{HandoverId, KeyId, MeterSerial, SupplyPoint};

/// What to do with handovers, and over which connection.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) connection: config::Connection,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List our handovers on one side.
    #[command(after_help = "Examples:\n  \
        cos-escrow handover list --role losing --state expected\n  \
        cos-escrow handover list --role gaining --all -o csv")]
    List(List),
    /// Show one handover.
    #[command(after_help = "Example:\n  \
        cos-escrow handover show ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1 -o json")]
    Show {
        /// The handover.
        id: HandoverId,
    },
    /// Seal a package and deposit it.
    #[command(after_help = "Examples:\n  \
        cos-escrow handover deposit ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1 --package meter.json --read read.json\n  \
        cos-escrow handover deposit --standing --package meter.json\n  \
        cos-escrow handover deposit --from deposits.ndjson -o json\n  \
        cos-escrow handover deposit --standing --package meter.json --dry-run\n\n\
        A record of `--from` is {\"handover\":\"ho_…\",\"package\":{…},\"read\":{…}}; without `handover` it is a\n\
        standing deposit. A deposit that got no answer is sent again as it was by the same command.")]
    Deposit(Deposit),
    /// Fetch the package of a handover that we gain; `envelope open` opens it.
    #[command(after_help = "Example:\n  \
        cos-escrow handover release ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1 --meter-serial E19B762798 --out meter.release")]
    Release(Release),
    /// Fetch the package of a meter that is ours already, whose keys we lost.
    #[command(after_help = "Example:\n  \
        cos-escrow handover recover 9693016118873 --meter-serial E19B762798 --out meter.release")]
    Recover(Recover),
    /// Confirm how a handover ended; signed.
    #[command(after_help = "Examples:\n  \
        cos-escrow handover confirm ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1 --outcome rotated --generation 2\n  \
        cos-escrow handover confirm ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1 --outcome not-wanted\n\n\
        `rotated` says that the keys of the generation work and that the former ones are refused.")]
    Confirm(Confirm),
    /// Say that the released credentials do not open the meter.
    #[command(after_help = "Example:\n  \
        cos-escrow handover reject ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1 --reason 'level 3 password refused'")]
    Reject {
        /// The handover.
        id: HandoverId,
        /// What the meter did with them, without secrets.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Accept the losing supplier's closing read.
    #[command(after_help = "Example:\n  \
        cos-escrow handover accept-read ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1")]
    AcceptRead {
        /// The handover.
        id: HandoverId,
    },
    /// Dispute the losing supplier's closing read with another one.
    #[command(after_help = "Example:\n  \
        cos-escrow handover dispute ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1 --read ours.json")]
    Dispute(Dispute),
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// On which side we are.
    #[arg(long, value_enum)]
    pub(super) role: Role,
    /// Only in this state.
    #[arg(long, value_parser = state())]
    pub(super) state: Option<State>,
    /// Only at this supply point.
    #[arg(long, value_name = "MPXN")]
    pub(super) supply_point: Option<SupplyPoint>,
    /// Only behind this one: the last of the page before.
    #[arg(long, value_name = "ID")]
    pub(super) after: Option<HandoverId>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) limit: u32,
    /// Fetch all pages.
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("target").required(true).args(["id", "standing", "from"]))]
pub(super) struct Deposit {
    /// The handover that it is for.
    pub(super) id: Option<HandoverId>,
    /// Before any change of supplier is known: for whichever comes next.
    #[arg(long)]
    pub(super) standing: bool,
    /// Many deposits, one JSON record a line; `-` is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["package", "read"])]
    pub(super) from: Option<PathBuf>,
    /// The package, as `cos-escrow/package/1`; `-` is stdin.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["from", "read"])]
    pub(super) package: Option<PathBuf>,
    /// The closing read, as `cos-escrow/read/1`.
    #[arg(long, value_name = "FILE")]
    pub(super) read: Option<PathBuf>,
    #[command(flatten)]
    pub(super) how: How,
    /// Say what would be deposited, and send nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How a package is sealed.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct How {
    /// Who seals.
    #[arg(long, value_enum, default_value_t)]
    pub(super) seal: Sealer,
    /// To whom; the gaining supplier only where it is known and has a key.
    #[arg(long, value_enum, default_value_t)]
    pub(super) recipients: Recipients,
    /// The escrow's key that is sealed to.
    #[arg(long, value_parser = kem(), default_value = "x-wing")]
    pub(super) kem: Kem,
}

#[derive(Args, Debug)]
pub(super) struct Release {
    /// The handover.
    pub(super) id: HandoverId,
    #[command(flatten)]
    pub(super) ask: Ask,
}

#[derive(Args, Debug)]
pub(super) struct Recover {
    /// The supply point (MPAN core or MPRN).
    #[arg(value_name = "MPXN")]
    pub(super) supply_point: SupplyPoint,
    #[command(flatten)]
    pub(super) ask: Ask,
}

/// What is asked for.
#[derive(Args, Debug)]
pub(super) struct Ask {
    /// The serial on the meter.
    #[arg(long, value_name = "SERIAL")]
    pub(super) meter_serial: MeterSerial,
    /// Only this component.
    #[arg(long, value_enum)]
    pub(super) component: Option<Part>,
    /// Sealed to this key of ours; by default the newest active one.
    // One name in 64 begins with a hyphen.
    #[arg(long, value_name = "KEY_ID", allow_hyphen_values = true)]
    pub(super) key_id: Option<KeyId>,
    /// Sealed anew by the service, for where the depositor's own stanza does not open.
    #[arg(long)]
    pub(super) reseal: bool,
    /// The new file for the sealed release.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct Confirm {
    /// The handover.
    pub(super) id: HandoverId,
    /// How it ended.
    #[arg(long, value_enum)]
    pub(super) outcome: Outcome,
    /// The generation that opens the meter now; with `rotated` only.
    #[arg(long, value_name = "N", required_if_eq("outcome", "rotated"))]
    pub(super) generation: Option<u32>,
}

#[derive(Args, Debug)]
pub(super) struct Dispute {
    /// The handover.
    pub(super) id: HandoverId,
    /// Our own read, as `cos-escrow/read/1`.
    #[arg(long, value_name = "FILE")]
    pub(super) read: PathBuf,
    /// The escrow's key that is sealed to.
    #[arg(long, value_parser = kem(), default_value = "x-wing")]
    pub(super) kem: Kem,
}

/// On which side of a handover a supplier is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Role {
    /// The customer leaves us.
    Losing,
    /// The customer joins us.
    Gaining,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Losing => "losing",
            Self::Gaining => "gaining",
        }
    }
}

/// Who seals a package.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Sealer {
    /// We do: the service gets ciphertext.
    #[default]
    Client,
    /// The service does: it gets the package in clear over mutual TLS.
    Server,
}

/// To whom a package is sealed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Recipients {
    /// The service alone: it can seal to whoever is registered.
    Escrow,
    /// The service, and the gaining supplier.
    #[default]
    Both,
    /// The gaining supplier alone: the deposit serves no other.
    Gainer,
}

/// What is released.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Part {
    /// Comms details, keys and passwords.
    Credentials,
    /// The closing read.
    Read,
}

impl Part {
    pub(super) fn component(self) -> crate::types::Component {
        match self {
            Self::Credentials => crate::types::Component::Credentials,
            Self::Read => crate::types::Component::Read,
        }
    }
}

/// How a handover ended.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Outcome {
    /// New keys work and the former ones are refused.
    Rotated,
    /// The meter's keys cannot be changed.
    NotRotatable,
    /// Another meter hangs there now.
    MeterExchanged,
    /// We do not want the meter.
    NotWanted,
}

impl From<Outcome> for crate::envelope::statement::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Rotated => Self::Rotated,
            Outcome::NotRotatable => Self::NotRotatable,
            Outcome::MeterExchanged => Self::MeterExchanged,
            Outcome::NotWanted => Self::NotWanted,
        }
    }
}

fn state() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.map(State::as_str)).map(|text| {
        let mut states = State::ALL.into_iter();
        let named = states.find(|state| state.as_str() == text);
        named.expect("only the names of states are possible")
    })
}

/// The KEMs by their names.
pub(in crate::cli) fn kem() -> impl TypedValueParser<Value = Kem> {
    PossibleValuesParser::new(Kem::ALL.map(Kem::as_str)).try_map(|text| text.parse::<Kem>())
}
