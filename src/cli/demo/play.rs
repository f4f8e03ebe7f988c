//! Plays the script against the running service, and judges what came of each event.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::events::{Event, css};
use super::market::{Market, Supplier};
use super::script::{Action, DAY, Step};
use crate::cli::exit::Failure;
use crate::client::{ClientError, ReleaseDocument, Request, seal_package, seal_read};
use crate::envelope::package::Package;
use crate::envelope::{Envelope, Kem, Recipient};
use crate::types::{
    Clock as _, Component, HandoverId, Mpid, SupplyPoint, SupplyStartDate, Timestamp,
};

/// A release that was handed out, for what comes after.
pub struct Handed {
    /// Of which event.
    pub event: usize,
    /// The release.
    pub document: ReleaseDocument,
}

/// The running play.
pub struct Play<'a> {
    market: &'a mut Market,
    events: &'a [Event],
    envelopes: BTreeMap<usize, Vec<Envelope>>,
    /// What came of each event, by its index.
    pub outcomes: BTreeMap<usize, String>,
    /// What was released, in order.
    pub handed: Vec<Handed>,
}

impl<'a> Play<'a> {
    /// A play that has not begun.
    pub fn new(market: &'a mut Market, events: &'a [Event]) -> Self {
        Self {
            market,
            events,
            envelopes: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            handed: Vec::new(),
        }
    }

    /// Tells the service who is registered before any of the events.
    pub async fn register_losers(&self) -> Result<(), Failure> {
        let mut lines = vec![
            "registration_id,mpxn,supplier_mpid,supply_start_date,supply_end_date,status,meter_serial"
                .to_owned(),
        ];
        for event in self.events {
            let id = event.registration_id();
            lines.push(format!(
                "P-{id},{},{},2020-01-01,,SecuredActive,",
                event.mpxn, event.loser
            ));
            if let Some(swapped) = neighbour(event) {
                lines.push(format!(
                    "Q-{id},{swapped},{},2020-01-01,,SecuredActive,",
                    event.loser
                ));
            }
        }
        self.market.register(true, &lines).await
    }

    /// Takes one step.
    pub async fn take(&mut self, step: &Step) -> Result<(), Failure> {
        self.market.wait_until(step.at).await?;
        let event = &self.events[step.event];
        match step.action {
            Action::Pending => {
                self.announce(event, "RegistrationPendingNotification")
                    .await
            }
            Action::Secured => {
                self.announce(event, "RegistrationSecuredActiveNotification")
                    .await
            }
            Action::Rejected => self.cancel(event, "Rejected").await,
            Action::Cancelled => self.cancel(event, "Cancelled").await,
            Action::StandingDeposit => self.deposit(step.event, None).await,
            Action::Deposit => self.deposit(step.event, Some(handover(event))).await,
            Action::DepositAgain => self.deposit_again(step.event).await,
            Action::Dispute => self.dispute(event).await,
            Action::Release => self.release(step.event).await,
            Action::SecondSwitch => self.second_switch(event).await,
            Action::SecondRelease => self.second_release(step.event).await,
        }
    }

    async fn announce(&self, event: &Event, kind: &str) -> Result<(), Failure> {
        let status = match kind {
            "RegistrationPendingNotification" => "Pending",
            _ => "SecuredActive",
        };
        let now = self.market.clock.now();
        let mut lines = vec![event.css(kind, status, now).to_string()];
        if let Some(swapped) = neighbour(event) {
            // The neighbour is switched to the same supplier on the same day, so that nothing but the meter differs.
            let id = format!("N-{}", event.registration_id());
            let id = id.parse().map_err(Failure::failed)?;
            let data = json!({
                "supplierMpid": event.gainer, "supplyStartDate": event.supply_start_date,
            });
            lines.push(css((&swapped, &id), (kind, status), now, data).to_string());
        }
        self.market.register(false, &lines).await
    }

    async fn cancel(&self, event: &Event, status: &str) -> Result<(), Failure> {
        let now = self.market.clock.now();
        let record = event.css("RegistrationCancelledNotification", status, now);
        self.market.register(false, &[record.to_string()]).await
    }

    async fn deposit(&mut self, index: usize, handover: Option<HandoverId>) -> Result<(), Failure> {
        let event = &self.events[index];
        let loser = self.supplier(event.loser)?;
        let package = event.package()?;
        let mut envelopes = vec![self.seal(&package, loser).await?];
        if handover.is_some() {
            let read = event.closing_read("losing supplier", 0)?;
            let key = loser.client.escrow_key(Kem::XWing).await?.key;
            let recipients = [(Recipient::Escrow, key)];
            let depositor = loser.depositor(self.market.clock.now());
            let make = package.meter.make.clone();
            envelopes.push(seal_read(&read, make, &recipients, &depositor)?);
        }
        let key = format!("deposit-{}", event.event_id);
        loser.client.deposit(handover, &envelopes, &key).await?;
        if let Some(swapped) = neighbour(event) {
            self.deposit_neighbour(event, swapped).await?;
        }
        self.envelopes.insert(index, envelopes);
        Ok(())
    }

