//! Meters, and lines to them, that send nonsense: nothing of it panics, hangs, fills the memory or costs the meter.
//!
//! `COS_ESCROW_TEST_FUZZ` is how many seeds each of these drills plays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cos_escrow::dlms::acse::{
    AssociationRequest, AssociationResponse, InitiateRequest, Verdict, initiate_response,
};
use cos_escrow::dlms::axdr::Value;
use cos_escrow::dlms::ciphering::SecurityHeader;
use cos_escrow::dlms::clock;
use cos_escrow::dlms::keys::{Suite, parse_key_transfer};
use cos_escrow::dlms::objects::{PushDestination, ScalerUnit, listed_objects};
use cos_escrow::dlms::service::{GeneralGlo, Request, get_block_answer};
use cos_escrow::dlms::wrapper::{Header, frame};
use cos_escrow::meter::escrow::{Report, StopReason};
use cos_escrow::meter::journal::Claim;
use cos_escrow::meter::link::LinkError;
use cos_escrow::meter::released::ReleasedMeter;
use cos_escrow::meter::takeover::Outcome;
use cos_escrow::types::{Clock as _, SystemRandom};
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::dice::{Dice, amount};
use super::once;
use super::proxy::{Flaw, Proxy};
use super::subject::{
    Ending, Kind, MOST_HOSTILE_ANSWERS, Subject, assert_taken_over, assert_untouched, drive,
};
use super::world::{World, released_keys};

#[tokio::test]
async fn a_line_that_garbles_what_it_likes_costs_no_meter() {
    let seeds = amount(FUZZ, 60);
    let plays = (0..seeds).map(|seed| async move {
        let kind = if seed % 10 == 9 {
            Kind::Foreign
        } else {
            Kind::Ours
        };
        let mut dice = Dice::new(seed, u64::MAX);
        let first = u64::try_from(dice.below(60)).unwrap();
        let count = u64::try_from(1 + dice.below(MOST_HOSTILE_ANSWERS)).unwrap();
        let flaw = Flaw::Mangle { seed, first, count };
        play(kind, &[], flaw, &format!("{kind:?}, {flaw:?}")).await
    });
    let ends: Vec<End> = stream::iter(plays)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    show("garbled lines", &ends);
}

#[tokio::test]
async fn a_meter_that_protects_nonsense_well_is_taken_over_once_it_makes_sense() {
    let seeds = amount(FUZZ, 60);
    let plays = (0..seeds).map(|seed| async move {
        let kind = if seed % 10 == 9 {
            Kind::Foreign
        } else {
            Kind::Ours
        };
        let mut dice = Dice::new(seed, 0);
        let hostile = format!(
            "hostile:{seed}/{}/{}",
            1 + dice.below(50),
            1 + dice.below(MOST_HOSTILE_ANSWERS)
        );
        play(
            kind,
            &[&hostile],
            Flaw::None,
            &format!("{kind:?}, {hostile}"),
        )
        .await
    });
    let ends: Vec<End> = stream::iter(plays)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    show("hostile meters", &ends);
}

/// How a play ended: what the takeover said on the way, if it gave up before the nonsense was over.
type End = Option<StopReason>;

/// A takeover under nonsense. Where it gives up on the word of a liar, the meter must be as it was or as it should be, and
/// the next takeover of it must succeed.
async fn play(kind: Kind, faults: &[&str], flaw: Flaw, case: &str) -> End {
    let world = World::impatient().await;
    let subject = Subject::start(kind, &world, Suite::Zero, faults).await;
    let proxy = Proxy::start(subject.address(), flaw).await;
    let released = world.released_at(proxy.address(), vec![released_keys(Suite::Zero)]);
    world.claim(&released).await;
    let mut gave_up = None;
    for _ in 0..4 {
        let ending = drive(&world, &subject, released.handover, once()).await;
        match ending.outcome {
            Outcome::Done(Report::Rotated { .. }) => {
                assert_taken_over(&world, &subject, &released, &ending, case).await;
                return gave_up;
            }
            Outcome::Done(Report::Rejected(reason)) => {
                gave_up = Some(reason);
                assert_untouched(&subject, &released_keys(Suite::Zero), &ending, case);
                assert_eq!(world.claim(&released).await, Claim::Again, "{case}");
            }
            Outcome::Stopped(reason) => {
                gave_up = Some(reason);
                reopen(&world, &released).await;
            }
            _ => panic!("{case}: {ending:?}"),
        }
    }
    panic!("{case}: given up again and again");
}

