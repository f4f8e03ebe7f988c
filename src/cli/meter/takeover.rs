//! `meter takeover` and `meter resume`.

use std::path::PathBuf;

use super::board::Board;
use super::desk::{self, Desk};
use super::ending::{Ending, verdict};
use super::head_end::{HeadEnd, How, Work};
use super::interrupted;
use super::releases::{self, Loaded, SealingKeys, Source, Verified};
use crate::cli::config;
use crate::cli::connect::Session;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::types::SystemClock;

/// What to take over.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    releases: releases::Chosen,
    #[command(flatten)]
    resume: Resume,
}

/// With what to take over.
#[derive(clap::Args, Debug)]
pub(super) struct Resume {
    #[command(flatten)]
    desk: desk::Files,
    /// Our sealing key; by default the one that fits from the folder for keys.
    #[arg(long, value_name = "FILE")]
    sealing_key: Option<PathBuf>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    connection: config::Connection,
}

/// Claims releases and takes their meters over.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let sources = arguments.releases.sources()?;
    let with = &arguments.resume;
    let session = Session::open_signing(&with.connection)?;
    let keys = SealingKeys::new(with.sealing_key.as_deref(), &session.settings.keys)?;
    let desk = Desk::open_or_create(&with.desk, with.how.journal_settings()).await?;
    let head_end = head_end(&session, &desk, &with.how)?;
    let progress = Progress::start(output, "releases", sources.len() as u64);
    let (mut releases, mut endings) = (Vec::new(), Vec::new());
    for source in sources {
        match begin(&head_end, source, &keys).await {
            Ok(begun) => releases.push(begun),
            Err(ending) => endings.push(*ending),
        }
        progress.advance();
    }
    drop(progress);
    let work = head_end.work(releases, &keys);
    endings.extend(finish(&head_end, work, output).await?);
    output.rows(&endings)?;
    verdict(&endings)
}

/// Goes on with all that is in the journal.
pub(super) async fn resume(arguments: &Resume, output: &Output) -> Result<(), Failure> {
    let session = Session::open_signing(&arguments.connection)?;
    let keys = SealingKeys::new(arguments.sealing_key.as_deref(), &session.settings.keys)?;
    let desk = Desk::open(&arguments.desk, arguments.how.journal_settings()).await?;
    let head_end = head_end(&session, &desk, &arguments.how)?;
    let (work, failures) = head_end.unfinished(&keys).await?;
    let mut endings = Vec::new();
    for (handover, failure) in failures {
        match failure.exit {
            Exit::Unverified => endings.push(Ending::of_failure(Some(handover), &failure)),
            _ => output.note(failure.message),
        }
    }
    endings.extend(finish(&head_end, work, output).await?);
    output.rows(&endings)?;
    verdict(&endings)
}

fn head_end<'a>(session: &'a Session, desk: &'a Desk, how: &How) -> Result<HeadEnd<'a>, Failure> {
    let depositor = session.depositor()?;
    Ok(HeadEnd {
        client: &session.client,
        party: depositor.party,
        signer: depositor.signer,
        anchors: &session.anchors,
        clock: &SystemClock,
        desk,
        profiles: how.rotation.profiles()?,
        how: how.clone(),
    })
}

/// Reads, opens, verifies and claims one release. What is wrong with it is its own matter.
async fn begin(
    head_end: &HeadEnd<'_>,
    source: Result<Source, Failure>,
    keys: &SealingKeys,
) -> Result<Verified, Box<Ending>> {
    let unread = |failure| Box::new(Ending::of_failure(None, &failure));
    let source = source.map_err(unread)?;
    let loaded = Loaded::read(&source.release, keys).map_err(unread)?;
    let handover = Some(loaded.handover());
    let unfit = |failure| Box::new(Ending::of_failure(handover, &failure));
    let release = head_end.verified(loaded).map_err(unfit)?;
    let meter = release
        .loaded()
        .meter(&source, &head_end.profiles)
        .map_err(unfit)?;
    match head_end.claim(&release, &meter).await {
        Ok(_) => Ok(release),
        Err(failure) => Err(Box::new(
            Ending::of_failure(handover, &failure).about(meter.serial, meter.supply_point),
        )),
    }
}

/// Runs until all is as far as it goes, or until the user has had enough.
async fn finish(
    head_end: &HeadEnd<'_>,
    work: Work,
    output: &Output,
) -> Result<Vec<Ending>, Failure> {
    let interrupted = interrupted()?;
    let board = Board::start(output, work.len());
    let show = |counts: &_| board.show(counts);
    tokio::select! {
        endings = head_end.run(work, &show) => endings,
        () = interrupted => {
            Err(Failure::new(Exit::Interrupted, "interrupted; nothing that was done is lost")
                .hint("`cos-escrow meter resume` goes on, once the leases of this run have ended"))
        }
    }
}
