//! Trust policies (C2SP tlog-policy): which logs are believed, and whose cosignatures a checkpoint needs.
//!
//! ```text
//! log escrow.example/log/1+f7571521+AepKbGPin…
//! witness north witness.example/w1+24b5d9fe+BP0XJ… https://witness.example/w1
//! witness south other.example/w+b9a0c1d2+BC34… https://other.example/w
//! group suppliers any north south
//! quorum suppliers
//! ```
//!
//! Stricter than the format where it leaves room: text is UTF-8, the last line ends, too (a file that was cut short could
//! ask for less), and one public key stands on one line only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::decimal;
use super::keys::{KeyKind, VerifierKey};
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

impl FromStr for TrustPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLarge);
        }
        let lines = text.strip_suffix('\n').ok_or(PolicyError::NoNewline)?;
        let mut reader = Reader::default();
        for (number, line) in (1..).zip(lines.split('\n')) {
            reader
                .read(line)
                .map_err(|what| PolicyError::Line { number, what })?;
        }
        let quorum = reader.quorum.ok_or(PolicyError::NoQuorum)?;
        Ok(Self {
            logs: reader.logs,
            nodes: reader.nodes,
            quorum,
        })
    }
}

/// What the lines so far have said.
#[derive(Default)]
struct Reader {
    logs: Vec<TrustedLog>,
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    keys: BTreeSet<[u8; 32]>,
    members: BTreeSet<usize>,
    quorum: Option<Option<usize>>,
}

impl Reader {
    fn read(&mut self, line: &str) -> Result<(), PolicyMistake> {
        let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
        if line.bytes().any(is_control) {
            return Err(PolicyMistake::Control);
        }
        let words: Vec<_> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
        match *words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, threshold, ref members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            _ => Err(PolicyMistake::Form),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), PolicyMistake> {
        if self.logs.len() == MAX_LOGS {
            return Err(PolicyMistake::TooMany);
        }
        let key = self.key(key, KeyKind::Log)?;
        let url = url.map(str::to_owned);
        self.logs.push(TrustedLog { key, url });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), PolicyMistake> {
        let key = self.key(key, KeyKind::Cosigner)?;
        self.define(
            name,
            Node::Witness(Witness {
                name: name.to_owned(),
                key,
                url: url.map(str::to_owned),
            }),
        )
    }

