//! What was acknowledged, to be found again whatever has happened to the service since.

use std::collections::BTreeMap;

use cos_escrow::client::{Client, Request};
use cos_escrow::identity::Issued;
use serde_json::Value;

use crate::live::{Acknowledged, Live, Mirror, Service, What, now};

/// All that was acknowledged so far, and the auditor that looks for it.
pub(super) struct Account {
    auditor: Issued,
    mirror: Mirror,
    acknowledged: Vec<Acknowledged>,
}

impl Account {
    pub(super) fn open(live: &Live) -> Self {
        Self {
            auditor: live.issue("urn:cos-escrow:auditor:live", now()),
            mirror: Mirror::default(),
            acknowledged: Vec::new(),
        }
    }

    /// Whatever was seen of the log before, by whichever process, is part of it.
    pub(super) async fn continues(&self, live: &Live, service: &Service) {
        let pinned = live.pinned(&self.auditor, service, "pinned-auditor");
        pinned.verified_checkpoint().await.unwrap();
    }

    /// Enters what is new, verifies the log, and returns the entries that it should have and has not.
    pub(super) async fn enter(
        &mut self,
        live: &Live,
        service: &Service,
        new: Vec<Acknowledged>,
    ) -> Vec<u64> {
        let reader = live.client(&self.auditor, service);
        let log = self.mirror.fetch(&reader, &service.log_key).await;
        let missing = |receipt: &&Acknowledged| !receipt.is_in(&log, &service.log_key);
        let lost = new.iter().filter(missing).map(|receipt| receipt.index);
        let lost = lost.collect();
        self.acknowledged.extend(new);
        lost
    }

    /// Finds everything again, in a log that is fetched anew and in the handovers, all of which are at their end.
    /// Returns the size of the log, and how much of each kind there was.
    pub(super) async fn close(
        mut self,
        live: &Live,
        service: &Service,
    ) -> (u64, BTreeMap<What, usize>) {
        self.continues(live, service).await;
        self.mirror = Mirror::default();
        let all = std::mem::take(&mut self.acknowledged);
        let lost = self.enter(live, service, all).await;
        assert!(
            lost.is_empty(),
            "acknowledged, and not in the log: {lost:?}"
        );
        let auditor = live.client(&self.auditor, service);
        let log = self.mirror.fetch(&auditor, &service.log_key).await;
        let gainer = live.client(&live.gainer.tls, service);
        let handovers = gained(&gainer).await;
        let mut counts = BTreeMap::new();
        for receipt in &self.acknowledged {
            is_reflected(receipt, &handovers[&receipt.handover.to_string()]);
            *counts.entry(receipt.what).or_default() += 1;
        }
        (log.head.size, counts)
    }
}

/// A handover is where its acknowledgement says, and since every worker ends with a whole one, at its end.
fn is_reflected(receipt: &Acknowledged, handover: &Value) {
    let instant = match receipt.what {
        What::Deposit => "deposited_at",
        What::Release => "released_at",
        What::Confirmation => "confirmed_at",
    };
    let what = receipt.what;
    assert!(handover[instant].is_string(), "{what:?}: {handover}");
    assert_eq!(handover["state"], "confirmed", "{handover}");
}

/// All handovers to the gaining supplier, by id.
async fn gained(gainer: &Client) -> BTreeMap<String, Value> {
    let mut handovers = BTreeMap::new();
    let mut path = "/v1/handovers?role=gaining&limit=1000".to_owned();
    loop {
        let answer = gainer.send(Request::get(&path)).await.unwrap();
        let page: Value = answer.json().unwrap();
        for handover in page["handovers"].as_array().unwrap() {
            let id = handover["id"].as_str().unwrap().to_owned();
            handovers.insert(id, handover.clone());
        }
        let Some(next) = page["next"].as_str() else {
            return handovers;
        };
        path = format!("/v1/handovers?role=gaining&limit=1000&after={next}");
    }
}
