//! A running service, three suppliers, and one supply point that `LOSE` supplies and `GAIN` takes over.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cos_escrow::cli::demo::events::css;
use cos_escrow::cli::demo::market::{Market, Supplier};
use cos_escrow::cli::settings::Settings;
use cos_escrow::client::{Request, seal_package, seal_read};
use cos_escrow::envelope::package::Package;
use cos_escrow::envelope::read::Read;
use cos_escrow::envelope::{Envelope, Kem, Recipient, SealingPublicKey};
use cos_escrow::types::{
    Clock as _, HandoverId, Mpid, RegistrationId, SupplyPoint, SupplyStartDate, Timestamp,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::door::{Door, Reply};

/// Where `LOSE` has supplied since 2020.
pub(super) const POINT: &str = "9693016118873";
/// Where nobody is registered.
pub(super) const NOWHERE: &str = "2499999999991";
pub(super) const SERIAL: &str = "E19B762798";
/// The key that an outsider must never see.
pub(super) const SECRET: &str = "000102030405060708090A0B0C0D0E0F";
/// The registration by which `GAIN` takes over, and from when.
pub(super) const SWITCH: (&str, &str) = ("R1", "2025-07-01");
pub(super) const DAY: Duration = Duration::from_secs(86_400);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

pub(super) struct World {
    pub(super) market: Market,
    _folder: TempDir,
}

impl World {
    /// Ten days before the switch, of which nobody knows yet. Few tests here are about quotas and allowances.
    pub(super) async fn open() -> Self {
        Self::with_terms(GENEROUS).await
    }

    pub(super) async fn with_terms(terms: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opening: Timestamp = "2025-06-20T12:00:00Z".parse().unwrap();
        let mpids = ["LOSE", "GAIN", "THRD"].map(|mpid| mpid.parse().unwrap());
        let market = Market::open(folder.path(), opening, mpids).await.unwrap();
        let file = folder.path().join("escrow.toml");
        let mut settings = OpenOptions::new().append(true).open(&file).unwrap();
        write!(settings, "\n[terms]\n{terms}\n").unwrap();
        let settings = Settings::load(&file).unwrap();
        market.instance.reload(&settings).await.unwrap();
        let world = Self {
            market,
            _folder: folder,
        };
        world.heartbeat().await;
        world
    }

    /// The same, with the switch announced and secured, and the package deposited for it.
    pub(super) async fn deposited() -> Self {
        Self::deposited_with(GENEROUS).await
    }

    pub(super) async fn deposited_with(terms: &str) -> Self {
        let world = Self::with_terms(terms).await;
        world.switch().await;
        let envelope = world.sealed(world.loser(), &package()).await;
        let deposited = world.deposit("LOSE", Some(switched()), &[&envelope]).await;
        assert_eq!(deposited.status, 201, "{deposited:?}");
        world
    }

    /// The same, at noon of the day of the switch.
    pub(super) async fn releasable() -> Self {
        let mut world = Self::deposited().await;
        world.wait_until("2025-07-01T12:00:00Z").await;
        world
    }

    pub(super) fn supplier(&self, mpid: &str) -> &Supplier {
        &self.market.suppliers[&mpid.parse::<Mpid>().unwrap()]
    }

    pub(super) fn loser(&self) -> &Supplier {
        self.supplier("LOSE")
    }

    pub(super) fn gainer(&self) -> &Supplier {
        self.supplier("GAIN")
    }

    pub(super) fn stranger(&self) -> &Supplier {
        self.supplier("THRD")
    }

    pub(super) fn now(&self) -> Timestamp {
        self.market.clock.now()
    }

    /// Moves on, with a feed that is not silent.
    pub(super) async fn wait_until(&mut self, at: &str) {
        self.market.wait_until(at.parse().unwrap()).await.unwrap();
        self.heartbeat().await;
    }

    pub(super) async fn heartbeat(&self) {
        let row = format!("P1,{POINT},LOSE,2020-01-01");
        let header = "registration_id,mpxn,supplier_mpid,supply_start_date".to_owned();
        self.market.register(true, &[header, row]).await.unwrap();
    }

    /// The switch to `GAIN`, pending and secured.
    pub(super) async fn switch(&self) {
        self.switch_to("GAIN", SWITCH, json!({})).await;
    }

    /// Some switch, pending and secured, with more that its events say.
    pub(super) async fn switch_to(&self, mpid: &str, (id, date): (&str, &str), more: Value) {
        let mut data = json!({ "supplierMpid": mpid, "supplyStartDate": date });
        data.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let lines = [
            ("RegistrationPendingNotification", "Pending"),
            ("RegistrationSecuredActiveNotification", "SecuredActive"),
        ]
        .map(|what| self.event(POINT, id, what, data.clone()));
        self.market.register(false, &lines).await.unwrap();
    }

    pub(super) fn event(&self, point: &str, id: &str, what: (&str, &str), data: Value) -> String {
        let point: SupplyPoint = point.parse().unwrap();
        let id: RegistrationId = id.parse().unwrap();
        css((&point, &id), what, self.now(), data).to_string()
    }

    /// A connection of an identity such as `party:lose`.
    pub(super) async fn door(&self, identity: &str) -> Door {
        let identity = format!("urn:cos-escrow:{identity}").parse().unwrap();
        Door::open(self.market.endpoint(identity).unwrap()).await
    }

    /// A connection of the supplier with this MPID.
    pub(super) async fn door_of(&self, mpid: &str) -> Door {
        let party = &self.supplier(mpid).party;
        self.door(&format!("party:{party}")).await
    }

    pub(super) async fn escrow_key(&self) -> SealingPublicKey {
        let key = self.loser().client.escrow_key(Kem::XWing).await;
        key.unwrap().key
    }

    /// A package sealed by a supplier, to the escrow alone.
    pub(super) async fn sealed(&self, by: &Supplier, package: &Package) -> Envelope {
        let recipients = [(Recipient::Escrow, self.escrow_key().await)];
        seal_package(package, None, &recipients, &by.depositor(self.now())).unwrap()
    }

    /// A closing read sealed by a supplier, to the escrow alone.
    pub(super) async fn sealed_read(&self, by: &Supplier, read: &Read) -> Envelope {
        let recipients = [(Recipient::Escrow, self.escrow_key().await)];
        let make = package().meter.make;
        seal_read(read, make, &recipients, &by.depositor(self.now())).unwrap()
    }

    /// Deposits under a key of its own; standing where no handover is named.
    pub(super) async fn deposit(
        &self,
        by: &str,
        handover: Option<HandoverId>,
        envelopes: &[&Envelope],
    ) -> Reply {
        let bytes: Vec<_> = envelopes.iter().map(|e| e.encode()).collect();
        let key = format!("deposit-{:?}", envelopes[0].body().header().envelope_id);
        let path = handover.map_or_else(
            || "/v1/deposits".to_owned(),
            |id| format!("/v1/handovers/{id}/deposit"),
        );
        let door = self.door_of(by).await;
        door.post_as(&key, &path, deposit_body(&bytes)).await
    }

    /// Asks for the package of a handover under a new key.
    pub(super) async fn release(&self, by: &str, handover: HandoverId, key: &str) -> Reply {
        let door = self.door_of(by).await;
        let path = format!("/v1/handovers/{handover}/release");
        door.post_as(key, &path, release_body()).await
    }

    /// The handover as a party sees it.
    pub(super) async fn shown(&self, to: &str, handover: HandoverId) -> Value {
        let path = format!("/v1/handovers/{handover}");
        let answer = self.supplier(to).client.send(Request::get(path)).await;
        answer.unwrap().json().unwrap()
    }

    /// Entries of this kind, newest first, as the auditor reads them.
    pub(super) async fn entries(&self, kind: &str) -> Vec<Value> {
        let path = format!("/v1/log/entries?kind={kind}&limit=1000");
        let answer = self.market.auditor.send(Request::get(path)).await;
        let found: Value = answer.unwrap().json().unwrap();
        found["entries"].as_array().unwrap().clone()
    }
}

/// Terms under which nobody is told to wait.
const GENEROUS: &str = "refusals_per_minute = 10000\nlookups_per_minute = 10000";

/// The handover of the switch.
pub(super) fn switched() -> HandoverId {
    handover_of(SWITCH.0)
}

pub(super) fn handover_of(registration: &str) -> HandoverId {
    HandoverId::of(&POINT.parse().unwrap(), &registration.parse().unwrap())
}

pub(super) fn deposit_body(envelopes: &[Vec<u8>]) -> String {
    let envelopes: Vec<_> = envelopes
        .iter()
        .map(|bytes| BASE64_STANDARD.encode(bytes))
        .collect();
    json!({ "seal": "client", "envelopes": envelopes }).to_string()
}

pub(super) fn release_body() -> String {
    json!({ "meter_serial": SERIAL }).to_string()
}

pub(super) fn package() -> Package {
    package_at(POINT)
}

pub(super) fn package_at(point: &str) -> Package {
    Package::parse(package_json(point).to_string().as_bytes()).unwrap()
}

pub(super) fn package_json(point: &str) -> Value {
    json!({
        "format": "cos-escrow/package/1",
        "supply_point": point,
        "payment_mode": "credit",
        "meter": { "serial": SERIAL, "make": "EDMI Mk10A" },
        "comms": { "type": "IP", "method": "GS", "address": "10.1.2.3", "port": 4059 },
        "credentials": [{ "dlms": {
            "association": "management", "client_sap": 1, "mechanism": 5, "suite": 0,
            "system_title": "4D4D4D0000BC614E", "kek": SECRET,
            "guek": "101112131415161718191A1B1C1D1E1F",
            "gak": "202122232425262728292A2B2C2D2E2F",
        }}],
    })
}

/// A closing read; each supplier's own differs.
pub(super) fn closing_read(source: &str, value: &str) -> Read {
    let date: SupplyStartDate = SWITCH.1.parse().unwrap();
    let read = json!({
        "format": "cos-escrow/read/1",
        "supply_point": POINT,
        "supply_start_date": date,
        "meter_serial": SERIAL,
        "type": "D",
        "source": source,
        "registers": [{
            "id": "01", "quantity": "AI", "digits": 5, "multiplier": "1.00",
            "value": value, "at": "2025-06-30T23:00:00Z",
        }],
    });
    Read::parse(read.to_string().as_bytes()).unwrap()
}