    fn group(
        &mut self,
        name: &str,
        threshold: &str,
        members: &[&str],
    ) -> Result<(), PolicyMistake> {
        let threshold = match threshold {
            "all" => Threshold::All,
            "any" => Threshold::Any,
            count => {
                let count = decimal(count).and_then(|count| usize::try_from(count).ok());
                Threshold::Count(count.ok_or(PolicyMistake::Threshold)?)
            }
        };
        let members = members
            .iter()
            .map(|member| {
                self.names
                    .get(*member)
                    .copied()
                    .ok_or(PolicyMistake::Unknown)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let group = Group {
            name: name.to_owned(),
            threshold,
            members,
        };
        // Also refuses a group without members.
        if !(1..=group.members.len()).contains(&group.needed()) {
            return Err(PolicyMistake::Threshold);
        }
        if !group
            .members
            .iter()
            .all(|member| self.members.insert(*member))
        {
            return Err(PolicyMistake::MemberTwice);
        }
        self.define(name, Node::Group(group))
    }

    fn quorum(&mut self, name: &str) -> Result<(), PolicyMistake> {
        if self.quorum.is_some() {
            return Err(PolicyMistake::SecondQuorum);
        }
        let at = match name {
            NONE => None,
            name => Some(*self.names.get(name).ok_or(PolicyMistake::Unknown)?),
        };
        self.quorum = Some(at);
        Ok(())
    }

    fn key(&mut self, text: &str, kind: KeyKind) -> Result<VerifierKey, PolicyMistake> {
        let key: VerifierKey = text.parse().map_err(|_| PolicyMistake::Key)?;
        if key.kind() != kind {
            return Err(PolicyMistake::KeyKind);
        }
        let is_new = self.keys.insert(*key.public());
        is_new.then_some(key).ok_or(PolicyMistake::KeyTwice)
    }

    fn define(&mut self, name: &str, node: Node) -> Result<(), PolicyMistake> {
        if self.nodes.len() == MAX_NODES {
            return Err(PolicyMistake::TooMany);
        }
        if name == NONE || self.names.contains_key(name) {
            return Err(PolicyMistake::NameTwice);
        }
        self.names.insert(name.to_owned(), self.nodes.len());
        self.nodes.push(node);
        Ok(())
    }
}

impl fmt::Display for TrustPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |url: &Option<String>| url.as_ref().map_or(String::new(), |url| format!(" {url}"));
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, at(&log.url))?;
        }
        for node in &self.nodes {
            match node {
                Node::Witness(witness) => {
                    let Witness { name, key, url } = witness;
                    writeln!(f, "witness {name} {key}{}", at(url))?;
                }
                Node::Group(group) => {
                    write!(f, "group {} {}", group.name, group.threshold)?;
                    for member in &group.members {
                        write!(f, " {}", self.nodes[*member].name())?;
                    }
                    writeln!(f)?;
                }
            }
        }
        let quorum = self.quorum.map_or(NONE, |at| self.nodes[at].name());
        writeln!(f, "quorum {quorum}")
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Any => f.write_str("any"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// Why a text is no policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// More than 64 KiB.
    #[error("the policy is too large")]
    TooLarge,
    /// The file may have been cut short.
    #[error("the last line of the policy does not end with a line feed")]
    NoNewline,
    /// Nothing says which cosignatures are needed.
    #[error("the policy has no `quorum` line")]
    NoQuorum,
    /// A line is wrong.
    #[error("line {number} of the policy: {what}")]
    Line {
        /// Counted from 1.
        number: usize,
        /// In which way.
        what: PolicyMistake,
    },
}

/// What is wrong with a line of a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyMistake {
    /// Another control character than a tab.
    #[error("a control character")]
    Control,
    /// None of the four kinds of lines.
    #[error("neither `log`, `witness`, `group` nor `quorum` with what belongs to it")]
    Form,
    /// Not a verifier key, or of a kind that is not known here.
    #[error("not an Ed25519 verifier key")]
    Key,
    /// A log with a cosigner's key, or the other way round.
    #[error("a key of the wrong kind")]
    KeyKind,
    /// The public key stands on an earlier line.
    #[error("a public key of an earlier line")]
    KeyTwice,
    /// The name is `none`, or an earlier line defines it.
    #[error("a name that is taken")]
    NameTwice,
    /// No earlier line defines the name.
    #[error("a name that no earlier line defines")]
    Unknown,
    /// Not `all`, `any` or a number from one to the number of members.
    #[error("not `all`, `any` or a number from 1 to the number of members")]
    Threshold,
    /// A name is a member already, of this group or of another.
    #[error("a member of a group that was one before")]
    MemberTwice,
    /// There is a quorum already.
    #[error("a second quorum")]
    SecondQuorum,
    /// More than 64 logs or 128 witnesses and groups.
    #[error("more logs, witnesses or groups than allowed")]
    TooMany,
}

