//! Proves, for every request that can be made, that the compiled-in policies allow no more than `policies/properties`
//! says; and that the proofs notice when a condition is taken away.

use std::fs;
use std::path::Path;

use cedar_policy::{Authorizer, Decision, Effect, Policy, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env};
use serde::Deserialize;

use cos_escrow::policy::Engine;
use cos_escrow::types::Digest;

#[test]
fn what_is_proven_is_what_decides() {
    let mut pieces = vec![read("cos.cedarschema")];
    pieces.extend(FILES.map(read));
    let pieces: Vec<_> = pieces.iter().map(String::as_bytes).collect();
    assert_eq!(Digest::of_pieces(&pieces), Engine::builtin().digest());
}

#[tokio::test]
async fn each_action_is_allowed_only_where_its_property_holds() {
    let mut prover = Prover::start();
    let rules = set(&rules());
    for env in prover.environments() {
        let found = prover.exceeding(&env, &rules, &property(&env)).await;
        assert!(found.is_none(), "{}: {found:#?}", action(&env));
    }
}

#[tokio::test]
async fn each_action_is_possible() {
    let mut prover = Prover::start();
    let rules = set(&rules());
    for env in prover.environments() {
        let found = prover.exceeding(&env, &rules, &PolicySet::new()).await;
        let found = found.unwrap_or_else(|| panic!("{} is never allowed", action(&env)));
        assert_eq!(decide(&rules, &found), Decision::Allow);
    }
}

#[tokio::test]
async fn no_policy_ever_errors() {
    let mut prover = Prover::start();
    let rules = set(&rules());
    for env in prover.environments() {
        for policy in rules.policies() {
            let compiled = CompiledPolicy::compile(policy, &env, &prover.schema).unwrap();
            let never = prover.compiler.check_never_errors_opt(&compiled).await;
            assert!(never.unwrap(), "{} errs at {}", name(policy), action(&env));
        }
    }
}

/// So a slip in one of them opens nothing, and no refusal is without a forbid that names its cause.
#[tokio::test]
async fn permits_and_forbids_say_the_same() {
    let mut prover = Prover::start();
    let rules = set(&rules());
    let permits = only(&rules, |policy| policy.effect() == Effect::Permit);
    let forbids = opened(&only(&rules, |policy| policy.effect() == Effect::Forbid));
    for env in prover.environments() {
        let missed = prover.exceeding(&env, &forbids, &permits).await;
        assert!(missed.is_none(), "no forbid names: {missed:#?}");
        let excess = prover.exceeding(&env, &permits, &forbids).await;
        assert!(excess.is_none(), "permitted and forbidden: {excess:#?}");
    }
}

#[tokio::test]
async fn without_any_one_forbid_more_would_be_allowed() {
    let mut prover = Prover::start();
    let rules = set(&rules());
    for forbid in rules.policies().filter(|p| p.effect() == Effect::Forbid) {
        let others = |p: &Policy| p.effect() == Effect::Forbid && p.id() != forbid.id();
        let others = opened(&only(&rules, others));
        let mut missed = false;
        for env in prover.environments() {
            let found = prover.exceeding(&env, &others, &property(&env)).await;
            missed |= found.is_some();
        }
        assert!(missed, "`{}` forbids nothing of its own", name(forbid));
    }
}

#[tokio::test]
async fn a_condition_taken_away_is_noticed_where_it_matters() {
    let mut prover = Prover::start();
    let rules = rules();
    let mutations: Vec<Mutation> =
        serde_json::from_str(&read("properties/mutations.json")).unwrap();
    for mutation in mutations {
        let mutated = set(&mutation.apply(&rules));
        for env in prover.environments() {
            let property = property(&env);
            let found = prover.exceeding(&env, &mutated, &property).await;
            let label = format!("{} without {}", action(&env), mutation.without);
            assert_eq!(
                found.is_some(),
                mutation.breaks.iter().any(|broken| broken == action(&env)),
                "{label}"
            );
            // The solver's word is not enough: Cedar itself decides the request that was found.
            let Some(found) = found else { continue };
            assert_eq!(decide(&mutated, &found), Decision::Allow, "{label}");
            assert_eq!(decide(&property, &found), Decision::Deny, "{label}");
            assert_eq!(decide(&set(&rules), &found), Decision::Deny, "{label}");
        }
    }
}

/// A condition, as the permit states it and as the forbid does, taken out of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    without: String,
    /// The actions whose proof must fail; those of the others must still hold.
    breaks: Vec<String>,
    /// What stands in the policies, and what takes its place.
    edits: Vec<(String, String)>,
}

impl Mutation {
    fn apply(&self, rules: &str) -> String {
        self.edits
            .iter()
            .fold(rules.to_owned(), |text, (from, to)| {
                assert!(text.contains(from), "{}: no `{from}`", self.without);
                text.replace(from, to)
            })
    }
}

/// Asks the solver.
struct Prover {
    schema: Schema,
    compiler: CedarSymCompiler<LocalSolver>,
}

impl Prover {
    fn start() -> Self {
        let solver = LocalSolver::cvc5().unwrap_or_else(|error| {
            panic!("the proofs need the solver cvc5 (Debian: `apt-get install cvc5`): {error:?}")
        });
        Self {
            schema: read("cos.cedarschema").parse().unwrap(),
            compiler: CedarSymCompiler::new(solver).unwrap(),
        }
    }

    /// Every kind of request that the schema knows.
    fn environments(&self) -> Vec<RequestEnv> {
        let environments: Vec<_> = self.schema.request_envs().collect();
        assert!(environments.len() >= 4, "{environments:?}");
        environments
    }

    /// A request that `rules` allow and `bound` does not; none if it is proven that there is none.
    async fn exceeding(
        &mut self,
        env: &RequestEnv,
        rules: &PolicySet,
        bound: &PolicySet,
    ) -> Option<Env> {
        let rules = CompiledPolicySet::compile(rules, env, &self.schema).unwrap();
        let bound = CompiledPolicySet::compile(bound, env, &self.schema).unwrap();
        self.compiler
            .check_implies_with_counterexample_opt(&rules, &bound)
            .await
            .unwrap()
    }
}

fn decide(policies: &PolicySet, found: &Env) -> Decision {
    Authorizer::new()
        .is_authorized(&found.request, policies, &found.entities)
        .decision()
}

fn action(env: &RequestEnv) -> &str {
    env.action().id().unescaped()
}

/// What must hold of an action: an action without a property is not proven, and fails here.
fn property(env: &RequestEnv) -> PolicySet {
    set(&read(&format!("properties/{}.cedar", action(env))))
}

/// All policies, as one text.
fn rules() -> String {
    FILES.map(read).concat()
}

fn read(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn set(text: &str) -> PolicySet {
    text.parse().unwrap()
}

fn only(policies: &PolicySet, wanted: impl Fn(&Policy) -> bool) -> PolicySet {
    PolicySet::from_policies(policies.policies().filter(|p| wanted(p)).cloned()).unwrap()
}

/// The policies with a permit for everything, so that the forbids alone decide.
fn opened(forbids: &PolicySet) -> PolicySet {
    let everything = Policy::parse(
        Some("everything".parse().unwrap()),
        "permit (principal, action, resource);",
    );
    let mut policies = forbids.clone();
    policies.add(everything.unwrap()).unwrap();
    policies
}

fn name(policy: &Policy) -> &str {
    policy.annotation("id").unwrap()
}

/// The files that are compiled in, in the order in which the digest of an engine covers them.
const FILES: [&str; 3] = ["release.cedar", "deposit.cedar", "lookup.cedar"];
