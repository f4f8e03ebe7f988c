//! From the generations of a release to the ways to its meter: whose word is believed how far, and what may be said where.

use std::net::SocketAddr;

use super::keys::{key_set, management};
use super::passwords::password_set;
use super::{Generation, Opened, Papers};
use crate::cli::exit::{Exit, Failure};
use crate::dlms::SystemTitle;
use crate::envelope::SealingPublicKey;
use crate::envelope::package::{Comms, Credential, Dlms, Package, SecretHex, Text};
use crate::meter::link::DeviceId;
use crate::meter::profile::Profiles;
use crate::meter::released::{Belief, LeftOut, ReleasedMeter, Repoint, Way};
use crate::meter::secrets::Secrets;
use crate::types::{Component, Digest, PartyId, Secret, SupplyStartDate};

/// Whose word about a meter is due.
#[derive(Clone, Debug)]
pub enum Voices {
    /// Everybody's: where it does not matter who loses the meter, or nothing is said to it.
    All,
    /// Of the supplier that loses the meter, and the recipient's own.
    Due {
        /// Who loses it, if that one takes part. It supplies until the supply start.
        losing: Option<PartyId>,
        /// Whether a former supplier is believed, once all else has led nowhere.
        accept_former: bool,
    },
}

/// All that a takeover begins with.
pub struct Readied {
    /// The meter.
    pub meter: ReleasedMeter,
    /// The network that it is reached through, as far as the likeliest generation tells: its access point by a digest, for
    /// its name is not for everybody; or else the provider of the card, the method, the kind of address.
    pub network: String,
    /// What is not used.
    pub left_out: Vec<LeftOut>,
    papers: Vec<(u32, Secret)>,
    read: Option<Secret>,
}

impl Readied {
    /// What the journal keeps of it; the next packages are sealed to `own_key` as well.
    pub fn papers(&self, own_key: &SealingPublicKey) -> Secret {
        Papers::encode(&self.papers, self.read.as_ref(), own_key)
    }
}

impl Opened {
    /// Whether it matters who loses the meter: there is a word of somebody else than the recipient.
    pub fn needs_loser(&self) -> bool {
        let mut depositors = self.generations.iter().map(|known| &known.depositor);
        depositors.any(|depositor| *depositor != self.recipient)
    }

    /// The ways to the meter; with an address of ours instead of the released ones where there is one. A generation that
    /// leads nowhere is left out; if all do, the likeliest one's failure is that of the release.
    pub fn ready(
        mut self,
        profiles: &Profiles,
        voices: &Voices,
        (address, repoint): (Option<SocketAddr>, Option<Repoint>),
    ) -> Result<Readied, Failure> {
        let recipient = self.recipient.clone();
        let belief = |generation: &Generation| voices.belief(generation, &recipient);
        self.generations.sort_by_key(belief);
        let mut found: Vec<(Leads, &Generation)> = Vec::new();
        let (mut first_failure, mut left_out) = (None, self.left_out);
        for generation in &self.generations {
            let about = found.first().map(|(_, first)| *first);
            let leads = same_meter(about, generation)
                .and_then(|()| Leads::of(generation, profiles, address))
                .and_then(|leads| voices.admit(leads, belief(generation)));
            match leads {
                Ok(leads) => found.push((leads, generation)),
                Err(failure) => {
                    left_out.push(generation.left_out(&failure));
                    first_failure.get_or_insert(failure);
                }
            }
        }
        let Some((_, first)) = found.first() else {
            let none = || {
                let left = left_out.first().map(ToString::to_string);
                let left = left.unwrap_or_else(|| "the release holds no package".to_owned());
                Failure::new(Exit::Unverified, left)
            };
            return Err(first_failure.unwrap_or_else(none));
        };
        let package = &first.package;
        let ways = ways(&found, belief)?.into_iter();
        let numbered = ways.map(|(way, package)| ((way.generation, package), way));
        let (papers, ways) = numbered.unzip();
        let read = self.reads.first().map(|(_, read)| read.to_json());
        Ok(Readied {
            network: network(&package.comms),
            meter: ReleasedMeter {
                handover: self.handover,
                supply_point: package.supply_point.clone(),
                serial: package.meter.serial.clone(),
                ways,
                supply_start: package.supply_start_date.map(SupplyStartDate::effective_at),
                closing_read: None,
                repoint,
            },
            left_out,
            papers,
            read,
        })
    }
}

/// One way for all generations that lead the same way, with what each depositor of them may say there; and the package that
/// each way goes by.
fn ways(
    found: &[(Leads, &Generation)],
    belief: impl Fn(&Generation) -> Belief,
) -> Result<Vec<(Way, Secret)>, Failure> {
    let mut ways = Vec::new();
    for (at, (leads, generation)) in found.iter().enumerate() {
        let is_known = found.iter().take(at).any(|(known, _)| known == leads);
        if is_known {
            continue;
        }
        let voices: Vec<_> = (found.iter())
            .filter(|(known, _)| known == leads)
            .map(|(_, generation)| generation.voice())
            .collect();
        let may_say = |(known, generation): &&(Leads, &Generation)| {
            let is_ours = leads.address_is_ours;
            known.protocol == leads.protocol && (is_ours || voices.contains(&generation.voice()))
        };
        let candidates = found.iter().filter(may_say);
        let candidates = candidates.map(|(_, generation)| generation.secrets());
        let way = Way {
            generation: generation.number,
            address_of: (!leads.address_is_ours).then(|| generation.depositor.clone()),
            belief: belief(generation),
            address: leads.address,
            profile: leads.profile.clone(),
            device: leads.device.clone(),
            device_name: leads.device_name.clone(),
            firmware: leads.firmware.clone(),
            candidates: candidates.collect::<Result<_, _>>()?,
        };
        ways.push((way, generation.package.to_json()));
    }
    Ok(ways)
}

