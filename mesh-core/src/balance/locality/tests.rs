use super::*;
use crate::{
    balance::Security,
    dice::{Dice, Seeded},
    health::EndpointState,
    registry::Address,
};
use std::sync::Arc;

const SHARES: &[&str] = &["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1", "r3/z1/s1"];

#[test]
fn nearer_endpoints_come_first() {
    let caller = Caller::at("r1/z1/s1");
    assert_eq!(caller.priorities(SHARES), [0, 1, 2, 3, 3]);
}

#[test]
fn priorities_without_endpoints_are_skipped() {
    let caller = Caller::at("r1/z1/s1");
    assert_eq!(caller.priorities(&["r1/z2/s1", "r2/z1/s1"]), [0, 1]);
    assert_eq!(caller.priorities(&["r3/z1/s1", "r2/z1/s1"]), [0, 0]);
    assert_eq!(Caller::at("").priorities(SHARES), [0; 5]);
    assert_eq!(Caller::at("").priorities(&["r1/z1", ""]), [1, 0]);
}

#[test]
fn the_region_to_fail_over_to_comes_before_the_others() {
    let failover = [("r1".to_owned(), "r3".to_owned())];
    let caller = Caller { failover: &failover, ..Caller::at("r1/z1/s1") };
    assert_eq!(caller.priorities(SHARES), [0, 1, 2, 4, 3]);
    let elsewhere = Caller { failover: &failover, ..Caller::at("r2/z1/s1") };
    assert_eq!(elsewhere.priorities(SHARES), [1, 1, 1, 0, 1]);
}

#[test]
fn a_written_failover_makes_a_part_of_each_locality_and_the_default_does_not() {
    let localities = ["r1/z1/s1", "r1/z2/s1", "r1/z3/s1", "r1/z2/s1"];
    let caller = Caller::at("r1/z1/s1");
    assert_eq!(caller.parts(&localities), [vec![(vec![0], 1)], vec![(vec![1, 2, 3], 3)]]);
    let failover = [("r9".to_owned(), "r8".to_owned())];
    let caller = Caller { failover: &failover, ..caller };
    assert_eq!(caller.parts(&localities), [vec![(vec![0], 1)], vec![(vec![1, 3], 2), (vec![2], 1)]]);
}

#[test]
fn endpoints_come_in_the_order_of_the_labels_they_share_without_a_gap() {
    let caller = Caller::at("r1/z1/s1").labelled(&["a=1", "b=2", "c=3"]);
    let endpoints = [
        endpoint("", &["a=1", "b=2", "c=3"]),
        endpoint("", &["a=1", "b=2", "c=4"]),
        endpoint("", &["a=1", "c=3"]),
        endpoint("", &["b=2", "c=3"]),
    ];
    assert_eq!(caller.by_labels(&["a", "b", "c"], &endpoints), [0, 1, 2, 3]);
    assert_eq!(caller.by_labels(&["c", "b"], &endpoints), [0, 2, 1, 0]);
    // What the caller lacks, an endpoint must lack too.
    assert_eq!(caller.by_labels(&["d", "a"], &endpoints), [0, 0, 0, 1]);
}

#[test]
fn a_label_may_be_written_with_the_value_to_look_for() {
    let caller = Caller::at("").labelled(&["a=1"]);
    let endpoints = [endpoint("", &["a=1"]), endpoint("", &["a=2"])];
    assert_eq!(caller.by_labels(&["a=2"], &endpoints), [1, 0]);
    assert_eq!(caller.by_labels(&["a=3"], &endpoints), [0, 0]);
}

#[test]
fn places_are_labels_too() {
    let caller = Caller::at("r1/z1/s1").labelled(&["a=1"]);
    let endpoints = [endpoint("r1/z1/s2", &[]), endpoint("r1/z2/s1", &[]), endpoint("r2/z1/s1", &[])];
    let places =
        ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
    assert_eq!(caller.by_labels(&places, &endpoints), [0, 1, 2]);
}

#[test]
fn a_caller_without_labels_has_no_preference_among_them() {
    let endpoints = [endpoint("", &["a=1"]), endpoint("", &[])];
    assert_eq!(Caller::at("").by_labels(&["a"], &endpoints), [0, 0]);
}