    /// The supply point whose number is a typing error away has a meter and a package of its own.
    async fn deposit_neighbour(&self, event: &Event, swapped: SupplyPoint) -> Result<(), Failure> {
        let loser = self.supplier(event.loser)?;
        let mut package = event.package()?;
        package.supply_point = swapped;
        package.meter.serial = NEIGHBOURS_METER.parse().map_err(Failure::failed)?;
        let envelope = self.seal(&package, loser).await?;
        let key = format!("deposit-neighbour-{}", event.event_id);
        loser.client.deposit(None, &[envelope], &key).await?;
        Ok(())
    }

    async fn seal(&self, package: &Package, loser: &Supplier) -> Result<Envelope, Failure> {
        let key = loser.client.escrow_key(Kem::XWing).await?.key;
        let depositor = loser.depositor(self.market.clock.now());
        let recipients = [(Recipient::Escrow, key)];
        Ok(seal_package(package, None, &recipients, &depositor)?)
    }

    async fn deposit_again(&self, index: usize) -> Result<(), Failure> {
        let event = &self.events[index];
        let loser = self.supplier(event.loser)?;
        let key = format!("deposit-{}", event.event_id);
        let again = loser
            .client
            .deposit(Some(handover(event)), &self.envelopes[&index], &key)
            .await?;
        match again.generation {
            Some(1) => Ok(()),
            other => Err(Failure::failed(format!(
                "a repeated deposit became generation {other:?}"
            ))),
        }
    }

    async fn dispute(&self, event: &Event) -> Result<(), Failure> {
        self.heartbeat().await?;
        let gainer = self.supplier(event.gainer)?;
        let key = gainer.client.escrow_key(Kem::XWing).await?.key;
        let read = event.closing_read("gaining supplier", 7)?;
        let make = event.package()?.meter.make;
        let depositor = gainer.depositor(self.market.clock.now());
        let envelope = seal_read(&read, make, &[(Recipient::Escrow, key)], &depositor)?;
        let key = format!("dispute-{}", event.event_id);
        gainer
            .client
            .dispute(handover(event), &envelope, &key)
            .await?;
        Ok(())
    }

    /// The requester asks; what comes of it is the event's outcome.
    async fn release(&mut self, index: usize) -> Result<(), Failure> {
        self.heartbeat().await?;
        let event = &self.events[index];
        let (target, about) = match (neighbour(event), event.scenario.as_str()) {
            (Some(swapped), "mpan_last2_swapped") => {
                let id = format!("N-{}", event.registration_id());
                let id = id.parse().map_err(Failure::failed)?;
                (HandoverId::of(&swapped, &id), swapped)
            }
            _ => (handover(event), event.mpxn.clone()),
        };
        let serial = match event.scenario.as_str() {
            "wrong_meter" => "WRONG00001",
            _ => event.serial(),
        };
        let key = format!("release-{}", event.event_id);
        let asked = self.ask(event.requester, target, serial, &key).await;
        let outcome = match asked {
            Ok(document) => {
                let outcome = self.judge(index, &document).await?;
                self.handed.push(Handed {
                    event: index,
                    document,
                });
                outcome
            }
            Err(ClientError::Refused { .. }) => self.refusal(&about).await?,
            Err(error) => return Err(error.into()),
        };
        self.outcomes.insert(index, outcome);
        Ok(())
    }

    async fn ask(
        &self,
        who: Mpid,
        handover: HandoverId,
        serial: &str,
        key: &str,
    ) -> Result<ReleaseDocument, ClientError> {
        let supplier = self
            .supplier(who)
            .map_err(|failure| ClientError::Local(failure.message))?;
        let request = json!({ "meter_serial": serial });
        supplier.client.release(handover, &request, key).await
    }

    /// A release is right if it opens to what was deposited, and asking again gives the same bytes.
    async fn judge(&self, index: usize, document: &ReleaseDocument) -> Result<String, Failure> {
        let event = &self.events[index];
        let taker = self.supplier(event.requester)?;
        let expected = event.package()?.to_json();
        let mut opened = false;
        for (item, content) in document.release.open(&taker.sealing) {
            let content = content.map_err(Failure::failed)?;
            if item.body.header().component == Component::Credentials {
                opened |= content.expose() == expected.expose();
            }
        }
        if !opened {
            return Ok("RELEASE of something else than was deposited".to_owned());
        }
        let key = format!("release-{}", event.event_id);
        let again = self
            .ask(event.requester, handover(event), event.serial(), &key)
            .await?;
        if again.bytes != document.bytes {
            return Ok("RELEASE that is not the same when asked again".to_owned());
        }
        let gaps = document.body["gaps"].as_array().map_or(0, Vec::len);
        Ok(match (gaps, document.body["late"] == true) {
            (0, false) => "RELEASE",
            (0, true) => "RELEASE_LATE",
            (_, false) => "RELEASE_PARTIAL",
            (_, true) => "RELEASE_PARTIAL_LATE",
        }
        .to_owned())
    }

