//! The keys of taken-over meters, sealed for a head end.

use std::os::unix::fs::PermissionsExt as _;

use cos_escrow::cli::meter::desk::Desk;
use cos_escrow::dlms::keys::KeyRole;
use cos_escrow::meter::secrets::Secrets;
use serde_json::Value;

use super::program::{DESK, json_of, run};
use super::world::{Suite, Wall, World};
use super::{claimed, endings};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_taken_over_meters_reach_the_head_end_sealed_to_its_key() {
    let world = World::with(&[Suite::Dlms, Suite::Dlms, Suite::Passwords]).await;
    world.write_configuration();
    let mut walls = world.meters(&[]).await;
    // One meter is not ours yet, so there is nothing to hand on of it.
    walls[1].source.address = walls[0].source.address;
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let run_id = claimed(&world, &head_end, &walls).await;
    endings(&head_end, run_id).await;

    let public = run(&world, &["key", "public", "gainer.key"]).await;
    std::fs::write(world.path("head-end.public"), public.stdout).unwrap();
    for profile in ["json", "csv"] {
        let (sealed, opened) = (format!("{profile}.keys"), format!("keys.{profile}"));
        let export = [
            "meter",
            "export-keys",
            "--to",
            "head-end.public",
            "--out",
            &sealed,
        ];
        let export = [&export[..], &DESK, &["--profile", profile, "-o", "json"]].concat();
        let exported = run(&world, &export).await;
        assert_eq!(json_of(&exported)["meters"], 2);
        let open = [
            "meter",
            "open-keys",
            &sealed,
            "--key",
            "gainer.key",
            "--out",
            &opened,
        ];
        let done = run(&world, &open).await;
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let again = run(&world, &open).await;
        assert_eq!(again.status.code(), Some(4), "nothing is overwritten");
        for file in [&sealed, &opened] {
            let mode = std::fs::metadata(world.path(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let secrets = desk
            .journal
            .newest_secrets(walls[0].handover)
            .await
            .unwrap();
        let keys = secrets.keys().unwrap();
        let content = std::fs::read_to_string(world.path(&opened)).unwrap();
        for role in [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek, KeyRole::Gbek] {
            let key = hex(keys.key(role).unwrap().expose());
            assert!(content.contains(&key), "{role:?} of {profile}");
            for shown in [&exported, &done] {
                let text = [&shown.stdout[..], &shown.stderr].concat();
                assert!(!String::from_utf8_lossy(&text).contains(&key));
            }
        }
    }
    let opened = std::fs::read(world.path("keys.json")).unwrap();
    let opened: Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(opened["format"], "cos-escrow/meter-keys/1");
    let find = |wall: &Wall| {
        let meters = opened["meters"].as_array().unwrap().iter();
        let named = |meter: &&Value| meter["handover"] == wall.handover.to_string();
        meters.clone().find(named).unwrap()
    };
    let meter = find(&walls[0]);
    assert_eq!(meter["protocol"], "dlms");
    let meter_now = walls[0].meter.simulator.dlms().unwrap().state();
    let used = meter_now.last_counter.unwrap();
    assert!(meter["invocation_counter"].as_u64().unwrap() >= u64::from(used));
    passwords_are_exported(&desk, &walls[2], find(&walls[2])).await;
    let csv = std::fs::read_to_string(world.path("keys.csv")).unwrap();
    let lines: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(lines, [17; 3]);
}

async fn passwords_are_exported(desk: &Desk, wall: &Wall, meter: &Value) {
    let ours = desk.journal.newest_secrets(wall.handover).await;
    let Secrets::Passwords(ours) = ours.unwrap() else {
        panic!("no passwords");
    };
    assert_eq!(meter["protocol"], "iec62056-21");
    for level in ours.levels() {
        let password = str::from_utf8(ours.password(level).unwrap().expose()).unwrap();
        assert_eq!(meter[format!("password_{}", level.number())], password);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_to_no_terminal_and_open_with_no_other_key() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let walls = world.meters(&[]).await;
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let export = ["meter", "export-keys", "--to", "gainer.key", "--out"];
    let nothing = run(&world, &[&export[..], &["none.keys"], &DESK].concat()).await;
    assert_eq!(nothing.status.code(), Some(3), "{nothing:?}");
    assert!(!world.path("none.keys").exists());
    let run_id = claimed(&world, &head_end, &walls).await;
    endings(&head_end, run_id).await;
    run(&world, &[&export[..], &["night.keys"], &DESK].concat()).await;
    for terminal in ["-", "/dev/stdout", "/dev/tty"] {
        let open = [
            "meter",
            "open-keys",
            "night.keys",
            "--key",
            "gainer.key",
            "--out",
        ];
        let refused = run(&world, &[&open[..], &[terminal]].concat()).await;
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{terminal}"
        );
    }
    run(
        &world,
        &[
            "key",
            "create",
            "--config",
            "config.toml",
            "--out",
            "other.key",
        ],
    )
    .await;
    let open = [
        "meter",
        "open-keys",
        "night.keys",
        "--key",
        "other.key",
        "--out",
        "x",
    ];
    let refused = run(&world, &open).await;
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
}
