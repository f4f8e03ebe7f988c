//! What one batch sees and does: facts, changes and new entries of the log, inside one transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::{Caller, Rules};
use crate::custody::Custody;
use crate::envelope::{Context, Kek};
use crate::store::{
    Changes, Directory, EntryRow, Facts, Handover, IdempotentAnswer, NodeRow, StoredEnvelope,
    SupplyPointFacts, WrappedKey,
};
use crate::tlog::{Draft, Frontier, Hash, NodeId, TreeHead, leaf_hash};
use crate::types::{Code, Random, SupplyPoint, Timestamp};

/// The batch's view of the world. What one request changes, the next one sees.
pub(super) struct Ledger<'a> {
    /// As the transaction sees them, with the batch's own changes on top.
    pub(super) facts: Facts,
    /// What will be written.
    pub(super) changes: Changes,
    /// When the batch is decided; never before the newest entry.
    pub(super) now: Timestamp,
    /// Policy and terms in force for this batch.
    pub(super) rules: &'a Rules,
    pub(super) custody: &'a Custody,
    pub(super) random: &'a dyn Random,
    tree: Frontier,
    nodes: HashMap<NodeId, Hash>,
    appended: Vec<Appended>,
    scopes: HashMap<String, Kek>,
}

/// An entry of this batch, as its receipt will show it.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    pub(super) index: u64,
    pub(super) leaf: Vec<u8>,
    pub(super) disclosures: Vec<String>,
}

/// What a batch leaves behind for receipts: enough to prove each of its entries without reading anything.
#[derive(Debug)]
pub(super) struct Growth {
    pub(super) head: TreeHead,
    pub(super) nodes: HashMap<NodeId, Hash>,
    pub(super) entries: Vec<Appended>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(
        facts: Facts,
        now: Timestamp,
        rules: &'a Rules,
        custody: &'a Custody,
        random: &'a dyn Random,
    ) -> Self {
        let tree = Frontier::from_bytes(&facts.head.frontier)
            .expect("the head was written by this program and is checked when the service starts");
        let changes = Changes {
            head: facts.head.clone(),
            ..Changes::default()
        };
        Self {
            now: now.max(facts.head.last_at),
            nodes: tree.nodes().collect(),
            facts,
            changes,
            rules,
            custody,
            random,
            tree,
            appended: Vec::new(),
            scopes: HashMap::new(),
        }
    }

    /// All that is known of a supply point.
    pub(super) fn point(&self, supply_point: &SupplyPoint) -> &SupplyPointFacts {
        static UNKNOWN: SupplyPointFacts = SupplyPointFacts {
            registrations: Vec::new(),
            earlier: Vec::new(),
            handovers: Vec::new(),
            envelopes: Vec::new(),
            numbered: BTreeMap::new(),
            grants: Vec::new(),
            meter: None,
            meter_versions: 0,
        };
        self.facts
            .supply_points
            .get(supply_point)
            .unwrap_or(&UNKNOWN)
    }

    pub(super) fn point_mut(&mut self, supply_point: &SupplyPoint) -> &mut SupplyPointFacts {
        self.facts
            .supply_points
            .entry(supply_point.clone())
            .or_default()
    }

    /// Stores a new or changed handover; its version grows.
    pub(super) fn put_handover(&mut self, mut handover: Handover) {
        handover.version += 1;
        let known = &mut self.point_mut(&handover.supply_point).handovers;
        match known.iter_mut().find(|h| h.id == handover.id) {
            Some(older) => *older = handover.clone(),
            None => known.push(handover.clone()),
        }
        self.changes.handovers.insert(handover.id, handover);
    }

    /// Stores a new envelope.
    pub(super) fn put_envelope(
        &mut self,
        envelope: StoredEnvelope,
        key: WrappedKey,
        body: Vec<u8>,
    ) {
        self.facts.known_envelopes.insert(envelope.id);
        let point = self.point_mut(&envelope.supply_point);
        point
            .numbered
            .insert(envelope.component, envelope.generation);
        point.envelopes.push(envelope.clone());
        self.changes.envelopes.push((envelope, key, body));
    }

