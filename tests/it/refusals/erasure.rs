//! Erased means erased: what is no longer kept is in no byte of a file of the database.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use cos_escrow::handover::GenerationStatus;
use cos_escrow::store::{
    Attribution, Changes, Facts, Ground, Head, Held, Maker, Needs, Origin, Party, PartyStatus,
    StanzaAddress, Store, StoreOptions, StoredEnvelope, WrappedKey,
};
use cos_escrow::types::{
    Component, Digest, EnvelopeId, GrantId, KeyId, Random as _, SystemRandom, Timestamp,
};
use sqlx::SqliteConnection;

use super::generations::confirmed_rotation;
use super::stored::open;
use super::world::{World, switched};

#[tokio::test]
async fn what_is_erased_is_in_no_file_of_the_database() {
    let mut world = World::releasable().await;
    confirmed_rotation(&mut world, "GAIN", switched(), 2).await;
    let mut database = open(&world).await;
    let retired = sealed_of(&mut database, 1).await;
    assert_eq!(retired.len(), 3, "a body, a key, the stanza of the grant");
    let kept = sealed_of(&mut database, 2).await;
    // What both have, such as the words of a header, is no secret.
    let common: HashSet<_> = kept.iter().flat_map(|kept| kept.windows(LONG)).collect();
    let mut retired = parts::<LONG>(&retired);
    retired.retain(|part| !common.contains(part.as_slice()));
    let before = found(&world.market.folder, &retired);
    assert!(
        before * 10 > retired.len() * 9,
        "but what lies across pages"
    );

    world.wait_until("2025-07-05T12:00:00Z").await;
    let escrow = &world.market.instance.escrow;
    assert_eq!(escrow.close_confirmed().await.unwrap(), 1);
    assert_eq!(found(&world.market.folder, &retired), 0);
    assert_eq!(sealed_of(&mut database, 1).await.len(), 0);
    assert!(found(&world.market.folder, &parts::<LONG>(&kept)) > 0);
}

/// Many records, so that SQLite moves rows from page to page to make room.
#[tokio::test]
async fn what_is_erased_stays_in_no_page_that_rows_were_moved_from() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        path: folder.path().join("escrow.db"),
        readers: 1,
    };
    let store = Store::open(&options).await.unwrap();
    let mut erased = Vec::new();
    let mut kept = Vec::new();
    for round in 0..40_u32 {
        let made: Vec<_> = (0..16).map(|n| Made::new(round * 16 + n)).collect();
        let fate = if round % 2 == 0 {
            &mut erased
        } else {
            &mut kept
        };
        fate.extend(
            made.iter()
                .map(|made| made.envelope.clone())
                .zip(made.iter().map(Made::secrets)),
        );
        commit(&store, |changes| {
            changes.parties.insert(party().id, party());
            for made in made {
                made.put(changes);
            }
        })
        .await;
    }
    // Wrapped anew under an epoch with a longer number, as all that lives is.
    commit(&store, |changes| {
        for (envelope, secrets) in &mut erased {
            let key = WrappedKey {
                epoch: 100_000,
                bytes: bytes(72),
            };
            secrets.push(key.bytes.clone());
            changes.rewrapped.push((envelope.id, key));
        }
    })
    .await;
    let secrets = |of: &[(StoredEnvelope, Vec<Vec<u8>>)]| {
        let secrets: Vec<_> = of.iter().flat_map(|(_, secrets)| secrets.clone()).collect();
        parts::<SHORT>(&secrets)
    };
    let (gone, kept) = (secrets(&erased), secrets(&kept));
    assert!(found(folder.path(), &gone) * 10 > gone.len() * 8);
    commit(&store, |changes| {
        changes
            .erased
            .extend(erased.iter().map(|(envelope, _)| envelope.id));
    })
    .await;
    assert!(store.empty_wal().await.unwrap());
    assert_eq!(found(folder.path(), &gone), 0);
    assert!(found(folder.path(), &kept) * 10 > kept.len() * 9);
}

/// A record as it is stored.
struct Made {
    envelope: StoredEnvelope,
    wrapped: Vec<u8>,
    body: Vec<u8>,
    stanza: Vec<u8>,
}