    /// The code that the log has, since an outsider only sees that there is nothing for it.
    async fn refusal(&self, supply_point: &SupplyPoint) -> Result<String, Failure> {
        let path =
            format!("/v1/log/entries?kind=release.refused&limit=1&supply_point={supply_point}");
        let found: Value = self.market.auditor.send(Request::get(path)).await?.json()?;
        let code = found["entries"][0]["leaf"]["code"].as_str();
        let code = code.ok_or_else(|| Failure::failed("a refusal that is not in the log"))?;
        Ok(match code {
            "read_mismatch" | "on_hold" | "quarantined" => format!("HOLD:{code}"),
            code => format!("DENY:{code}"),
        })
    }

    async fn second_switch(&self, event: &Event) -> Result<(), Failure> {
        let id = format!("C-{}", event.registration_id());
        let id = id.parse().map_err(Failure::failed)?;
        let start = second_start(event)?;
        let now = self.market.clock.now();
        let data = json!({ "supplierMpid": self.third(event)?, "supplyStartDate": start });
        let lines = [
            ("RegistrationPendingNotification", "Pending"),
            ("RegistrationSecuredActiveNotification", "SecuredActive"),
        ]
        .map(|what| css((&event.mpxn, &id), what, now, data.clone()).to_string());
        self.market.register(false, &lines).await
    }

    /// The third supplier gets what the second may have put into the meter; the first gets nothing any more.
    async fn second_release(&mut self, index: usize) -> Result<(), Failure> {
        self.heartbeat().await?;
        let event = &self.events[index];
        let id = format!("C-{}", event.registration_id());
        let target = HandoverId::of(&event.mpxn, &id.parse().map_err(Failure::failed)?);
        let key = format!("second-{}", event.event_id);
        let third = self
            .ask(self.third(event)?, target, event.serial(), &key)
            .await;
        let first = self.ask(event.loser, target, event.serial(), &key).await;
        let second = self
            .ask(
                event.gainer,
                handover(event),
                event.serial(),
                &format!("{key}-late"),
            )
            .await;
        let refused =
            |asked: &Result<_, ClientError>| matches!(asked, Err(ClientError::Refused { .. }));
        if third.is_err() || !refused(&first) || !refused(&second) {
            let outcome = format!(
                "third {}, first {}, second {}",
                third.is_ok(),
                first.is_ok(),
                second.is_ok()
            );
            self.outcomes.insert(index, outcome);
        }
        Ok(())
    }

    /// A real feed is never silent for a day; the demo's would be between its events.
    async fn heartbeat(&self) -> Result<(), Failure> {
        let Some(event) = self.events.first() else {
            return Ok(());
        };
        let id = event.registration_id();
        let line = format!("P-{id},{},{},2020-01-01", event.mpxn, event.loser);
        let header = "registration_id,mpxn,supplier_mpid,supply_start_date".to_owned();
        self.market.register(true, &[header, line]).await
    }

    fn supplier(&self, mpid: Mpid) -> Result<&Supplier, Failure> {
        let supplier = self.market.suppliers.get(&mpid);
        supplier.ok_or_else(|| Failure::failed(format!("supplier {mpid} takes no part")))
    }

    /// Some supplier that has no part in the event yet.
    fn third(&self, event: &Event) -> Result<Mpid, Failure> {
        let mut others = self.market.suppliers.keys();
        others
            .find(|mpid| ![event.loser, event.gainer, event.requester].contains(mpid))
            .copied()
            .ok_or_else(|| Failure::failed("there is no third supplier"))
    }
}

/// The handover of an event.
pub fn handover(event: &Event) -> HandoverId {
    HandoverId::of(&event.mpxn, &event.registration_id())
}

/// The supply point that a typing error leads to, where the scenario is about that.
fn neighbour(event: &Event) -> Option<SupplyPoint> {
    (event.scenario == "mpan_last2_swapped")
        .then(|| event.swapped())
        .flatten()
}

fn second_start(event: &Event) -> Result<SupplyStartDate, Failure> {
    // Noon, so that a change of clocks in between does not move the date.
    let later: Timestamp = event.effective_utc.after(3 * DAY + DAY / 2);
    SupplyStartDate::containing(later).map_err(Failure::failed)
}

/// The serial of the meter at the neighbouring supply point.
const NEIGHBOURS_METER: &str = "NEIGHBOUR1";