    /// Stores the changed status of an envelope.
    pub(super) fn change_status(&mut self, envelope: StoredEnvelope) {
        let known = &mut self.point_mut(&envelope.supply_point).envelopes;
        if let Some(older) = known.iter_mut().find(|e| e.id == envelope.id) {
            *older = envelope.clone();
        }
        // One that came in this very batch is written with its newest status.
        let fresh = self.changes.envelopes.iter_mut();
        match fresh.map(|(e, ..)| e).find(|e| e.id == envelope.id) {
            Some(new) => *new = envelope,
            None => {
                self.changes.statuses.insert(envelope.id, envelope);
            }
        }
    }

    /// The answer given before under this idempotency key.
    pub(super) fn answered(&self, key: &(String, String)) -> Option<&IdempotentAnswer> {
        self.facts.idempotency.get(key)
    }

    /// Remembers an answer under its idempotency key.
    pub(super) fn remember(&mut self, key: (String, String), answer: IdempotentAnswer) {
        self.facts.idempotency.insert(key.clone(), answer.clone());
        self.changes.idempotency.push((key, answer));
    }

    /// Changes the directory for the rest of this batch, and tells everybody else to read it again.
    pub(super) fn change_directory(&mut self, change: impl FnOnce(&mut Directory)) {
        self.changes.head.directory_epoch += 1;
        let directory = Arc::make_mut(&mut self.facts.directory);
        directory.epoch = self.changes.head.directory_epoch;
        change(directory);
    }

    /// Appends an entry; its index is final once the transaction commits.
    pub(super) fn append(&mut self, act: Act<'_>) -> u64 {
        let index = self.tree.size();
        let actor = act.caller.identity.to_string();
        let known = self.facts.actors.get(&actor).copied();
        let (sequence, previous) = known.unwrap_or_default();
        let sequence = sequence.max(self.facts.head.numbered_above);
        self.number(&actor, sequence + 1, index);

        let mut draft = Draft::new(act.kind, self.now)
            .hide("actor", actor.as_str())
            .hide("actor_sequence", sequence + 1)
            .hide("certificate", act.caller.certificate.to_string())
            .hide("request_id", act.caller.request_id.as_str());
        if known.is_some() {
            draft = draft.hide("actor_previous", previous);
        }
        if let Some(subject) = act.subject {
            draft = draft.hide("supply_point", subject.as_str());
        }
        if let Some(code) = act.code {
            draft = draft.show("code", code.as_str());
        }
        for (name, value) in act.shown {
            draft = draft.show(name, value);
        }
        for (name, value) in act.hidden {
            draft = draft.hide(name, value);
        }
        let entry = draft
            .finish(self.random)
            .expect("entries are made of bounded fields and stay below the limit");
        let hash = leaf_hash(&entry.leaf);
        self.grow(hash);

        let scope = act
            .subject
            .filter(|_| !act.outside)
            .map_or_else(|| actor.clone(), ToString::to_string);
        let disclosures = self.seal_disclosures(&scope, index, &entry.disclosures);
        self.changes.entries.push(EntryRow {
            index,
            leaf: entry.leaf.clone(),
            hash: hash.0,
            scope,
            disclosures,
            at: self.now,
            kind: act.kind.to_owned(),
            party: Some(actor),
            subject: act
                .subject
                .map(|subject| self.custody.index_of(subject.as_str())),
            code: act.code.map(Code::as_str),
        });
        self.appended.push(Appended {
            index,
            leaf: entry.leaf,
            disclosures: entry.disclosures,
        });
        index
    }

    /// Takes note of an actor's newest entry and its number.
    pub(super) fn number(&mut self, actor: &str, sequence: u64, index: u64) {
        for actors in [&mut self.facts.actors, &mut self.changes.actors] {
            actors.insert(actor.to_owned(), (sequence, index));
        }
    }

    /// What to write, and what receipts need.
    pub(super) fn finish(mut self) -> (Changes, Growth) {
        let head = self.tree.head();
        if !self.appended.is_empty() {
            self.changes.head.size = head.size;
            self.changes.head.root = head.root.0;
            self.changes.head.frontier = self.tree.to_bytes();
            self.changes.head.last_at = self.now;
        }
        let growth = Growth {
            head,
            nodes: self.nodes,
            entries: self.appended,
        };
        (self.changes, growth)
    }