/// What people do once they have seen that the meter is all right.
async fn reopen(world: &World, released: &ReleasedMeter) {
    let now = world.clock.now();
    let lease = world.journal.lease(released.handover, now, &SystemRandom);
    let lease = lease.await.unwrap().unwrap();
    world.journal.reopen(&lease, now).await.unwrap();
    world.journal.end_lease(lease).await.unwrap();
}

#[expect(clippy::print_stdout, reason = "a test may show what it found")]
fn show(what: &str, ends: &[End]) {
    let gave_up = ends.iter().flatten().count();
    println!("{what}: {} seeds, {gave_up} gave up on the way", ends.len());
}

/// What a liar sends, whoever asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lie {
    EmptyBlocks,
    OneByteBlocks,
    LongBlocks,
    SameBlock,
    LastNumber,
    HugeArray,
    DeepArray,
    HugeString,
    LongestFrame,
    OtherVersion,
    OtherPorts,
    SlowDrip,
    Silence,
}

const LIES: [Lie; 13] = [
    Lie::EmptyBlocks,
    Lie::OneByteBlocks,
    Lie::LongBlocks,
    Lie::SameBlock,
    Lie::LastNumber,
    Lie::HugeArray,
    Lie::DeepArray,
    Lie::HugeString,
    Lie::LongestFrame,
    Lie::OtherVersion,
    Lie::OtherPorts,
    Lie::SlowDrip,
    Lie::Silence,
];

#[tokio::test]
async fn no_lie_is_listened_to_for_ever_or_kept_beyond_a_bound() {
    let world = World::impatient().await;
    let tries = LIES.map(|lie| {
        let world = &world;
        async move {
            let (address, sent) = liar(lie).await;
            let told = timeout(LONGEST_READ, world.read_serial(address)).await;
            let told = told.expect("a lie is listened to for a while only");
            assert!(
                matches!(told, Err(LinkError::Garbled | LinkError::TimedOut)),
                "{lie:?}: {told:?}"
            );
            let sent = sent.load(Ordering::SeqCst);
            assert!(sent <= MAX_LISTENED, "{lie:?}: listened to {sent} bytes");
        }
    });
    futures_util::future::join_all(tries).await;
}

async fn liar(lie: Lie) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = lie_to(stream, lie, &counting).await;
        }
    });
    (address, sent)
}