const NONE: &str = "none";
const MAX_POLICY_BYTES: usize = 64 * 1024;
const MAX_LOGS: usize = 64;
/// Witnesses and groups together.
const MAX_NODES: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{TestLog, log_key, witness_key};
    use super::super::{CosignerKey, LogKey};
    use super::*;
    use crate::types::Secret;

    fn cosigner(seed: u8) -> CosignerKey {
        let name = format!("witness.example/{seed}").parse().unwrap();
        CosignerKey::from_seed(name, &Secret::new(vec![seed; 32])).unwrap()
    }

    /// Witnesses `w1` to `w6` and these lines.
    fn policy(lines: &str) -> Result<TrustPolicy, PolicyError> {
        let mut text = format!("log {}\n", log_key().verifier());
        for seed in 1..=6 {
            text += &format!("witness w{seed} {}\n", cosigner(seed).verifier());
        }
        (text + lines).parse()
    }

    fn mistake(lines: &str) -> PolicyMistake {
        match policy(lines) {
            Err(PolicyError::Line { what, .. }) => what,
            other => panic!("{lines:?}: {other:?}"),
        }
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
    fn every_mistake_is_named_with_its_line() {
        use PolicyMistake::*;
        let (log, witness) = (log_key(), cosigner(1));
        let same_key = CosignerKey::from_seed("log".parse().unwrap(), &Secret::new(vec![7; 32]));
        let same_key = same_key.unwrap();
        for (lines, expected) in [
            ("group g any\n", Threshold),
            ("group g 0 w1\n", Threshold),
            ("group g 3 w1 w2\n", Threshold),
            ("group g 01 w1\n", Threshold),
            ("group g +1 w1\n", Threshold),
            ("group g most w1\n", Threshold),
            ("group g any w1 w1\n", MemberTwice),
            ("group g any w1\ngroup h any w1\n", MemberTwice),
            ("group g any g\n", Unknown),
            ("group g any h\ngroup h any w1\n", Unknown),
            ("group g any none\n", Unknown),
            ("group w1 any w2\n", NameTwice),
            ("group none any w2\n", NameTwice),
            ("quorum w7\n", Unknown),
            ("quorum W1\n", Unknown),
            ("quorum w1\nquorum w1\n", SecondQuorum),
            ("quorum none\nquorum none\n", SecondQuorum),
            ("quorum\n", Form),
            ("quorum w1 w2\n", Form),
            ("quorum\u{a0}w1\n", Form),
            ("witnesses\n", Form),
            ("quorum w1\r\n", Control),
            ("quorum w1\0\n", Control),
            ("quorum w1\u{7f}\n", Control),
            ("log nonsense\n", Key),
            (&format!("log {}\n", log.verifier()), KeyTwice),
            (&format!("log {}\n", witness.verifier()), KeyKind),
            (&format!("witness x {}\n", witness.verifier()), KeyTwice),
            (&format!("witness x {}\n", log.verifier()), KeyKind),
            (&format!("witness x {}\n", same_key.verifier()), KeyTwice),
            (
                &format!("witness w1 {}\n", cosigner(9).verifier()),
                NameTwice,
            ),
        ] {
            assert_eq!(mistake(lines), expected, "{lines:?}");
        }
        assert_eq!(policy(""), Err(PolicyError::NoQuorum));
        assert_eq!(policy("quorum w1"), Err(PolicyError::NoNewline));
        let third = "\n# two\nquorum w1\n".parse::<TrustPolicy>();
        assert_eq!(
            third,
            Err(PolicyError::Line {
                number: 3,
                what: Unknown
            })
        );
    }

    #[test]
    fn a_policy_has_bounds() {
        let long = "#".repeat(MAX_POLICY_BYTES) + "\n";
        assert_eq!(long.parse::<TrustPolicy>(), Err(PolicyError::TooLarge));
        let logs: String = (0..=64_u8)
            .map(|seed| {
                let key = LogKey::from_seed("l".parse().unwrap(), &Secret::new(vec![seed; 32]));
                format!("log {}\n", key.unwrap().verifier())
            })
            .collect();
        let what = PolicyMistake::TooMany;
        let too_many = (logs + "quorum none\n").parse::<TrustPolicy>();
        assert_eq!(too_many, Err(PolicyError::Line { number: 65, what }));
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
        fn whatever_parses_prints_a_policy_that_is_the_same(
            lines in "((group [a-c] (any|all|[0-3])( (w[1-6]|[a-c])){0,3}|quorum (w[1-7]|[a-c]|none)|#x|[ \t]*)\n){0,6}",
        ) {
            if let Ok(policy) = policy(&lines) {
                let printed = policy.to_string();
                let again: TrustPolicy = printed.parse().unwrap();
                prop_assert_eq!(again.to_string(), printed);
                prop_assert_eq!(again, policy);
            }
        }

        #[test]
        fn any_text_is_a_policy_or_refused(text in "(\\PC|\n|\t){0,80}") {
            let _ = text.parse::<TrustPolicy>();
        }

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
