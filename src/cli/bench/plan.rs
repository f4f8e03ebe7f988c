//! The requests of one measurement, made beforehand so that only sending them is measured.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Scenario, alone, effective};
use crate::cli::demo::events::css;
use crate::cli::demo::market::{Market, Supplier};
use crate::cli::exit::Failure;
use crate::client::{Request, seal_package};
use crate::envelope::package::Package;
use crate::envelope::{Envelope, Kem, Recipient, SealingPublicKey};
use crate::identity::{Identity, Subject};
use crate::types::{HandoverId, SupplyPoint, SupplyStartDate, Timestamp};

/// What the load generator sends, to whom, as whom.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) files: crate::tls::Files,
    pub(super) new_connections: bool,
    pub(super) requests: Vec<Planned>,
}

/// One request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Planned {
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) body: String,
}

impl Plan {
    pub(super) fn write(&self, file: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).map_err(Failure::failed)?;
        std::fs::write(file, text).map_err(Failure::failed)
    }
}

/// Makes plans; every supply point is used once.
pub(super) struct Planner<'a> {
    market: &'a Market,
    now: Timestamp,
    next: u64,
}

impl<'a> Planner<'a> {
    pub(super) fn new(market: &'a Market, now: Timestamp) -> Self {
        Self {
            market,
            now,
            next: 0,
        }
    }

    pub(super) async fn plan(
        &mut self,
        scenario: Scenario,
        operations: usize,
        floor: SocketAddr,
    ) -> Result<Plan, Failure> {
        let (losing, gaining) = (self.supplier("LOSE")?, self.supplier("GAIN")?);
        let (party, requests) = match scenario {
            Scenario::Floor => (
                losing,
                vec![planned("/put", None, "x".repeat(1024)); operations],
            ),
            Scenario::Takeover => return Err(alone()),
            Scenario::Handshake => {
                let small = planned("/v1/log/checkpoint", None, String::new());
                (gaining, vec![small; operations])
            }
            Scenario::Deposit => {
                let points = self.handovers(operations).await?;
                (losing, self.deposits(&points, losing, None).await?)
            }
            Scenario::Release | Scenario::PassThrough => {
                let points = self.handovers(operations).await?;
                let key = match scenario {
                    Scenario::PassThrough => Some(gaining.sealing.public().clone()),
                    _ => None,
                };
                let deposits = self.deposits(&points, losing, key).await?;
                send(losing, deposits).await?;
                (gaining, points.iter().map(release).collect())
            }
        };
        let name = format!("bench-{}", party.party);
        let subject = Subject::Client(Identity::party(party.party.clone()));
        let (chain, key) = self.market.write_identity(&subject, &name, self.now)?;
        let address = match scenario {
            Scenario::Floor => floor,
            _ => self.market.instance.address,
        };
        Ok(Plan {
            address,
            files: crate::tls::Files {
                chain,
                key,
                roots: self.market.root_file(),
                lists: self.market.folder.join("pki/lists.pem"),
            },
            new_connections: scenario == Scenario::Handshake,
            requests,
        })
    }

    /// The time that everything is planned for.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Who gains.
    pub(super) fn gainer(&self) -> Result<&'a Supplier, Failure> {
        self.supplier("GAIN")
    }

    /// Has the losing supplier deposit packages, for the escrow to seal them anew.
    pub(super) async fn deposit(&self, points: &[Point]) -> Result<(), Failure> {
        let losing = self.supplier("LOSE")?;
        let deposits = self.deposits(points, losing, None).await?;
        send(losing, deposits).await
    }

    /// Supply points with a handover from the losing to the gaining supplier that may be released now.
    async fn handovers(&mut self, count: usize) -> Result<Vec<Point>, Failure> {
        let points: Vec<_> = (0..count)
            .map(|_| self.point())
            .collect::<Result<_, Failure>>()?;
        self.register(&points).await?;
        Ok(points)
    }

    /// Registers a handover of each from the losing to the gaining supplier that may be released now.
    pub(super) async fn register(&self, points: &[Point]) -> Result<(), Failure> {
        let start = SupplyStartDate::containing(effective(self.now)).map_err(Failure::failed)?;
        let mut prior = vec!["registration_id,mpxn,supplier_mpid,supply_start_date".to_owned()];
        let mut events = Vec::new();
        for point in points {
            prior.push(format!(
                "P{},{},LOSE,2020-01-01",
                point.registration, point.supply_point
            ));
            let registration = point.registration.parse().map_err(Failure::failed)?;
            let data = json!({ "supplierMpid": "GAIN", "supplyStartDate": start });
            for what in [
                ("RegistrationPendingNotification", "Pending"),
                ("RegistrationSecuredActiveNotification", "SecuredActive"),
            ] {
                let about = (&point.supply_point, &registration);
                events.push(css(about, what, self.now, data.clone()).to_string());
            }
        }
        for lines in prior.chunks(2_000) {
            let mut lines = lines.to_vec();
            if lines[0] != prior[0] {
                lines.insert(0, prior[0].clone());
            }
            self.market.register(true, &lines).await?;
        }
        for lines in events.chunks(2_000) {
            self.market.register(false, lines).await?;
        }
        Ok(())
    }

    /// Handovers with a package that waits for its gaining supplier, and where they are.
    pub(super) async fn deposited(
        &mut self,
        count: usize,
    ) -> Result<Vec<(HandoverId, String)>, Failure> {
        let losing = self.supplier("LOSE")?;
        let points = self.handovers(count).await?;
        send(losing, self.deposits(&points, losing, None).await?).await?;
        let known = points.iter();
        Ok(known
            .map(|point| (point.handover(), point.supply_point.to_string()))
            .collect())
    }

    async fn deposits(
        &self,
        points: &[Point],
        losing: &Supplier,
        gainer: Option<SealingPublicKey>,
    ) -> Result<Vec<Planned>, Failure> {
        let mut recipients = vec![(
            Recipient::Escrow,
            losing.client.escrow_key(Kem::XWing).await?.key,
        )];
        if let Some(key) = gainer {
            recipients.push((Recipient::Party(self.supplier("GAIN")?.party.clone()), key));
        }
        points
            .iter()
            .map(|point| {
                let package = point.package()?;
                let depositor = losing.depositor(self.now);
                let envelope = seal_package(&package, None, &recipients, &depositor)?;
                Ok(deposit(point, &envelope))
            })
            .collect()
    }

    fn supplier(&self, mpid: &str) -> Result<&'a Supplier, Failure> {
        let mpid = mpid.parse().map_err(Failure::failed)?;
        let supplier = self.market.suppliers.get(&mpid);
        supplier.ok_or_else(|| Failure::failed("no such supplier"))
    }

    /// The next supply point whose check digit holds.
    fn point(&mut self) -> Result<Point, Failure> {
        self.next += 1;
        let supply_point = valid(&format!("90{:010}", self.next))?;
        Ok(Point {
            number: self.next,
            registration: format!("R{}", self.next),
            supply_point,
            package: None,
        })
    }
}