#[test]
fn labels_come_before_places_where_both_are_written() {
    let failover = [("r1".to_owned(), "r2".to_owned())];
    let caller = Caller { failover: &failover, ..Caller::at("r1/z1/s1").labelled(&["a=1"]) };
    let endpoints = [
        endpoint("r2/z1/s1", &["a=1"]),
        endpoint("r1/z1/s1", &[]),
        endpoint("r1/z1/s1", &["a=1"]),
        endpoint("r3/z1/s1", &[]),
        endpoint("r2/z1/s1", &[]),
    ];
    assert_eq!(caller.by_labels(&["a"], &endpoints), [1, 2, 0, 4, 3]);
}

#[test]
fn shares_go_to_the_localities_they_are_written_for_and_nobody_else_is_kept() {
    let distribute = [rule("r1/z1/*", &[("r1/z1/*", 80), ("r1/z2", 20)])];
    let caller = Caller { distribute: &distribute, ..Caller::at("r1/z1/s1") };
    assert_eq!(caller.kept(SHARES), SHARES[..3]);
    // Two subzones divide one share.
    assert_eq!(caller.parts(SHARES), [vec![(vec![0], 40), (vec![1], 40), (vec![2], 20)]]);
}

#[test]
fn localities_divide_a_share_by_weight_rounded_up() {
    let distribute = [rule("*", &[("r1/*", 10), ("*", 90)])];
    let caller = Caller { distribute: &distribute, ..Caller::at("r9") };
    let localities = ["r1/a", "r1/b", "r1/b", "r2/a"];
    assert_eq!(caller.parts(&localities), [vec![(vec![0], 4), (vec![1, 2], 7), (vec![3], 90)]]);
}

#[test]
fn the_first_rule_for_the_caller_counts() {
    let distribute =
        [rule("r2", &[("r2", 100)]), rule("r1/z1", &[("r1", 100)]), rule("r1/z1/s1", &[("r3", 100)])];
    let caller = Caller { distribute: &distribute, ..Caller::at("r1/z1/s1") };
    assert_eq!(caller.kept(SHARES), SHARES[..3]);
}

#[test]
fn a_caller_without_a_rule_sends_by_the_weights_of_the_localities() {
    let distribute = [rule("r7", &[("r1", 100)])];
    let caller = Caller { distribute: &distribute, ..Caller::at("r1/z1/s1") };
    assert_eq!(caller.kept(SHARES), SHARES);
    let localities = ["r1/a", "r1/b", "r1/b"];
    assert_eq!(caller.parts(&localities), [vec![(vec![0], 1), (vec![1, 2], 2)]]);
}

#[test]
fn a_share_of_nothing_is_none() {
    let distribute = [rule("*", &[("r1", 0), ("r2", 100)])];
    let caller = Caller { distribute: &distribute, ..Caller::at("r1/z1/s1") };
    assert_eq!(caller.kept(SHARES), ["r2/z1/s1"]);
}

/// Every endpoint that is kept is in one part of one priority, and every priority has some.
#[test]
fn nobody_is_lost_and_nobody_counted_twice() {
    let failover = [("r1".to_owned(), "r2".to_owned())];
    let distribute = [rule("*", &[("r1/z1", 30), ("r2", 30), ("r1", 40)])];
    let labels = [wanted("a"), wanted("b=1")];
    for seed in 0..200 {
        let mut dice = Seeded::new(seed);
        let mut digit = |bound| 1 + dice.below(bound);
        let mut endpoints: Vec<_> = (0..digit(20))
            .map(|_| {
                let locality = format!("r{}/z{}/s{}", digit(3), digit(2), digit(2));
                endpoint(&locality, &[&format!("a={}", digit(2)), &format!("b={}", digit(2))])
            })
            .collect();
        let mut caller = Caller::at(&format!("r{}/z1/s1", digit(3))).labelled(&["a=1"]);
        match digit(4) {
            1 => caller.distribute = &distribute,
            2 => caller.failover = &failover,
            3 => caller.failover_priority = &labels,
            _ => {}
        }
        let arranged = caller.arrange(&mut endpoints);
        let mut members: Vec<_> = arranged.iter().flatten().flat_map(|part| part.members.clone()).collect();
        members.sort_unstable();
        assert_eq!(members, (0..endpoints.len() as u32).collect::<Vec<_>>(), "seed {seed}");
        assert!(arranged.iter().all(|parts| !parts.is_empty()), "seed {seed}");
        assert!(arranged.iter().flatten().all(|part| part.weight > 0), "seed {seed}");
    }
}

