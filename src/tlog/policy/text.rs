//! Trust policies as text (C2SP tlog-policy): read line by line, printed without comments.
//!
//! Stricter than the format where it leaves room: text is UTF-8, the last line ends, too (a file that was cut short could
//! ask for less), and one public key stands on one line only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::super::decimal;
use super::super::keys::{KeyKind, VerifierKey};
use super::{Group, Node, Threshold, TrustPolicy, TrustedLog, Witness};

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

    use super::super::super::fixture::log_key;
    use super::super::super::{CosignerKey, LogKey};
    use super::super::tests::{cosigner, policy};
    use super::*;
    use crate::types::Secret;

    fn mistake(lines: &str) -> PolicyMistake {
        match policy(lines) {
            Err(PolicyError::Line { what, .. }) => what,
            other => panic!("{lines:?}: {other:?}"),
        }
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
    }
}