    fn grow(&mut self, hash: Hash) {
        let (nodes, rows) = (&mut self.nodes, &mut self.changes.nodes);
        self.tree.append(hash, |node, hash| {
            nodes.insert(node, hash);
            if node.level > 0 && node.level.is_multiple_of(8) {
                rows.push(NodeRow {
                    level: node.level,
                    index: node.index,
                    hash: hash.0,
                });
            }
        });
    }

    /// Encrypts what an entry hides under the key of its scope.
    pub(super) fn seal_disclosures(
        &mut self,
        scope: &str,
        index: u64,
        disclosures: &[String],
    ) -> Vec<u8> {
        let random = self.random;
        let key = self.scope_key(scope);
        let text = serde_json::to_vec(disclosures).expect("text serialises");
        key.seal_at_rest(&disclosure_context(index), &text, random)
    }

    /// The key of a scope: made with its first entry.
    fn scope_key(&mut self, scope: &str) -> &Kek {
        if !self.scopes.contains_key(scope) {
            let key = match self.facts.disclosure_keys.get(scope) {
                Some(wrapped) => open_scope_key(self.custody, scope, wrapped),
                None => None,
            };
            let key = key.unwrap_or_else(|| self.new_scope_key(scope));
            self.scopes.insert(scope.to_owned(), key);
        }
        &self.scopes[scope]
    }

    fn new_scope_key(&mut self, scope: &str) -> Kek {
        let key = Kek::random(self.random);
        let wrapped = self.custody.disclosure_kek().seal_at_rest(
            &scope_context(scope),
            key.expose(),
            self.random,
        );
        self.facts
            .disclosure_keys
            .insert(scope.to_owned(), wrapped.clone());
        self.changes
            .disclosure_keys
            .push((scope.to_owned(), wrapped));
        key
    }
}

/// Opens what an entry hides; none if the scope's key was erased or is another service's.
pub(super) fn open_disclosures(
    custody: &Custody,
    scope: &str,
    wrapped: &[u8],
    index: u64,
    sealed: &[u8],
) -> Option<Vec<String>> {
    let key = open_scope_key(custody, scope, wrapped)?;
    let text = key.open_at_rest(&disclosure_context(index), sealed).ok()?;
    serde_json::from_slice(text.expose()).ok()
}

fn open_scope_key(custody: &Custody, scope: &str, wrapped: &[u8]) -> Option<Kek> {
    let kek = custody.disclosure_kek();
    let secret = kek.open_at_rest(&scope_context(scope), wrapped).ok()?;
    Kek::from_secret(&secret).ok()
}

fn scope_context(scope: &str) -> Context {
    Context::new("cos-escrow/disclosure-key/1").with("scope", scope.as_bytes())
}

fn disclosure_context(index: u64) -> Context {
    Context::new("cos-escrow/disclosure/1").with("index", &index.to_be_bytes())
}

/// What an entry records: shown to whoever reads the log, or hidden behind a salted digest.
pub(super) struct Act<'a> {
    kind: &'static str,
    caller: &'a Caller,
    subject: Option<&'a SupplyPoint>,
    outside: bool,
    code: Option<Code>,
    shown: Vec<(&'static str, Value)>,
    hidden: Vec<(&'static str, Value)>,
}

impl<'a> Act<'a> {
    /// An act of `caller`.
    pub(super) fn of(kind: &'static str, caller: &'a Caller) -> Self {
        Self {
            kind,
            caller,
            subject: None,
            outside: false,
            code: None,
            shown: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// About a supply point, which stays hidden.
    pub(super) fn about(mut self, subject: &'a SupplyPoint) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Whether by a party that has no part in the supply point. What it is told to hide is sealed under its own key: no
    /// key is made for a supply point because an outsider named it, and none of the suppliers' is used.
    pub(super) fn outside(mut self, outside: bool) -> Self {
        self.outside = outside;
        self
    }

    /// A refusal with this code.
    pub(super) fn refused(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    /// A field that every reader of the log sees.
    pub(super) fn shows(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.shown.push((name, value.into()));
        self
    }

    /// A field behind a salted digest.
    pub(super) fn hides(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.hidden.push((name, value.into()));
        self
    }
}
