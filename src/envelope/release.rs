//! A release: what the gaining supplier gets under one grant, sealed to one of its keys.
//!
//! ```text
//! magic       [5]       "cosR" 0x01
//! grant       [16]
//! handover    [16]
//! recipient   text8     party id
//! key id      [32]      the recipient's sealing key that every stanza is sealed to
//! issued      u64       milliseconds since 1970-01-01T00:00Z
//! items       u8 n      1 to 64, credentials before reads, each generation once, the likeliest first; n times:
//!   generation  u32
//!   status      text8     a word such as `current`
//!   deposited   u64       milliseconds since 1970-01-01T00:00Z: the time of the deposit's entry in the log
//!   body        bytes32   see `body`
//!   stanza      bytes16   see `stanza`; the depositor's own, or made by the service
//! ```
//! Each item opens by itself, so that one bad generation does not lose the others: together they are the candidates for
//! the keys that the meter has now. To open an item: open its stanza for H(header) with the sealing key, check the
//! commitment, decrypt; and verify the depositor's signature, which the body carries, as of the deposit: its certificate
//! may have ended since. The time is the service's word, to which the log commits with the digest of the release.

use std::collections::BTreeSet;

use crate::types::{Component, Digest, GrantId, HandoverId, KeyId, PartyId, Secret, Timestamp};

use super::body::{Body, MAX_BODY_BYTES, OpenError};
use super::header::Word;
use super::sealing_key::SealingKeyPair;
use super::stanza::{MAX_STANZA_BYTES, Recipient, Stanza};
use super::wire::{Decoder, Encoder, FormatError};

/// What one grant gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    issue: Issue,
    items: Vec<Item>,
}

/// For whom a release is and under which grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issue {
    /// The permission.
    pub grant: GrantId,
    /// The change of supplier.
    pub handover: HandoverId,
    /// The gaining supplier.
    pub recipient: PartyId,
    /// The recipient's key that the stanzas are sealed to.
    pub key_id: KeyId,
    /// When.
    pub issued_at: Timestamp,
}

/// One generation of credentials, or the read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its number among the generations of the meter.
    pub generation: u32,
    /// What the service knows of it, such as `current` or `prepared`.
    pub status: Word,
    /// When the log recorded its deposit.
    pub deposited_at: Timestamp,
    /// The sealed content.
    pub body: Body,
    /// The key of the content, sealed to the recipient.
    pub stanza: Stanza,
}

impl Item {
    /// Opens the content. The depositor's signature is verified apart, with `body.verify`.
    pub fn open(&self, key: &SealingKeyPair) -> Result<Secret, OpenError> {
        self.body.open_with(&self.stanza, key)
    }

    fn component(&self) -> Component {
        self.body.header().component
    }
}

impl Release {
    /// Puts a release together: credentials before reads, and otherwise in the given order, which says what to try first.
    pub fn assemble(issue: Issue, mut items: Vec<Item>) -> Result<Self, FormatError> {
        items.sort_by_key(Item::component);
        Self::from_ordered(issue, items)
    }

    /// For whom it is and under which grant.
    pub fn issue(&self) -> &Issue {
        &self.issue
    }

    /// Credentials before reads, newest first.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Opens every item; one that does not open leaves the others.
    pub fn open<'a>(
        &'a self,
        key: &'a SealingKeyPair,
    ) -> impl Iterator<Item = (&'a Item, Result<Secret, OpenError>)> {
        self.items.iter().map(|item| (item, item.open(key)))
    }

    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::with_magic(MAGIC)
            .raw(self.issue.grant.as_bytes())
            .raw(self.issue.handover.as_bytes())
            .text8(self.issue.recipient.as_str())
            .raw(self.issue.key_id.0.as_bytes())
            .u64(self.issue.issued_at.as_millis())
            .count(self.items.len())
            .each(&self.items, |e, item| {
                e.u32(item.generation)
                    .text8(item.status.as_str())
                    .u64(item.deposited_at.as_millis())
                    .bytes32(&item.body.encode())
                    .bytes16(&item.stanza.encode())
            })
            .finish()
    }

    /// Reads the one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, MAGIC)?;
        let issue = Issue {
            grant: GrantId(fields.array()?),
            handover: HandoverId(fields.array()?),
            recipient: fields.parsed("recipient")?,
            key_id: KeyId(Digest(fields.array()?)),
            issued_at: Timestamp::from_millis(fields.u64()?),
        };
        let items = fields.list("items", MAX_ITEMS, |f| {
            Ok(Item {
                generation: f.u32()?,
                status: f.parsed("status")?,
                deposited_at: Timestamp::from_millis(f.u64()?),
                body: Body::decode(f.bytes32("body", MAX_BODY_BYTES)?)?,
                stanza: Stanza::decode(f.bytes16("stanza", MAX_STANZA_BYTES)?)?,
            })
        })?;
        fields.finish()?;
        Self::from_ordered(issue, items)
    }

    /// SHA-256 of the encoding: what the log commits to.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    fn from_ordered(issue: Issue, items: Vec<Item>) -> Result<Self, FormatError> {
        if items.is_empty() {
            return Err(FormatError::Field("items"));
        }
        if items.len() > MAX_ITEMS {
            return Err(FormatError::TooLarge("items"));
        }
        let generations: BTreeSet<_> = items
            .iter()
            .map(|item| (item.component(), item.generation))
            .collect();
        if !items.is_sorted_by_key(Item::component) || generations.len() < items.len() {
            return Err(FormatError::OutOfOrder("items"));
        }
        let recipient = Recipient::Party(issue.recipient.clone());
        let theirs =
            |stanza: &Stanza| stanza.key_id() == issue.key_id && *stanza.recipient() == recipient;
        if !items.iter().all(|item| theirs(&item.stanza)) {
            return Err(FormatError::StanzaMismatch);
        }
        Ok(Self { issue, items })
    }
}