impl Voices {
    fn belief(&self, generation: &Generation, recipient: &PartyId) -> Belief {
        let is_due = match self {
            Self::All => true,
            Self::Due { losing, .. } => {
                let depositor = &generation.depositor;
                depositor == recipient || losing.as_ref() == Some(depositor)
            }
        };
        match (is_due, generation.is_signed) {
            (true, true) => Belief::Due,
            (true, false) => Belief::Unsigned,
            (false, _) => Belief::Former,
        }
    }

    /// Who answers at an address of theirs is taken for the meter, and hears its passwords: the old ones, and the new.
    fn admit(&self, leads: Leads, belief: Belief) -> Result<Leads, Failure> {
        let refuses = matches!(self, Self::Due { accept_former, .. } if !accept_former);
        if refuses && belief == Belief::Former {
            let why = "this is the word of somebody who only had the meter once";
            return Err(Failure::new(Exit::Refused, why)
                .hint("`--accept-former` uses it, once all else has led nowhere"));
        }
        Ok(leads)
    }
}

/// Where a generation leads.
#[derive(Eq, PartialEq)]
struct Leads {
    address: SocketAddr,
    address_is_ours: bool,
    protocol: &'static str,
    profile: String,
    device: DeviceId,
    device_name: Option<String>,
    firmware: Option<String>,
}

impl Leads {
    fn of(
        generation: &Generation,
        profiles: &Profiles,
        ours: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let unfit = |what: &str| Failure::new(Exit::Refused, what);
        let package = &generation.package;
        let protocol = generation.secrets()?.protocol();
        let make = package.meter.make.as_str();
        let profile = profiles.choose(make, protocol).ok_or_else(|| {
            unfit(&format!("no meter profile is for `{make}` with {protocol}"))
                .hint("write one, and name its folder with `--profiles`")
        })?;
        let address = ours.or_else(|| address(&package.comms));
        let text = |text: &Text<1, 64>| text.as_str().to_owned();
        Ok(Self {
            address: address.ok_or_else(|| unfit("the package names no address and port"))?,
            address_is_ours: ours.is_some(),
            protocol,
            profile: profile.name.clone(),
            device: generation.device()?,
            device_name: package.meter.device_name.as_ref().map(text),
            firmware: package.meter.firmware.as_ref().map(text),
        })
    }
}

impl Generation {
    /// The secrets that it says the meter has.
    pub fn secrets(&self) -> Result<Secrets, Failure> {
        match key_set(&self.package)? {
            Some(keys) => Ok(keys.into()),
            None => password_set(&self.package).map(Secrets::Passwords),
        }
    }

    /// What it says that the meter calls itself.
    pub fn device(&self) -> Result<DeviceId, Failure> {
        let package = &self.package;
        let manager = management(package).and_then(|index| package.credentials.get(index));
        match manager {
            Some(Credential::Dlms(dlms)) => system_title(dlms),
            _ => Ok(outstation(package)),
        }
    }

    /// Who speaks: what nobody signed is not the depositor's word.
    fn voice(&self) -> (&PartyId, bool) {
        (&self.depositor, self.is_signed)
    }

    fn left_out(&self, failure: &Failure) -> LeftOut {
        LeftOut {
            component: Component::Credentials,
            generation: self.number,
            depositor: self.depositor.clone(),
            reason: failure.message.clone(),
        }
    }
}

/// One release is about one meter: that of the likeliest generation.
fn same_meter(first: Option<&Generation>, other: &Generation) -> Result<(), Failure> {
    let about = |generation: &Generation| {
        let package = &generation.package;
        (package.supply_point.clone(), package.meter.serial.clone())
    };
    match first {
        Some(first) if about(first) != about(other) => {
            let message = format!("it is about another meter than generation {}", first.number);
            Err(Failure::new(Exit::Refused, message))
        }
        _ => Ok(()),
    }
}

fn address(comms: &Comms) -> Option<SocketAddr> {
    let host = comms.address.as_ref()?.expose().parse().ok()?;
    Some(SocketAddr::new(host, comms.port?.get()))
}

fn network(comms: &Comms) -> String {
    if let Some(apn) = &comms.apn {
        let digest = Digest::of(apn.expose().to_ascii_lowercase().as_bytes()).to_string();
        return format!("apn-{}", digest.get(..8).unwrap_or_default());
    }
    let named = comms.provider.as_ref().map(Text::as_str);
    let named = named.or(comms.method.as_ref().map(Text::as_str));
    named
        .or(comms.kind.as_ref().map(Text::as_str))
        .unwrap_or_default()
        .to_owned()
}

fn system_title(dlms: &Dlms) -> Result<DeviceId, Failure> {
    let title = dlms.system_title.as_ref().map(SecretHex::expose);
    let missing = || Failure::new(Exit::Refused, "the package names no system title");
    let title = SystemTitle::from_slice(title.ok_or_else(missing)?);
    title.map(DeviceId::SystemTitle).map_err(Failure::failed)
}

/// Without a name of its own, a meter is alone on its line.
fn outstation(package: &Package) -> DeviceId {
    let name = package.meter.outstation_id.as_ref();
    DeviceId::Outstation(name.map_or("", |name| name.as_str()).to_owned())
}
