//! `meter takeover` and `meter resume`.

use std::path::PathBuf;

use futures_util::stream::{self, StreamExt as _};

use super::board::Board;
use super::desk::{self, Desk};
use super::ending::{Ending, verdict};
use super::head_end::{HeadEnd, How};
use super::releases::{self, Loaded, SealingKeys, Source};
use super::{interrupted, report};
use crate::cli::config;
use crate::cli::connect::{Session, now};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::meter::journal::{RunId, Scope, State};
use crate::types::{SystemClock, SystemRandom};

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
    /// Write how every meter ended to this file, as its ending `.json` or `.csv` says, and print only what it comes to.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    connection: config::Connection,
}

/// Claims releases and takes their meters over.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let releases = &arguments.releases;
    let sources = releases.sources()?;
    let with = &arguments.resume;
    let session = Session::open_signing(&with.connection)?;
    let keys = SealingKeys::new(with.sealing_key.as_deref(), &session.settings.keys)?;
    let desk = Desk::open_or_create(&with.desk, with.how.journal_settings()).await?;
    let head_end = head_end(&session, &desk, &keys, with)?;
    let run = RunId::random(&SystemRandom);
    let progress = Progress::start(output, "releases", releases.count().unwrap_or_default());
    let claims = stream::iter(sources)
        .map(|source| begin(&head_end, source, &keys, run))
        .buffer_unordered(CLAIMS);
    let claimed = claims.filter_map(|claim| {
        progress.advance();
        std::future::ready(claim.err())
    });
    let unfit = claimed.map(|ending| *ending).collect().await;
    drop(progress);
    finish(&head_end, (run, unfit), with, output).await
}

/// Goes on with all that is in the journal.
pub(super) async fn resume(arguments: &Resume, output: &Output) -> Result<(), Failure> {
    let session = Session::open_signing(&arguments.connection)?;
    let keys = SealingKeys::new(arguments.sealing_key.as_deref(), &session.settings.keys)?;
    let desk = Desk::open(&arguments.desk, arguments.how.journal_settings()).await?;
    let head_end = head_end(&session, &desk, &keys, arguments)?;
    let run = RunId::random(&SystemRandom);
    desk.journal.adopt(run).await?;
    finish(&head_end, (run, Vec::new()), arguments, output).await
}

fn head_end<'a>(
    session: &'a Session,
    desk: &'a Desk,
    keys: &SealingKeys,
    with: &Resume,
) -> Result<HeadEnd<'a>, Failure> {
    let depositor = session.depositor()?;
    Ok(HeadEnd {
        client: &session.client,
        party: depositor.party,
        signer: depositor.signer,
        anchors: &session.anchors,
        clock: &SystemClock,
        desk,
        profiles: with.how.rotation.profiles()?,
        how: with.how.clone(),
        own_key: keys.named().cloned(),
    })
}

/// Reads, opens, verifies and claims one release. What is wrong with it is its own matter.
async fn begin(
    head_end: &HeadEnd<'_>,
    source: Result<Source, Failure>,
    keys: &SealingKeys,
    run: RunId,
) -> Result<(), Box<Ending>> {
    let unread = |failure| Box::new(Ending::of_failure(None, &failure));
    let source = source.map_err(unread)?;
    let loaded = Loaded::read(&source.release, keys).map_err(unread)?;
    let handover = loaded.handover();
    let unfit = |failure| Box::new(Ending::of_failure(Some(handover), &failure));
    let release = head_end
        .verified(loaded)
        .map_err(|unusable| Box::new(Ending::of_unusable(handover, &unusable)))?;
    let ready = head_end.ready(release, &source).await.map_err(unfit)?;
    match head_end.claim(&ready, run).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(Box::new(
            Ending::of_failure(Some(handover), &failure).about(ready.readied),
        )),
    }
}

/// Runs until all is as far as it goes, or until the user has had enough; then reports, `unfit` releases too.
async fn finish(
    head_end: &HeadEnd<'_>,
    (run, unfit): (RunId, Vec<Ending>),
    with: &Resume,
    output: &Output,
) -> Result<(), Failure> {
    let interrupted = interrupted()?;
    let tally = head_end.desk.journal.tally(Scope::Run(run), now()).await?;
    let over = tally.states.get(&State::Reported).copied().unwrap_or(0);
    let total = tally.states.values().sum::<usize>() - over;
    let board = Board::start(output, total.saturating_sub(tally.waiting));
    let show = |counts: &_| board.show(counts);
    let ended = tokio::select! {
        ended = head_end.run(run, &show) => ended,
        () = interrupted => {
            Err(Failure::new(Exit::Interrupted, "interrupted; nothing that was done is lost")
                .hint("`cos-escrow meter resume` goes on"))
        }
    };
    drop(board);
    let mut endings = head_end.endings(run).await?;
    endings.extend(unfit);
    let endings = report::hand_in(endings, with.report.as_deref(), output)?;
    ended?;
    verdict(&endings)
}

/// Releases that are opened at a time.
const CLAIMS: usize = 32;
