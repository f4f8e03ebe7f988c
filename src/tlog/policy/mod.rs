//! Trust policies (C2SP tlog-policy): which logs are believed, and whose cosignatures a checkpoint needs.
//!
//! ```text
//! log escrow.example/log/1+f7571521+AepKbGPin…
//! witness north witness.example/w1+24b5d9fe+BP0XJ… https://witness.example/w1
//! witness south other.example/w+b9a0c1d2+BC34… https://other.example/w
//! group suppliers any north south
//! quorum suppliers
//! ```

mod text;

pub use text::{PolicyError, PolicyMistake};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::keys::VerifierKey;
use super::note::{Note, NoteError};
use crate::types::Timestamp;

/// Logs, witnesses, and the rule over their cosignatures. Prints without comments, logs first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustPolicy {
    logs: Vec<TrustedLog>,
    // INVARIANT: a group's members, and the quorum, stand before it. Each is a member once at most.
    nodes: Vec<Node>,
    quorum: Option<usize>,
}

/// A log that a policy names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedLog {
    /// Its key; the name is its origin.
    pub key: VerifierKey,
    /// Where it is, in whatever form the application wants.
    pub url: Option<String>,
}

/// A witness that a policy names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Witness {
    /// What the policy calls it.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// The prefix of its `add-checkpoint`.
    pub url: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Node {
    Witness(Witness),
    Group(Group),
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Group {
    name: String,
    threshold: Threshold,
    members: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Threshold {
    All,
    Any,
    Count(usize),
}

impl Node {
    fn name(&self) -> &str {
        match self {
            Self::Witness(witness) => &witness.name,
            Self::Group(group) => &group.name,
        }
    }
}

/// A checkpoint that satisfies a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trusted<'p> {
    /// What the log says.
    pub checkpoint: Checkpoint,
    /// Which witnesses have cosigned it, and when.
    pub witnesses: Vec<(&'p Witness, Timestamp)>,
}

impl TrustPolicy {
    /// The logs, in the order of the file.
    pub fn logs(&self) -> &[TrustedLog] {
        &self.logs
    }

    /// The witnesses, in the order of the file.
    pub fn witnesses(&self) -> impl Iterator<Item = &Witness> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Witness(witness) => Some(witness),
            Node::Group(_) => None,
        })
    }

    /// Whether any cosignature is needed at all.
    pub fn needs_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether the cosignatures of these witnesses, by name, are enough.
    pub fn is_satisfied_by(&self, cosigned: impl Fn(&Witness) -> bool) -> bool {
        let Some(quorum) = self.quorum else {
            return true;
        };
        let mut holds: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            holds.push(match node {
                Node::Witness(witness) => cosigned(witness),
                Node::Group(group) => {
                    let count = group.members.iter().filter(|at| holds[**at]).count();
                    count >= group.needed()
                }
            });
        }
        holds[quorum]
    }

    /// Reads a checkpoint of one of the policy's logs that its witnesses have cosigned as the quorum demands.
    ///
    /// A signature of any key of the policy that does not verify refuses the whole note. Where the policy names no log,
    /// `log` is the one that is known from elsewhere.
    pub fn open(
        &self,
        note: &Note,
        log: Option<&VerifierKey>,
    ) -> Result<Trusted<'_>, CheckpointError> {
        let checkpoint = self.checkpoint(note, log)?;
        let witnesses = self.cosigned_by(note)?;
        let enough = self.is_satisfied_by(|witness| witnesses.iter().any(|(w, _)| *w == witness));
        if !enough {
            return Err(CheckpointError::Quorum);
        }
        Ok(Trusted {
            checkpoint,
            witnesses,
        })
    }

    /// Which witnesses of the policy have cosigned a note, and when.
    pub fn cosigned_by(&self, note: &Note) -> Result<Vec<(&Witness, Timestamp)>, NoteError> {
        let keys: Vec<_> = self
            .witnesses()
            .map(|witness| witness.key.clone())
            .collect();
        let verified = match note.verify(&keys) {
            Ok(verified) => verified,
            Err(NoteError::NotSigned) => Vec::new(),
            Err(error) => return Err(error),
        };
        let of = |witness: &Witness| {
            let by = verified.iter().find(|by| *by.key == witness.key)?;
            by.signed_at
        };
        Ok(self
            .witnesses()
            .filter_map(|witness| Some((witness, of(witness)?)))
            .collect())
    }

    fn checkpoint(
        &self,
        note: &Note,
        log: Option<&VerifierKey>,
    ) -> Result<Checkpoint, CheckpointError> {
        let known = self.logs.iter().map(|log| &log.key);
        // A log that is known from elsewhere must be one of the policy's, if that has any.
        let keys: Vec<_> = match log {
            Some(log) if self.logs.is_empty() => vec![log],
            Some(log) => known.filter(|key| *key == log).collect(),
            None => known.collect(),
        };
        let mut last = CheckpointError::Note(NoteError::NotSigned);
        for key in keys {
            match Checkpoint::open(note, key) {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(CheckpointError::Note(NoteError::NotSigned)) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Group {
    fn needed(&self) -> usize {
        match self.threshold {
            Threshold::All => self.members.len(),
            Threshold::Any => 1,
            Threshold::Count(count) => count,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{TestLog, log_key, witness_key};
    use super::super::{CosignerKey, LogKey};
    use super::*;
    use crate::types::Secret;

    pub(super) fn cosigner(seed: u8) -> CosignerKey {
        let name = format!("witness.example/{seed}").parse().unwrap();
        CosignerKey::from_seed(name, &Secret::new(vec![seed; 32])).unwrap()
    }

    /// Witnesses `w1` to `w6` and these lines.
    pub(super) fn policy(lines: &str) -> Result<TrustPolicy, PolicyError> {
        let mut text = format!("log {}\n", log_key().verifier());
        for seed in 1..=6 {
            text += &format!("witness w{seed} {}\n", cosigner(seed).verifier());
        }
        (text + lines).parse()
    }

    fn is_satisfied(policy: &TrustPolicy, names: &[&str]) -> bool {
        policy.is_satisfied_by(|witness| names.contains(&witness.name.as_str()))
    }

    #[test]
    fn the_quorum_of_the_specification_wants_two_of_three_and_one_of_three() {
        let policy = policy(
            "group X 2 w1 w2 w3\n\tgroup  Y any w4 w5 w6 \n# both\ngroup both all X Y\nquorum both\n",
        )
        .unwrap();
        for (names, expected) in [
            (&["w1", "w2", "w4"][..], true),
            (&["w1", "w3", "w6"], true),
            (&["w1", "w2", "w3", "w4", "w5", "w6"], true),
            (&["w1", "w2", "w3"], false),
            (&["w1", "w4", "w5", "w6"], false),
            (&[], false),
        ] {
            assert_eq!(is_satisfied(&policy, names), expected, "{names:?}");
        }
        let printed = policy.to_string();
        assert!(printed.ends_with(
            "group X 2 w1 w2 w3\ngroup Y any w4 w5 w6\ngroup both all X Y\nquorum both\n"
        ));
        assert_eq!(printed.parse(), Ok(policy));
    }

    #[test]
    fn a_single_witness_or_nobody_can_be_the_quorum() {
        let one = policy("quorum w2\n").unwrap();
        assert!(is_satisfied(&one, &["w2"]) && !is_satisfied(&one, &["w1"]));
        let nobody: TrustPolicy = "quorum none\n".parse().unwrap();
        assert!(is_satisfied(&nobody, &[]) && !nobody.needs_witnesses());
        assert_eq!(nobody.to_string(), "quorum none\n");
    }

    #[test]
    fn a_checkpoint_opens_with_its_quorum_only() {
        let head = TestLog::golden(3).head();
        let mut note = Checkpoint::sign(head, &log_key());
        let two = policy("group two 2 w1 w2 w3\nquorum two\n").unwrap();
        let key = log_key().verifier().clone();
        assert_eq!(two.open(&note, None), Err(CheckpointError::Quorum));
        let at = Timestamp::from_seconds(1_790_000_000);
        for seed in [1, 1, 5] {
            note.add(cosigner(seed).cosign(note.text(), at)).unwrap();
        }
        assert_eq!(
            two.open(&note, None),
            Err(CheckpointError::Quorum),
            "one of them twice"
        );
        note.add(cosigner(3).cosign(note.text(), at)).unwrap();
        let trusted = two.open(&note, Some(&key)).unwrap();
        assert_eq!(trusted.checkpoint.head, head);
        let names: Vec<_> = trusted
            .witnesses
            .iter()
            .map(|(w, at)| (&w.name[..], *at))
            .collect();
        assert_eq!(names, [("w1", at), ("w3", at), ("w5", at)]);
    }

    #[test]
    fn a_cosignature_over_another_checkpoint_refuses_the_note() {
        let log = TestLog::golden(3);
        let mut note = Checkpoint::sign(log.head(), &log_key());
        let other = Checkpoint::sign(log.heads[2], &log_key());
        let one = policy("quorum w1\n").unwrap();
        note.add(cosigner(1).cosign(other.text(), Timestamp::default()))
            .unwrap();
        let refused = one.open(&note, None);
        assert_eq!(refused, Err(NoteError::BadSignature.into()));
    }

    #[test]
    fn a_log_that_the_policy_does_not_name_is_not_believed() {
        let note = Checkpoint::sign(TestLog::golden(3).head(), &log_key());
        let other = LogKey::from_seed("other".parse().unwrap(), &Secret::new(vec![8; 32]));
        let other = other.unwrap();
        let named: TrustPolicy = format!("log {}\nquorum none\n", other.verifier())
            .parse()
            .unwrap();
        let nobody: TrustPolicy = "quorum none\n".parse().unwrap();
        let key = log_key().verifier().clone();
        let unsigned = Err(NoteError::NotSigned.into());
        assert_eq!(named.open(&note, None), unsigned);
        assert_eq!(named.open(&note, Some(&key)), unsigned);
        assert_eq!(nobody.open(&note, None), unsigned);
        assert!(nobody.open(&note, Some(&key)).is_ok());
        assert_eq!(
            nobody.open(&note, Some(witness_key().verifier())),
            Err(CheckpointError::NotALogKey)
        );
    }

    proptest! {
        #[test]
        fn more_cosignatures_never_satisfy_less(
            lines in "group a [1-3] w1 w2 w3\ngroup b [1-2] w4 w5\ngroup c (any|all) a b w6\nquorum [abc]\n",
            some: [bool; 6], others: [bool; 6],
        ) {
            let policy = policy(&lines).unwrap();
            let number = |witness: &Witness| usize::from(witness.name.as_bytes()[1] - b'1');
            let before = policy.is_satisfied_by(|witness| some[number(witness)]);
            let after = policy.is_satisfied_by(|w| some[number(w)] || others[number(w)]);
            prop_assert!(!before || after);
        }
    }
}
