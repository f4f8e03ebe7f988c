//! What the service decides by, and the entries that say so: auditors see what was in force when.

use std::sync::Arc;

use serde_json::{Value, json};

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure, Shared};
use crate::handover::Terms;
use crate::identity::Anchors;
use crate::policy::Engine;
use crate::store::Needs;
use crate::types::Digest;

/// What the service decides by; replaced whole when configuration is read again.
pub struct Rules {
    /// The policies in force.
    pub policy: Engine,
    /// Windows, delays and limits.
    pub terms: Terms,
    /// What signatures of parties are verified against.
    pub anchors: Arc<Anchors>,
    /// Whether packages may come in clear over mutual TLS, to be sealed here.
    pub seal_server: SealServer,
}

/// Whether the service seals packages itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SealServer {
    /// It does, for clients that cannot.
    Allowed,
    /// Depositors must seal themselves.
    Forbidden,
}

impl Rules {
    /// All that an operator can set of them, as entries show it.
    pub(super) fn in_force(&self) -> Value {
        json!({
            "policy": self.policy.digest(),
            "seal_server": self.seal_server,
            "terms": self.terms,
        })
    }
}

impl Escrow {
    /// Replaces policy and terms; the change is an entry before anything is decided by it.
    pub async fn replace_rules(&self, caller: Caller, rules: Rules) -> Result<(), Failure> {
        self.announce(caller, &rules).await?;
        self.shared.rules.store(Arc::new(rules));
        Ok(())
    }

    /// Makes an entry of the rules that the service starts with, if the log knows others.
    pub(super) async fn announce_rules(&self) -> Result<(), Failure> {
        if self.fenced().is_some() {
            return Ok(());
        }
        let rules = self.shared.rules.load_full();
        self.announce(Caller::service(), &rules).await
    }

    async fn announce(&self, caller: Caller, rules: &Rules) -> Result<(), Failure> {
        let before = self.shared.rules_in_log().await?;
        let after = rules.in_force();
        if before == after {
            return Ok(());
        }
        let command = RulesChanged { before, after };
        self.submit(caller, None, command).await.map(drop)
    }

    /// The policies in force.
    pub fn policy_digest(&self) -> Digest {
        self.shared.rules.load().policy.digest()
    }

    /// Windows, delays and limits in force.
    pub fn terms(&self) -> Terms {
        self.shared.rules.load().terms.clone()
    }
}

impl Shared {
    /// The rules that the log names as those in force; null if it names none.
    async fn rules_in_log(&self) -> Result<Value, Failure> {
        let shown = |entry: &crate::tlog::OpenEntry, name| entry.shown().get(name).cloned();
        let rules = match self.newest_of("policy.changed").await? {
            Some(change) => shown(&change, "after"),
            None => {
                let genesis = self.newest_of("log.genesis").await?;
                genesis.and_then(|genesis| shown(&genesis, "rules"))
            }
        };
        Ok(rules.unwrap_or_default())
    }
}

/// The rules were replaced.
struct RulesChanged {
    before: Value,
    after: Value,
}

impl Command for RulesChanged {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let entry = ledger.append(
            Act::of("policy.changed", caller)
                .shows("before", self.before.clone())
                .shows("after", self.after.clone()),
        );
        Verdict::Done {
            answer: Value::Null,
            entry: Some(entry),
        }
    }
}
