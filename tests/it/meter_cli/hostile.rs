//! Releases with items of those who mean harm: none of them stops a takeover, and none hears a secret of somebody else.

use std::process::Output;

use cos_escrow::envelope::package::{Credential, SecretHex};
use cos_escrow::types::Secret;
use serde_json::Value;

use super::forge::{Ear, Forge, Who, passwords, with_passwords};
use super::program::{CONFIG, DESK, json_of, run};
use super::world::{Suite, World};

async fn take_over(world: &World, release: &str, more: &[&str]) -> Output {
    with_desk(world, release, &DESK, more).await
}

async fn with_desk(world: &World, release: &str, desk: &[&str], more: &[&str]) -> Output {
    let what = ["meter", "takeover", "--release", release, "-o", "json"];
    run(world, &[&what, &CONFIG[..], desk, more].concat()).await
}

fn reasons(ending: &Value) -> Vec<(u64, String)> {
    let left_out = ending["left_out"].as_array().unwrap();
    let reason = |left: &Value| {
        let reason = left["reason"].as_str().unwrap().to_owned();
        (left["generation"].as_u64().unwrap(), reason)
    };
    left_out.iter().map(reason).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_said_where_only_a_former_supplier_says_that_the_meter_is() {
    let world = World::with(&[Suite::Passwords]).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let ear = Ear::on(wall.meter.label.address).await;
    let forge = Forge::new(&world);
    let theirs = with_passwords(forge.package_at(ear.address), ["F1", "F2", "F3"]).to_json();
    let true_one = forge.package_at(wall.meter.label.address).to_json();
    let items = [
        forge.signed(3, &Who::former(&world), &theirs),
        forge.signed(1, &Who::loser(&world), &true_one),
    ];
    forge.write("evil.release", items.into());

    let output = take_over(&world, "evil.release", &[]).await;
    let endings = json_of(&output);
    assert_eq!(output.status.code(), Some(0), "{endings}");
    let ending = &endings[0];
    assert_eq!(ending["outcome"], "rotated", "{endings}");
    assert_eq!(ear.connections(), 0);
    assert_eq!(ending["address_of"]["generation"], 1);
    assert_eq!(ending["address_of"]["party"], world.loser().party.as_str());
    let [(3, reason)] = &reasons(ending)[..] else {
        panic!("{endings}");
    };
    assert!(reason.contains("only had the meter once"), "{reason}");
    wall.assert_is_ours(&world.desk().await).await;
    assert_eq!(world.state_of(wall.handover).await, "confirmed");
    assert_eq!(world.confirmed_address_of(wall.handover).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_suppliers_line_hears_its_own_passwords_and_no_other_released_ones() {
    let world = World::with(&[Suite::Passwords]).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let ear = Ear::on(wall.meter.label.address).await;
    let forge = Forge::new(&world);
    // What the losing supplier says opens nothing; the former one knows the meter.
    let wrong = with_passwords(
        forge.package_at(wall.meter.label.address),
        ["WRONG001", "WRONG002", "WRONG003"],
    );
    let theirs = forge.package_at(ear.address);
    let known = passwords(&theirs);
    let items = [
        forge.signed(3, &Who::former(&world), &theirs.to_json()),
        forge.signed(1, &Who::loser(&world), &wrong.to_json()),
    ];
    forge.write("late.release", items.into());

    let output = take_over(&world, "late.release", &["--accept-former"]).await;
    let endings = json_of(&output);
    assert_eq!(endings[0]["outcome"], "rotated", "{endings}");
    assert_eq!(endings[0]["address_of"]["party"], "former");
    assert!(ear.has_heard(known.last().unwrap()));
    for password in ["WRONG001", "WRONG002", "WRONG003"] {
        assert!(!ear.has_heard(password), "{password}");
    }
    wall.assert_is_ours(&world.desk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_suppliers_word_is_not_asked_for_what_the_losing_ones_does_not_open() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let (former, loser) = (Who::former(&world), Who::loser(&world));
    let ear = Ear::on(wall.meter.label.address).await;
    let forge = Forge::new(&world);
    let theirs = forge.package_at(ear.address).to_json();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = nowhere.local_addr().unwrap();
    drop(nowhere);
    let away = forge.package_at(silent).to_json();
    let items = |true_one: &Secret| {
        let items = [
            forge.signed(3, &former, &theirs),
            forge.signed(1, &loser, true_one),
        ];
        Vec::from(items)
    };

    // A meter that is away is waited for: whoever else gives an address may have a meter of its own there.
    forge.write("away.release", items(&away));
    let output = take_over(&world, "away.release", &[]).await;
    assert_eq!(json_of(&output)[0]["outcome"], "waiting");
    assert_eq!(ear.connections(), 0);
    assert!(wall.is_untouched());

    let mut wrong = forge.package_at(wall.meter.label.address);
    for credential in &mut wrong.credentials {
        if let Credential::Dlms(dlms) = credential {
            dlms.guek = SecretHex::from_secret(Secret::new(vec![7; 16]));
        }
    }
    forge.write("wrong.release", items(&wrong.to_json()));
    let desk = ["--journal", "next.db", "--journal-key", "next.key"];
    let output = with_desk(&world, "wrong.release", &desk, &[]).await;
    let endings = json_of(&output);
    assert_eq!(endings[0]["outcome"], "rejected", "{endings}");
    assert_eq!(reasons(&endings[0])[0].0, 3);
    assert_eq!(ear.connections(), 0);
    assert!(wall.is_untouched());

    // Nor where there is no other: who answers there would be taken for the meter.
    forge.write("alone.release", vec![forge.signed(3, &former, &theirs)]);
    let desk = ["--journal", "third.db", "--journal-key", "third.key"];
    let output = with_desk(&world, "alone.release", &desk, &[]).await;
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert_eq!(ear.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_leaves_the_others_and_is_named() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let forge = Forge::new(&world);
    let loser = Who::loser(&world);
    let good = forge.package_at(wall.meter.label.address);
    let mut other = forge.package_at(wall.meter.label.address);
    other.meter.serial = "OTHER001".parse().unwrap();
    let mut keyless = forge.package_at(wall.meter.label.address);
    keyless.credentials.clear();
    let good = good.to_json();
    let nonsense = Secret::new(b"no package".to_vec());
    let mut damaged = forge.signed(6, &loser, &good);
    damaged.stanza = forge.signed(1, &loser, &good).stanza;
    // Signed by somebody else than it says.
    let impostor = Who {
        party: loser.party.clone(),
        ..Who::former(&world)
    };
    let items = vec![
        forge.unsigned(7, &loser, &good),
        damaged,
        forge.signed(5, &impostor, &good),
        forge.signed(4, &loser, &nonsense),
        forge.signed(3, &loser, &other.to_json()),
        forge.signed(2, &loser, &keyless.to_json()),
        forge.signed(1, &loser, &good),
    ];
    forge.write("mixed.release", items);

    // The plan says the same beforehand.
    let plan = ["meter", "plan", "--release", "mixed.release", "-o", "json"];
    let plan = run(&world, &[&plan, &CONFIG[..]].concat()).await;
    let steps = json_of(&plan);
    let left_out = (steps.as_array().unwrap().iter())
        .filter(|step| step["action"].as_str().unwrap().starts_with("LEAVE OUT"));
    assert_eq!(left_out.count(), 6, "{steps}");

    let output = take_over(&world, "mixed.release", &[]).await;
    let endings = json_of(&output);
    assert_eq!(output.status.code(), Some(0), "{endings}");
    assert_eq!(endings[0]["outcome"], "rotated", "{endings}");
    let mut reasons = reasons(&endings[0]);
    reasons.sort();
    let numbers: Vec<_> = reasons.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7], "{reasons:?}");
    for (number, word) in [(2, "level 3"), (3, "another meter"), (6, "does not open")] {
        let of = reasons.iter().find(|(at, _)| *at == number).unwrap();
        assert!(of.1.contains(word), "{of:?}");
    }
    wall.assert_is_ours(&world.desk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_comes_behind_all_that_somebody_did() {
    let world = World::with(&[Suite::Passwords]).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let ear = Ear::on(wall.meter.label.address).await;
    let forge = Forge::new(&world);
    let loser = Who::loser(&world);
    let stolen = with_passwords(forge.package_at(ear.address), ["T1", "T2", "T3"]).to_json();
    let good = forge.package_at(wall.meter.label.address).to_json();
    let items = [
        forge.unsigned(2, &loser, &stolen),
        forge.signed(1, &loser, &good),
    ];
    forge.write("thief.release", items.into());

    let output = take_over(&world, "thief.release", &["--accept-unsigned"]).await;
    let endings = json_of(&output);
    assert_eq!(endings[0]["outcome"], "rotated", "{endings}");
    assert_eq!(ear.connections(), 0);
    assert_eq!(endings[0]["address_of"]["generation"], 1);
    wall.assert_is_ours(&world.desk().await).await;
}
