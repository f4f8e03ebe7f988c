//! The log as tlog-tiles over HTTP: whatever size was ever signed can be read for good, and nothing else is a tile.

use std::collections::BTreeMap;

use cos_escrow::tlog::{Checkpoint, Note, TilePath, TreeHead, tiles, verify_log};
use cos_escrow::types::SupplyPoint;

use super::door::{Door, Reply};
use super::world::World;

const IMMUTABLE: &str = "private, max-age=31536000, immutable";

async fn head(door: &Door) -> TreeHead {
    let reply = door.get("/log/checkpoint").await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(
        reply.header("cache-control"),
        Some("no-store"),
        "it changes"
    );
    let note: Note = str::from_utf8(&reply.body).unwrap().parse().unwrap();
    let checkpoint: Checkpoint = note.text().parse().unwrap();
    checkpoint.head
}

async fn tile(door: &Door, tile: &TilePath) -> Vec<u8> {
    let reply = door.get(&format!("/log/{tile}")).await;
    assert_eq!(reply.status, 200, "{tile}: {reply:?}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(reply.header("cache-control"), Some(IMMUTABLE), "{tile}");
    reply.body.to_vec()
}

/// Reads a whole log of this head, and verifies it.
async fn read(door: &Door, head: TreeHead) -> BTreeMap<TilePath, Vec<u8>> {
    let mut read = BTreeMap::new();
    for path in tiles(head.size) {
        read.insert(path, tile(door, &path).await);
    }
    let mut source = |path: &TilePath| read.get(path).cloned().ok_or(());
    verify_log(head, &mut source, |_, _| {}).unwrap();
    read
}

/// Appends entries: registrations at supply points from this number on.
async fn grow(world: &World, from: u64, count: u64) {
    let header = "registration_id,mpxn,supplier_mpid,supply_start_date".to_owned();
    let row = |number: u64| format!("T{number},{},LOSE,2020-01-01", supply_point(number));
    let rows: Vec<_> = [header]
        .into_iter()
        .chain((from..from + count).map(row))
        .collect();
    world.market.register(true, &rows).await.unwrap();
}

fn supply_point(number: u64) -> SupplyPoint {
    let with = |check| {
        format!("{:012}{check}", 970_000_000_000 + number)
            .parse()
            .ok()
    };
    (0..10).find_map(with).unwrap()
}

#[tokio::test]
async fn every_size_that_was_signed_can_be_read_for_good() {
    let world = World::open().await;
    let door = world.door("auditor:demo").await;
    let mut signed: Vec<(TreeHead, BTreeMap<TilePath, Vec<u8>>)> = Vec::new();
    let mut from = 0;
    // Within the first tile, to its end, beyond it, and beyond the second.
    while signed.last().is_none_or(|(head, _)| head.size <= 512) {
        let head = head(&door).await;
        signed.push((head, read(&door, head).await));
        let count = if from == 0 { 1 } else { 100 };
        grow(&world, from, count).await;
        from += count;
    }
    assert!(signed.iter().any(|(head, _)| head.size < 256));
    for (head, tiles) in &signed {
        assert_eq!(read(&door, *head).await, *tiles, "{}", head.size);
    }
}

#[tokio::test]
async fn what_is_no_tile_is_malformed_and_what_is_not_there_yet_is_not_found() {
    let world = World::open().await;
    let door = world.door("auditor:demo").await;
    let size = head(&door).await.size;
    assert!((1..255).contains(&size), "{size}");
    let refused = |reply: Reply| {
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        reply.refusal()
    };
    for path in [
        "0/000.p/0",
        "0/000.p/01",
        "0/000.p/256",
        "0/000.p/257",
        "0/000.p/",
        "0/000.p/-1",
        "0/000.p/+1",
        "0/000.p/1/",
        "0/000.p/1.p/1",
        "0/000.P/1",
        "0/000.p",
        "0/0",
        "0/00",
        "0/0000",
        "0/1000",
        "0/x000/000",
        "0/x1/000",
        "0/001/000",
        "0/X001/000",
        "0/x001",
        "0/",
        "00/000",
        "01/000",
        "64/000",
        "255/000",
        "256/000",
        "-1/000",
        "+0/000",
        "a/000",
        "0/abc",
        "entries/x000/001",
        "entries/0",
        "Entries/000",
        "data/000",
        "8/0/000",
        "0/x999/x999/x999/x999/x999/x999/x999/999",
        "0/000%2Ep%2F0",
        "0/%2e%2e/checkpoint",
    ] {
        let reply = door.get(&format!("/log/tile/{path}")).await;
        assert_eq!(
            refused(reply),
            (400, "malformed_request".to_owned()),
            "{path}"
        );
    }
    let wider = size + 1;
    for path in [
        "0/000",
        "entries/000",
        "0/001",
        "0/001.p/1",
        "entries/001.p/1",
        "1/000.p/1",
        "2/000",
        "8/000.p/1",
        "63/000",
        "63/000.p/255",
        "0/x001/000",
        "0/x018/x446/x744/x073/x709/x551/615",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("0/000.p/{wider}"), format!("entries/000.p/{wider}")])
    {
        let reply = door.get(&format!("/log/tile/{path}")).await;
        assert_eq!(refused(reply), (404, "not_found".to_owned()), "{path}");
    }
    let whole: TilePath = format!("tile/0/000.p/{size}").parse().unwrap();
    assert_eq!(tile(&door, &whole).await.len() as u64, 32 * size);
}