const MAX_ITEMS: usize = 64;
const MAGIC: &[u8] = b"cosR\x01";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::testing::{self, Counter};
    use crate::envelope::{Header, Kem, SealingKeyPair};

    fn key() -> SealingKeyPair {
        SealingKeyPair::generate(Kem::X25519, &Counter::seeded(1))
    }

    fn issue() -> Issue {
        Issue {
            grant: GrantId([1; 16]),
            handover: HandoverId([2; 16]),
            recipient: "gainer".parse().unwrap(),
            key_id: key().id(),
            issued_at: Timestamp::from_millis(5),
        }
    }

    fn item(component: Component, generation: u32, recipient: &str) -> Item {
        let random = Counter::seeded(u64::from(generation));
        let header = Header {
            component,
            ..testing::header()
        };
        let content = format!("{} {generation}", component.as_str());
        let (body, dek) = Body::seal(content.as_bytes(), header, &random).unwrap();
        let digest = body.header().digest();
        let recipient = Recipient::Party(recipient.parse().unwrap());
        let stanza = Stanza::seal(&dek, &digest, &recipient, key().public(), &random);
        Item {
            generation,
            status: "current".parse().unwrap(),
            deposited_at: Timestamp::from_millis(4),
            body,
            stanza: stanza.unwrap(),
        }
    }

    fn release() -> Release {
        let items = [
            item(Component::Read, 1, "gainer"),
            item(Component::Credentials, 2, "gainer"),
            item(Component::Credentials, 1, "gainer"),
        ];
        Release::assemble(issue(), items.into()).unwrap()
    }

    #[test]
    fn credentials_come_before_reads_and_each_opens() {
        let release = Release::decode(&release().encode()).unwrap();
        let opened: Vec<_> = release
            .open(&key())
            .map(|(item, content)| {
                let content = content.unwrap().expose().to_vec();
                (item.generation, String::from_utf8(content).unwrap())
            })
            .collect();
        let expected = [(2, "credentials 2"), (1, "credentials 1"), (1, "read 1")];
        assert_eq!(opened, expected.map(|(n, text)| (n, text.to_owned())));
    }

    #[test]
    fn a_generation_that_does_not_open_leaves_the_others() {
        let mut release = release();
        release.items[0].stanza = release.items[1].stanza.clone();
        let opened: Vec<_> = release.open(&key()).map(|(_, c)| c.is_ok()).collect();
        assert_eq!(opened, [false, true, true]);
    }

    #[test]
    fn items_out_of_order_are_refused() {
        let mut bytes = release();
        bytes.items.swap(1, 2);
        let refused = Release::decode(&bytes.encode());
        assert_eq!(refused, Err(FormatError::OutOfOrder("items")));
        let twice = [
            item(Component::Credentials, 1, "gainer"),
            item(Component::Credentials, 1, "gainer"),
        ];
        let refused = Release::assemble(issue(), twice.into());
        assert_eq!(refused, Err(FormatError::OutOfOrder("items")));
    }

    #[test]
    fn a_stanza_for_somebody_else_is_refused() {
        let foreign = vec![item(Component::Credentials, 1, "stranger")];
        let refused = Release::assemble(issue(), foreign);
        assert_eq!(refused, Err(FormatError::StanzaMismatch));
        let other_key = Issue {
            key_id: KeyId::of(b"another"),
            ..issue()
        };
        let items = vec![item(Component::Credentials, 1, "gainer")];
        let refused = Release::assemble(other_key, items);
        assert_eq!(refused, Err(FormatError::StanzaMismatch));
    }

    #[test]
    fn a_release_of_nothing_is_refused() {
        let refused = Release::assemble(issue(), Vec::new());
        assert_eq!(refused, Err(FormatError::Field("items")));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>, at in 0..2000_usize, byte: u8) {
            let _ = Release::decode(&[MAGIC, &bytes].concat());
            let mut changed = release().encode();
            let at = at % changed.len();
            changed[at] = byte;
            if let Ok(release) = Release::decode(&changed) {
                prop_assert_eq!(release.encode(), changed);
            }
        }
    }
}