/// The supply point with these first twelve digits.
pub(super) fn valid(body: &str) -> Result<SupplyPoint, Failure> {
    (0..10)
        .find_map(|digit| format!("{body}{digit}").parse().ok())
        .ok_or_else(|| Failure::failed("no check digit holds"))
}

/// A supply point with its meter.
pub(super) struct Point {
    number: u64,
    registration: String,
    supply_point: SupplyPoint,
    /// Of a simulated meter.
    package: Option<String>,
}

impl Point {
    /// The supply point of a simulated meter, from its line in the file of seeds.
    pub(super) fn of_seed(line: &str) -> Result<Self, Failure> {
        let seed: serde_json::Value = serde_json::from_str(line).map_err(Failure::failed)?;
        let package = seed["package"].to_string();
        let parsed = Package::parse(package.as_bytes()).map_err(Failure::failed)?;
        let serial = parsed.meter.serial.to_string();
        let digits = serial.trim_start_matches(|c: char| !c.is_ascii_digit());
        Ok(Self {
            number: digits.parse().map_err(Failure::failed)?,
            registration: format!("S{serial}"),
            supply_point: parsed.supply_point,
            package: Some(package),
        })
    }

    pub(super) fn serial(&self) -> String {
        match &self.package {
            Some(_) => format!("SIM{:07}", self.number),
            None => format!("B{:09}", self.number),
        }
    }

    pub(super) fn handover(&self) -> HandoverId {
        let registration = self.registration.parse().expect("letters and digits");
        HandoverId::of(&self.supply_point, &registration)
    }

    /// A package of about 1 KiB, as real ones are.
    fn package(&self) -> Result<Package, Failure> {
        if let Some(package) = &self.package {
            return Package::parse(package.as_bytes()).map_err(Failure::failed);
        }
        let key = |digit: char| digit.to_string().repeat(32);
        let package = json!({
            "format": "cos-escrow/package/1", "supply_point": self.supply_point,
            "meter": { "serial": self.serial(), "make": "bench", "class": "S1" },
            "comms": {
                "type": "IP", "method": "GS", "address": "10.0.0.1", "port": 4059,
                "apn": "smart.example", "iccid": "8944106393601680724",
                "imsi": "001019274574098", "msisdn": "003459010858854815",
                "provider": "bench", "protocol": "dlms-cosem",
            },
            "credentials": [{ "dlms": {
                "association": "management", "client_sap": 1, "mechanism": 5, "suite": 0,
                "system_title": "4D4D4D0000BC614E", "kek": key('1'), "guek": key('2'),
                "gak": key('3'), "hls_secret": key('4'), "invocation_counter": 1,
            }}],
        });
        Package::parse(package.to_string().as_bytes()).map_err(Failure::failed)
    }
}

fn deposit(point: &Point, envelope: &Envelope) -> Planned {
    let envelope = BASE64_STANDARD.encode(envelope.encode());
    planned(
        &format!("/v1/handovers/{}/deposit", point.handover()),
        Some(format!("d{}", point.registration)),
        json!({ "seal": "client", "envelopes": [envelope] }).to_string(),
    )
}

fn release(point: &Point) -> Planned {
    planned(
        &format!("/v1/handovers/{}/release", point.handover()),
        Some(format!("r{}", point.registration)),
        json!({ "meter_serial": point.serial() }).to_string(),
    )
}

/// Sends requests of the losing supplier, several at a time.
async fn send(losing: &Supplier, requests: Vec<Planned>) -> Result<(), Failure> {
    stream::iter(requests)
        .map(|planned| send_one(losing, planned))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn send_one(losing: &Supplier, planned: Planned) -> Result<(), Failure> {
    let key = planned.key.unwrap_or_default();
    let request = Request::post(planned.path, planned.body).idempotent(&key);
    losing.client.send(request).await?;
    Ok(())
}

fn planned(path: &str, key: Option<String>, body: String) -> Planned {
    Planned {
        path: path.to_owned(),
        key,
        body,
    }
}

/// Requests at the same time while everything is made ready.
const AT_ONCE: usize = 32;