/// Accepts the association, then lies.
async fn lie_to(mut stream: TcpStream, lie: Lie, sent: &AtomicUsize) -> std::io::Result<()> {
    let mut number = 0;
    loop {
        let mut header = [0; Header::BYTES];
        stream.read_exact(&mut header).await?;
        let header = Header::parse(header, usize::from(u16::MAX)).unwrap();
        let mut request = vec![0; header.length];
        stream.read_exact(&mut request).await?;
        number += 1;
        let answer = match request.first() {
            Some(0x60) => {
                number = 0;
                frame(1, header.source, &accepted()).unwrap()
            }
            _ => lying_answer(lie, header.source, number),
        };
        for part in answer.chunks(if lie == Lie::SlowDrip {
            1
        } else {
            answer.len().max(1)
        }) {
            stream.write_all(part).await?;
            sent.fetch_add(part.len(), Ordering::SeqCst);
            if lie == Lie::SlowDrip && number > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn accepted() -> Vec<u8> {
    AssociationResponse {
        context: 1,
        verdict: Verdict::Accepted,
        title: Vec::new(),
        challenge: Vec::new(),
        user_information: initiate_response(0x40_121D, 1024),
    }
    .encode()
}

fn lying_answer(lie: Lie, client: u16, number: u32) -> Vec<u8> {
    let block = |number, content: &[u8]| get_block_answer(0xC1, number, content, false);
    let data = |content: &[u8]| [&[0xC4, 0x01, 0xC1, 0x00], content].concat();
    let message = match lie {
        Lie::EmptyBlocks => block(number, &[]),
        Lie::OneByteBlocks => block(number, &[0x09]),
        Lie::LongBlocks => block(number, &[0x09; 1900]),
        Lie::SameBlock => block(1, &[0x09; 100]),
        Lie::LastNumber => block(u32::MAX, &[0x09; 100]),
        Lie::HugeArray => data(&[0x01, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
        Lie::DeepArray => data(&[0x01, 0x01].repeat(900)),
        Lie::HugeString => data(&[0x09, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
        Lie::SlowDrip => data(&[&[0x09, 0x81, 200][..], &[0; 200]].concat()),
        Lie::LongestFrame => return [&[0, 1, 0, 1, 0, 16, 0xFF, 0xFF][..], &[0; 0xFFFF]].concat(),
        Lie::OtherVersion => return [0, 2, 0, 1, 0, 16, 0, 0].to_vec(),
        Lie::OtherPorts => return [0, 1, 0, 9, 0, 9, 0, 1, 0xC4].to_vec(),
        Lie::Silence => return Vec::new(),
    };
    frame(1, client, &message).unwrap()
}

#[tokio::test]
async fn no_piece_of_a_real_dialogue_makes_a_decoder_panic_however_it_is_damaged() {
    let world = World::new().await;
    let subject = Subject::start(Kind::Ours, &world, Suite::Zero, &[]).await;
    let proxy = Proxy::start(subject.address(), Flaw::None).await;
    let released = world.released_at(proxy.address(), vec![released_keys(Suite::Zero)]);
    world.claim(&released).await;
    let ending: Ending = drive(&world, &subject, released.handover, once()).await;
    assert!(matches!(ending.outcome, Outcome::Done(_)));
    let messages = proxy.messages();
    assert!(messages.len() > 60, "{}", messages.len());
    for seed in 0..amount(FUZZ, 60) {
        for (number, (_, message)) in (0..).zip(&messages) {
            let mut dice = Dice::new(seed, number);
            decode(&damaged(&mut dice, message));
        }
    }
}

fn damaged(dice: &mut Dice, message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 if !bytes.is_empty() => bytes[at] = dice.byte(),
            1 => bytes.truncate(at),
            2 => bytes
                .splice(at..at, [0x84, 0xFF, 0xFF, 0xFF, 0xFF])
                .for_each(drop),
            3 => bytes.extend_from_within(at..),
            4 if !bytes.is_empty() => bytes[at] = [0, 0x7F, 0x80, 0x81, 0x82, 0xFF][dice.below(6)],
            _ => bytes.splice(at..at, [dice.byte()]).for_each(drop),
        }
    }
    bytes
}

fn decode(bytes: &[u8]) {
    let _ = (
        AssociationRequest::parse(bytes),
        InitiateRequest::parse(bytes),
        Request::parse(bytes),
        GeneralGlo::parse(bytes),
        SecurityHeader::split(bytes),
    );
    if let Some(header) = bytes.first_chunk() {
        let _ = Header::parse(*header, 2048);
    }
    for from in 0..bytes.len().min(24) {
        if let Ok(value) = Value::decode(&bytes[from..]) {
            let _ = (
                parse_key_transfer(&value),
                listed_objects(&value),
                ScalerUnit::parse(&value),
                PushDestination::parse(&value),
                clock::instant(&value),
            );
        }
    }
}

const FUZZ: &str = "COS_ESCROW_TEST_FUZZ";
/// Most of a takeover is waiting for the disk, or for an answer that does not come.
const AT_ONCE: usize = 8;
/// A value may have 256 KiB, in messages of 2 KiB and with their headers.
const MAX_LISTENED: usize = 600 * 1024;
/// A hundred times what is allowed: a hang, and not a slow machine.
const LONGEST_READ: Duration = Duration::from_secs(300);