#[derive(Clone)]
struct Caller<'a> {
    locality: Locality,
    labels: BTreeMap<String, String>,
    distribute: &'a [Distribution],
    failover: &'a [(String, String)],
    failover_priority: &'a [PriorityLabel],
}

impl<'a> Caller<'a> {
    fn at(locality: &str) -> Self {
        Self {
            locality: Locality::parse(locality),
            labels: BTreeMap::new(),
            distribute: &[],
            failover: &[],
            failover_priority: &[],
        }
    }

    fn labelled(self, labels: &[&str]) -> Self {
        Self { labels: parse(labels), ..self }
    }

    fn policy(&self) -> LocalityPolicy {
        match self.distribute {
            [] => LocalityPolicy::Failover(Failover {
                regions: self.failover.to_vec(),
                labels: self.failover_priority.to_vec(),
            }),
            rules => LocalityPolicy::Distribute(rules.to_vec()),
        }
    }

    /// The endpoints that are kept, in priorities.
    fn arrange(&self, endpoints: &mut Vec<Endpoint>) -> Vec<Vec<Part>> {
        let policy = self.policy();
        let nearness = Nearness { locality: &self.locality, labels: &self.labels, policy: &policy };
        nearness.retain(endpoints);
        nearness.arrange(endpoints)
    }

    /// The localities that are kept.
    fn kept<'l>(&self, localities: &[&'l str]) -> Vec<&'l str> {
        let mut endpoints = at(localities);
        self.arrange(&mut endpoints);
        let is_kept = |text: &&str| endpoints.iter().any(|it| it.locality == Locality::parse(text));
        localities.iter().copied().filter(is_kept).collect()
    }

    /// The priority of each endpoint.
    fn priorities(&self, localities: &[&str]) -> Vec<usize> {
        self.priorities_of(&at(localities))
    }

    fn by_labels(&self, names: &[&str], endpoints: &[Endpoint]) -> Vec<usize> {
        let names: Vec<_> = names.iter().map(|name| wanted(name)).collect();
        Caller { failover_priority: &names, ..self.clone() }.priorities_of(endpoints)
    }

    fn priorities_of(&self, endpoints: &[Endpoint]) -> Vec<usize> {
        let arranged = self.arrange(&mut endpoints.to_vec());
        let is_in = |parts: &Vec<Part>, number| parts.iter().any(|part| part.members.contains(&number));
        (0..endpoints.len() as u32)
            .map(|number| arranged.iter().position(|parts| is_in(parts, number)).unwrap())
            .collect()
    }

    /// Members and weight of every part of every priority.
    fn parts(&self, localities: &[&str]) -> Vec<Vec<(Vec<u32>, u32)>> {
        let mut endpoints = at(localities);
        let arranged = self.arrange(&mut endpoints);
        arranged
            .into_iter()
            .map(|parts| parts.into_iter().map(|part| (part.members, part.weight)).collect())
            .collect()
    }
}

fn rule(from: &str, to: &[(&str, u32)]) -> Distribution {
    let to = to.iter().map(|&(locality, share)| (locality.parse().unwrap(), share)).collect();
    Distribution { from: from.parse().unwrap(), to }
}

fn wanted(label: &str) -> PriorityLabel {
    let (name, value) = label.split_once('=').map_or((label, None), |(name, value)| (name, Some(value)));
    PriorityLabel { name: name.to_owned(), value: value.map(str::to_owned) }
}

fn at(localities: &[&str]) -> Vec<Endpoint> {
    localities.iter().map(|locality| endpoint(locality, &[])).collect()
}

fn endpoint(locality: &str, labels: &[&str]) -> Endpoint {
    Endpoint {
        address: Address::Name("payment".into(), 80),
        labels: Arc::new(parse(labels)),
        locality: Locality::parse(locality),
        weight: 1,
        security: Security::Plaintext,
        state: Arc::new(EndpointState::default()),
    }
}

fn parse(labels: &[&str]) -> BTreeMap<String, String> {
    let pair = |label: &&str| label.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    labels.iter().filter_map(pair).collect()
}