impl Made {
    /// Of sizes that differ, so that pages fill unevenly.
    fn new(number: u32) -> Self {
        let supply_point = super::world::POINT.parse().unwrap();
        Self {
            envelope: StoredEnvelope {
                id: EnvelopeId::random(&SystemRandom),
                supply_point,
                component: Component::Credentials,
                generation: number + 1,
                status: GenerationStatus::Retired,
                handover: None,
                depositor: party().id,
                deposited_at: Timestamp::default(),
                ground: Ground::Grant(GrantId::random(&SystemRandom)),
                origin: Origin::Standing,
                attribution: Attribution::Signed,
                serial: super::world::SERIAL.parse().unwrap(),
                gaps: Vec::new(),
                header: Digest([0; 32]),
                body: Digest([0; 32]),
                read_commitment: None,
                held: Held::DataKey,
                sealed_to: Vec::new(),
            },
            wrapped: bytes(72),
            body: bytes([900, 1_700, 2_600][number as usize % 3]),
            stanza: bytes([80, 1_300][number as usize % 2]),
        }
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        [&self.wrapped, &self.body, &self.stanza]
            .map(Vec::clone)
            .into()
    }

    fn put(self, changes: &mut Changes) {
        let id = self.envelope.id;
        let key = KeyId(Digest::of(&self.stanza));
        let address = StanzaAddress {
            envelope: id,
            party: party().id,
            key_id: key,
            made_by: Maker::Depositor,
        };
        changes.stanzas.push((address, self.stanza));
        let wrapped = WrappedKey {
            epoch: 1,
            bytes: self.wrapped,
        };
        changes.envelopes.push((self.envelope, wrapped, self.body));
    }
}

fn party() -> Party {
    Party {
        id: "lose".parse().unwrap(),
        name: "Lose".to_owned(),
        status: PartyStatus::Live,
        created_at: Timestamp::default(),
    }
}

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SystemRandom.fill(&mut bytes);
    bytes
}

/// Commits changes as a batch does; a batch without a new head changes nothing.
async fn commit(store: &Store, change: impl FnOnce(&mut Changes) + Send) {
    let decide = |facts: Facts| {
        let size = facts.head.size + 1;
        let mut changes = Changes {
            head: Head { size, ..facts.head },
            ..Changes::default()
        };
        change(&mut changes);
        (changes, ())
    };
    store.commit_batch(&Needs::default(), decide).await.unwrap();
}

/// The bodies, wrapped keys and stanzas of a generation.
async fn sealed_of(database: &mut SqliteConnection, generation: i64) -> Vec<Vec<u8>> {
    let sealed = "SELECT body AS bytes FROM sealed JOIN envelope USING (envelope_id) \
                  WHERE generation = $1 AND body IS NOT NULL \
                  UNION ALL SELECT wrapped_dek FROM sealed JOIN envelope USING (envelope_id) \
                  WHERE generation = $1 AND wrapped_dek IS NOT NULL \
                  UNION ALL SELECT stanza.sealed FROM stanza JOIN envelope USING (envelope_id) \
                  WHERE generation = $1 AND stanza.sealed IS NOT NULL";
    let sealed = sqlx::query_scalar(sealed).bind(generation);
    sealed.fetch_all(database).await.unwrap()
}

/// What is searched for: pieces at every eighth byte.
fn parts<const N: usize>(secrets: &[Vec<u8>]) -> HashSet<[u8; N]> {
    let parts = secrets
        .iter()
        .flat_map(|secret| secret.windows(N).step_by(8));
    parts.map(|part| part.try_into().unwrap()).collect()
}

/// How many of the parts are in the files of the database: in pages, free ones too, and in the write-ahead log.
fn found<const N: usize>(folder: &Path, parts: &HashSet<[u8; N]>) -> usize {
    let mut found = HashSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_string_lossy().starts_with("escrow.db") {
            let bytes = fs::read(file.path()).unwrap();
            found.extend(bytes.windows(N).filter_map(|part| parts.get(part)).copied());
        }
    }
    found.len()
}

/// Long enough not to be there by chance.
const SHORT: usize = 16;
/// Longer than the ids and digests that a header shares with other rows.
const LONG: usize = 40;
