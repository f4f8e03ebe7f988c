//! What time does to what is kept: epochs of keys, late deposits, grace periods.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_escrow::cli::demo::events::css;
use cos_escrow::cli::demo::market::Market;
use cos_escrow::client::{Request, seal_package};
use cos_escrow::custody::Custody;
use cos_escrow::envelope::package::Package;
use cos_escrow::envelope::{Kem, Recipient};
use cos_escrow::types::{Clock as _, HandoverId, RegistrationId, SupplyPoint, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);
const POINT: &str = "9693016118873";

/// A market with one standing deposit of `LOSE`, half a year before `GAIN` takes over.
struct World {
    market: Market,
    folder: TempDir,
    start: Timestamp,
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opening: Timestamp = "2025-01-10T12:00:00Z".parse().unwrap();
        let mpids = ["LOSE", "GAIN"].map(|mpid| mpid.parse().unwrap());
        let market = Market::open(folder.path(), opening, mpids).await.unwrap();
        let lines = [
            "registration_id,mpxn,supplier_mpid,supply_start_date".to_owned(),
            format!("P1,{POINT},LOSE,2020-01-01"),
        ];
        market.register(true, &lines).await.unwrap();
        Self {
            market,
            folder,
            start: "2025-07-01T00:00:00Z".parse().unwrap(),
        }
    }

    async fn deposit_standing(&self) {
        let loser = &self.market.suppliers[&"LOSE".parse().unwrap()];
        let key = loser.client.escrow_key(Kem::XWing).await.unwrap().key;
        let depositor = loser.depositor(self.market.clock.now());
        let recipients = [(Recipient::Escrow, key)];
        let envelope = seal_package(&package(), None, &recipients, &depositor).unwrap();
        loser
            .client
            .deposit(None, &[envelope], "standing")
            .await
            .unwrap();
    }

    async fn announce(&self, kind: &str, status: &str) {
        let point: SupplyPoint = POINT.parse().unwrap();
        let id: RegistrationId = "R1".parse().unwrap();
        let data = json!({ "supplierMpid": "GAIN", "supplyStartDate": "2025-07-01" });
        let now = self.market.clock.now();
        let line = css((&point, &id), (kind, status), now, data).to_string();
        self.market.register(false, &[line]).await.unwrap();
    }

    async fn state(&self) -> String {
        let gainer = &self.market.suppliers[&"GAIN".parse().unwrap()];
        let path = format!("/v1/handovers/{}", handover());
        let shown: Value = gainer
            .client
            .send(Request::get(path))
            .await
            .unwrap()
            .json()
            .unwrap();
        shown["state"].as_str().unwrap().to_owned()
    }
}

fn handover() -> HandoverId {
    HandoverId::of(&POINT.parse().unwrap(), &"R1".parse().unwrap())
}

fn package() -> Package {
    let json = json!({
        "format": "cos-escrow/package/1", "supply_point": POINT,
        "meter": { "serial": "E19B762798", "make": "test" }, "comms": {},
        "credentials": [{ "password": { "levels": [{ "level": 1, "password": "FIRSTPASSWORD" }] } }],
    });
    Package::parse(json.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn what_lives_is_wrapped_anew_and_old_epochs_are_destroyed() {
    let mut world = World::open().await;
    world.deposit_standing().await;
    let backup = world.folder.path().join("backup.db");
    world
        .market
        .instance
        .escrow
        .store()
        .backup(&backup)
        .await
        .unwrap();

    let mut rewrapped = BTreeMap::new();
    for day in (14..=70).step_by(14) {
        let at = world.market.clock.now().after(14 * DAY);
        world.market.wait_until(at).await.unwrap();
        let rolled = world.market.instance.escrow.roll_epochs().await.unwrap();
        rewrapped.insert(day, (rolled.rewrapped, rolled.destroyed));
    }
    let expected = [
        (14, (0, 0)),
        (28, (1, 0)),
        (42, (0, 0)),
        (56, (1, 1)),
        (70, (0, 0)),
    ];
    assert_eq!(rewrapped, BTreeMap::from(expected));

    // The first epoch is gone from the key files, and with it every copy of the key in the backup.
    let keys = Custody::open(&world.folder.path().join("keys")).unwrap();
    assert!(keys.epoch(1).is_none());
    assert_eq!(keys.current_epoch().number, 3);

    // What lives is still released, after two more wrappings, when its switch comes.
    world
        .market
        .wait_until(world.start.before(10 * DAY))
        .await
        .unwrap();
    world.market.instance.escrow.roll_epochs().await.unwrap();
    world
        .announce("RegistrationPendingNotification", "Pending")
        .await;
    world
        .market
        .wait_until(world.start.before(DAY / 4))
        .await
        .unwrap();
    world
        .announce("RegistrationSecuredActiveNotification", "SecuredActive")
        .await;
    world
        .market
        .wait_until(world.start.after(DAY / 24))
        .await
        .unwrap();
    let gainer = &world.market.suppliers[&"GAIN".parse().unwrap()];
    let request = json!({ "meter_serial": "E19B762798" });
    let released = gainer
        .client
        .release(handover(), &request, "r1")
        .await
        .unwrap();
    let opened: Vec<_> = released.release.open(&gainer.sealing).collect();
    let content = opened[0].1.as_ref().unwrap();
    assert_eq!(content.expose(), package().to_json().expose());
}

#[tokio::test]
async fn a_handover_without_a_package_is_overdue_from_gate_closure_on() {
    let mut world = World::open().await;
    world
        .market
        .wait_until(world.start.before(10 * DAY))
        .await
        .unwrap();
    world
        .announce("RegistrationPendingNotification", "Pending")
        .await;
    let closure: Timestamp = "2025-06-30T16:00:00Z".parse().unwrap();
    world
        .market
        .wait_until(closure.before(Duration::from_secs(1)))
        .await
        .unwrap();
    assert_eq!(
        world.market.instance.escrow.mark_overdue().await.unwrap(),
        0
    );
    assert_eq!(world.state().await, "expected");
    world.market.wait_until(closure).await.unwrap();
    assert_eq!(
        world.market.instance.escrow.mark_overdue().await.unwrap(),
        1
    );
    assert_eq!(world.state().await, "overdue");
    assert_eq!(
        world.market.instance.escrow.mark_overdue().await.unwrap(),
        0
    );
}

#[tokio::test]
async fn neither_the_database_nor_its_wal_holds_a_secret_in_clear() {
    let world = World::open().await;
    world.deposit_standing().await;
    for name in ["escrow.db", "escrow.db-wal"] {
        let bytes = std::fs::read(world.folder.path().join(name)).unwrap();
        let secret = b"FIRSTPASSWORD";
        let found = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "{name}");
    }
}
