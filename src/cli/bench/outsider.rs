//! What an outsider can tell by the clock: refusals about what exists and about what does not, asked in turn.

use std::time::{Duration, Instant};

use serde_json::json;

use super::plan::Planner;
use crate::cli::demo::market::Market;
use crate::cli::exit::Failure;
use crate::cli::output::Row;
use crate::cli::settings::Settings;
use crate::client::{Client, ClientError, Request};
use crate::types::{HandoverId, SystemRandom, Timestamp};

/// How long refusals of one kind take.
#[derive(Debug, serde::Serialize)]
pub(super) struct Comparison {
    question: &'static str,
    asked: usize,
    existing_p50_us: f64,
    unknown_p50_us: f64,
    existing_p99_us: f64,
    unknown_p99_us: f64,
}

impl Row for Comparison {
    const COLUMNS: &'static [&'static str] = &[
        "question",
        "existing_p50_us",
        "unknown_p50_us",
        "existing_p99_us",
        "unknown_p99_us",
    ];

    fn cells(&self) -> Vec<String> {
        let figures = [
            self.existing_p50_us,
            self.unknown_p50_us,
            self.existing_p99_us,
            self.unknown_p99_us,
        ];
        let figures = figures.map(|figure| format!("{figure:.0}"));
        [&[self.question.to_owned()], &figures[..]].concat()
    }
}

/// Asks each question so many times about either.
pub(super) async fn compare(
    market: &Market,
    now: Timestamp,
    times: usize,
) -> Result<Vec<Comparison>, Failure> {
    // A minute has room for so many refusals; the clock of the market moves on when it is used up.
    let mut settings = Settings::load(&market.folder.join("escrow.toml"))?;
    settings.terms.refusals_per_minute = PER_MINUTE;
    market.instance.reload(&settings).await?;
    let outsider = "OUTS".parse().map_err(Failure::failed)?;
    let outsider = &market.suppliers[&outsider].client;
    let known = Planner::new(market, now).deposited(POINTS).await?;
    let mut comparisons = Vec::new();
    let mut asked: u32 = 0;
    for question in Question::ALL {
        let (mut existing, mut unknown) = (Vec::new(), Vec::new());
        for n in 0..times {
            let (handover, point) = &known[n % known.len()];
            let nothing = HandoverId::random(&SystemRandom);
            let pair = [
                (question.about(*handover, point, 2 * n), &mut existing),
                (
                    question.about(nothing, &nowhere(n)?, 2 * n + 1),
                    &mut unknown,
                ),
            ];
            for (request, taken) in pair {
                taken.push(refused(outsider, request).await?);
                asked += 1;
                if asked.is_multiple_of(PER_MINUTE / 2) {
                    market.clock.advance(Duration::from_secs(60));
                }
            }
        }
        let (existing, unknown) = (sorted(existing), sorted(unknown));
        comparisons.push(Comparison {
            question: question.as_str(),
            asked: 2 * times,
            existing_p50_us: at(&existing, 50),
            unknown_p50_us: at(&unknown, 50),
            existing_p99_us: at(&existing, 99),
            unknown_p99_us: at(&unknown, 99),
        });
    }
    Ok(comparisons)
}

/// What an outsider may ask.
#[derive(Clone, Copy)]
enum Question {
    Show,
    Release,
    Reject,
    LookUp,
    Recover,
}

impl Question {
    const ALL: [Self; 5] = [
        Self::Show,
        Self::Release,
        Self::Reject,
        Self::LookUp,
        Self::Recover,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Release => "release",
            Self::Reject => "reject",
            Self::LookUp => "look-up",
            Self::Recover => "recover",
        }
    }

    fn about(self, handover: HandoverId, point: &str, n: usize) -> Request {
        let serial = json!({ "meter_serial": "B000000001" }).to_string();
        let key = format!("{}-{n}", self.as_str());
        match self {
            Self::Show => Request::get(format!("/v1/handovers/{handover}")),
            Self::Release => {
                Request::post(format!("/v1/handovers/{handover}/release"), serial).idempotent(&key)
            }
            Self::Reject => {
                let reason = json!({ "reason": "r" }).to_string();
                Request::post(format!("/v1/handovers/{handover}/reject"), reason).idempotent(&key)
            }
            Self::LookUp => Request::get(format!("/v1/supply-points/{point}")),
            Self::Recover => {
                let path = format!("/v1/supply-points/{point}/release");
                Request::post(path, serial).idempotent(&key)
            }
        }
    }
}

/// A supply point that nobody supplies.
fn nowhere(n: usize) -> Result<String, Failure> {
    super::plan::valid(&format!("9{:011}", 9_000_000_000 + n)).map(|point| point.to_string())
}

async fn refused(client: &Client, request: Request) -> Result<Duration, Failure> {
    let began = Instant::now();
    let answer = client.send(request).await;
    let taken = began.elapsed();
    match answer {
        Err(ClientError::Refused { .. }) => Ok(taken),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Failure::failed("an outsider was answered")),
    }
}

fn sorted(mut taken: Vec<Duration>) -> Vec<Duration> {
    taken.sort();
    taken
}

/// In microseconds.
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted
        .get(index)
        .map_or(0.0, |taken| taken.as_secs_f64() * 1e6)
}

/// Supply points with a handover and a package.
const POINTS: usize = 100;
/// Refusals that one party may cause in a minute: the most that terms allow.
const PER_MINUTE: u32 = 10_000;
