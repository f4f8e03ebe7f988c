//! Other clients of the meter: what the losing supplier knows of them opens nothing in the end, or it is said.

use cos_escrow::dlms::keys::{KeyRole, Suite};
use cos_escrow::meter::escrow::{Path, Report};
use cos_escrow::meter::link::{Dial as _, LinkError, Login, MeterLink as _, Station};
use cos_escrow::meter::secrets::{KeySet, Role, Secrets};
use cos_escrow::meter::simulate::{MeterSeed, OtherClients, SecretManner, Simulator};
use cos_escrow::meter::takeover::{Outcome, Settings};
use cos_escrow::types::{Secret, SystemRandom};

use super::once;
use super::world::{World, released_keys, seed};

const READER: Role = Role::Client(2);
const INSTALLER: [Role; 3] = [
    Role::ClientKey(3, KeyRole::Guek),
    Role::ClientKey(3, KeyRole::Gak),
    Role::ClientKey(3, KeyRole::Kek),
];

#[tokio::test]
async fn the_secrets_of_all_other_clients_are_changed_in_the_form_that_the_profile_says() {
    for (manner, profile) in [
        (SecretManner::Attribute, "dlms"),
        (SecretManner::Plain, "plain"),
        (SecretManner::Wrapped, "wrapped"),
    ] {
        let world = World::new().await;
        let (seed, keys) = with_others(manner, true);
        let meter = world.meter(seed, &[]).await;
        let mut released = world.released(&meter, vec![keys]);
        released.ways[0].profile = profile.to_owned();
        let outcome = world.take_over(&released, Settings::default()).await;
        assert_eq!(outcome, rotated(2, Vec::new()), "{manner:?}");
        let newest = world.newest_keys(released.handover).await;
        let state = meter.state();
        for role in [READER].into_iter().chain(INSTALLER) {
            assert!(state.has_of(&newest, role), "{manner:?} {role}");
        }
        assert_eq!(state.nonce_reuses, 0);
        let (_, known) = with_others(manner, true);
        let refused = reader_comes_in(&world, &meter, &released.ways[0].profile, known).await;
        assert_eq!(refused, Err(LinkError::KeysRefused), "{manner:?}");
        let let_in = reader_comes_in(&world, &meter, &released.ways[0].profile, newest).await;
        assert_eq!(let_in, Ok(()), "{manner:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_changed_is_named_and_nothing_else_stops_for_it() {
    let world = World::new().await;
    let (seed, _) = with_others(SecretManner::Never, false);
    let meter = world.meter(seed, &[]).await;
    // Nobody handed over the keys of client 3, so none can be wrapped for it.
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    let outcome = world.take_over(&released, once()).await;
    let stays_open = INSTALLER.into_iter().chain([READER]).collect();
    assert_eq!(outcome, rotated(1, stays_open));
    let newest = world.newest_keys(released.handover).await;
    assert!(meter.state().holds(&newest));
}

/// A meter with two more clients, and what the losing supplier knows of it.
fn with_others(secrets: SecretManner, knows_all: bool) -> (MeterSeed, KeySet) {
    let password = || Secret::new(b"12345678".to_vec());
    let key = |byte| Secret::new(vec![byte; 16]);
    let mut seed = seed(Suite::Zero);
    seed.manners.secrets = secrets;
    seed.others = Some(OtherClients {
        password: password(),
        installer: KeySet::new(Suite::Zero, key(1), key(2), key(3)).unwrap(),
    });
    let mut known = released_keys(Suite::Zero)
        .with_other(READER, password())
        .unwrap();
    if knows_all {
        for (role, byte) in INSTALLER.into_iter().zip(1..) {
            known = known.with_other(role, key(byte)).unwrap();
        }
    }
    (seed, known)
}

async fn reader_comes_in(
    world: &World,
    meter: &Simulator,
    profile: &str,
    keys: KeySet,
) -> Result<(), LinkError> {
    let released = world.released(meter, vec![KeySet::random(Suite::Zero, &SystemRandom)]);
    let mut link = world.dial().dial(Station {
        address: meter.address(),
        device: released.ways[0].device.clone(),
        profile: world.profile_named(profile),
    });
    let secrets = Secrets::from(keys);
    let entered = link.enter(Login::Other(READER, &secrets)).await;
    link.leave().await;
    entered
}

fn rotated(generation: u32, stays_open: Vec<Role>) -> Outcome {
    Outcome::Done(Report::Rotated {
        generation,
        path: Path::Losing,
        stays_open,
    })
}
