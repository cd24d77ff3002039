// SPDX-License-Identifier: Apache-2.0
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::attributes::AsPath;

/// A path from an external peer with nothing special about it; `number` tells it from others and makes it worse.
fn path(number: u8) -> Candidate<Arc<Attributes>> {
    Candidate {
        attributes: Arc::new(Attributes {
            as_path: AsPath::sequence([65_001]),
            ..Attributes::default()
        }),
        source: Source::Peer {
            internal: false,
            identifier: Ipv4Addr::new(10, 0, 0, number),
            address: IpAddr::from([192, 0, 2, number]),
            path_id: None,
        },
        cost: Some(10),
        long_stale: false,
    }
}

fn with(number: u8, change: impl FnOnce(&mut Attributes)) -> Candidate<Arc<Attributes>> {
    let mut candidate = path(number);
    change(Arc::make_mut(&mut candidate.attributes));
    candidate
}

/// The same path from an internal peer.
fn internal(mut candidate: Candidate<Arc<Attributes>>) -> Candidate<Arc<Attributes>> {
    if let Source::Peer { internal, .. } = &mut candidate.source {
        *internal = true;
    }
    candidate
}

#[test]
fn each_step_decides_before_all_later_ones() {
    let own = Candidate {
        source: Source::Own,
        ..with(0, |attributes| attributes.as_path = AsPath::default())
    };
    // In each pair the first is better, by one step, and the second would be by what is compared later.
    let pairs = [
        (
            "reachable",
            path(9),
            Candidate {
                cost: None,
                ..with(1, |attributes| attributes.local_pref = Some(200))
            },
        ),
        (
            "stale",
            path(9),
            Candidate {
                long_stale: true,
                ..with(1, |attributes| attributes.local_pref = Some(200))
            },
        ),
        (
            "LOCAL_PREF",
            with(9, |attributes| {
                attributes.local_pref = Some(101);
                attributes.as_path = AsPath::sequence([1, 2, 3]);
            }),
            path(1),
        ),
        (
            "no LOCAL_PREF is 100",
            path(9),
            with(1, |attributes| attributes.local_pref = Some(99)),
        ),
        ("own", own, path(1)),
        (
            "AS_PATH",
            with(9, |attributes| attributes.origin = Origin::Incomplete),
            with(1, |attributes| {
                attributes.as_path = AsPath::sequence([65_001, 65_001]);
            }),
        ),
        (
            "ORIGIN",
            with(9, |attributes| attributes.med = Some(900)),
            with(1, |attributes| attributes.origin = Origin::Egp),
        ),
        (
            "MED",
            internal(with(9, |attributes| attributes.med = Some(1))),
            with(1, |attributes| attributes.med = Some(2)),
        ),
        (
            "no MED is 0",
            internal(path(9)),
            with(1, |attributes| attributes.med = Some(1)),
        ),
        (
            "external",
            Candidate {
                cost: Some(99),
                ..path(9)
            },
            internal(path(1)),
        ),
        (
            "cost",
            Candidate {
                cost: Some(9),
                ..path(9)
            },
            path(1),
        ),
        (
            "identifier",
            with(1, |attributes| {
                attributes.cluster_list = vec![Ipv4Addr::LOCALHOST; 3];
            }),
            path(2),
        ),
        (
            "ORIGINATOR_ID",
            with(9, |attributes| {
                attributes.originator_id = Some(Ipv4Addr::new(10, 0, 0, 1));
            }),
            path(2),
        ),
    ];
    for (step, better, worse) in pairs {
        for (first, second, best) in [(&better, &worse, 0), (&worse, &better, 1)] {
            let selection = select(&[first.clone(), second.clone()], 16);
            assert_eq!(selection.best, Some(best), "{step}");
        }
    }
}

#[test]
fn the_last_steps_tell_any_two_apart() {
    let same_router = |address: u8, clusters: usize, path_id| {
        let mut candidate = with(5, |attributes| {
            attributes.cluster_list = vec![Ipv4Addr::LOCALHOST; clusters];
        });
        candidate.source = Source::Peer {
            internal: true,
            identifier: Ipv4Addr::new(10, 0, 0, 5),
            address: IpAddr::from([192, 0, 2, address]),
            path_id,
        };
        candidate
    };
    let ordered = [
        same_router(9, 0, None),
        same_router(1, 1, None),
        same_router(2, 1, Some(1)),
        same_router(2, 1, Some(2)),
    ];
    for (place, pair) in ordered.windows(2).enumerate() {
        let turned = [pair[1].clone(), pair[0].clone()];
        assert_eq!(select(pair, 1).best, Some(0), "{place}");
        assert_eq!(select(&turned, 1).best, Some(1), "{place}");
    }
}

#[test]
fn meds_of_different_neighbours_are_not_compared() {
    let via = |number, neighbour, med| {
        with(number, |attributes| {
            attributes.as_path = AsPath::sequence([neighbour]);
            attributes.med = Some(med);
        })
    };
    // A beats B by MED, B would beat C and C would beat A by identifier: no order of arrival may matter.
    let (a, b, c) = (via(3, 1, 10), via(1, 1, 20), via(2, 2, 0));
    for paths in [
        [&a, &b, &c],
        [&b, &c, &a],
        [&c, &a, &b],
        [&c, &b, &a],
        [&b, &a, &c],
        [&a, &c, &b],
    ] {
        let candidates = paths.map(Clone::clone);
        let best = select(&candidates, 16).best.unwrap();
        assert_eq!(candidates[best], c);
    }
}

#[test]
fn equal_paths_share_the_traffic_up_to_a_limit() {
    let paths = [
        path(4),
        path(2),
        internal(path(1)),
        path(3),
        Candidate {
            cost: Some(11),
            ..path(0)
        },
        // Another AS of the same length counts as equal.
        with(5, |attributes| attributes.as_path = AsPath::sequence([65_002])),
    ];
    let selection = select(&paths, 16);
    assert_eq!(
        selection,
        Selection {
            best: Some(1),
            multipath: vec![0, 1, 3, 5]
        }
    );
    assert_eq!(select(&paths, 2).multipath, [1, 3], "those that would win");
    assert_eq!(select(&paths, 0).multipath, [1], "at least the best");
    assert_eq!(select::<Arc<Attributes>>(&[], 16), Selection::default());
    let unreachable = Candidate {
        cost: None,
        ..path(1)
    };
    assert_eq!(select(&[unreachable], 16), Selection::default());
}

prop_compose! {
    fn any_candidate()(
        number in any::<u8>(),
        internal in any::<bool>(),
        cost in prop::option::of(0_u32..3),
        long_stale in prop::bool::weighted(0.1),
        local_pref in prop::option::of(99_u32..102),
        neighbours in prop::collection::vec(1_u32..4, 1..3),
        med in prop::option::of(0_u32..3),
        path_id in prop::option::of(0_u32..3),
    ) -> Candidate<Arc<Attributes>> {
        let mut candidate = with(number, |attributes| {
            attributes.local_pref = local_pref;
            attributes.as_path = AsPath::sequence(neighbours);
            attributes.med = med;
        });
        let Source::Peer { identifier, address, .. } = candidate.source else { unreachable!() };
        candidate.source = Source::Peer { internal, identifier, address, path_id };
        Candidate { cost, long_stale, ..candidate }
    }
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(
        (candidates, shuffled) in prop::collection::vec(any_candidate(), 1..8)
            .prop_flat_map(|candidates| (Just(candidates.clone()), Just(candidates).prop_shuffle())),
    ) {
        let (one, other) = (select(&candidates, 16), select(&shuffled, 16));
        let chosen = |candidates: &[Candidate<Arc<Attributes>>], selection: &Selection| selection.best.map(|best| {
            let candidate = &candidates[best];
            (before_med(candidate), med(candidate), after_med(candidate), tie_break(candidate))
        });
        prop_assert_eq!(chosen(&candidates, &one), chosen(&shuffled, &other));
        prop_assert_eq!(one.multipath.len(), other.multipath.len());
        prop_assert!(one.best.is_none_or(|best| one.multipath.contains(&best)));
        prop_assert_eq!(one.best.is_none(), candidates.iter().all(|candidate| candidate.cost.is_none()));
    }

    /// What is worse than the best changes nothing when it goes.
    #[test]
    fn the_best_stays_when_others_go(candidates in prop::collection::vec(any_candidate(), 2..8), gone in any::<prop::sample::Index>()) {
        let selection = select(&candidates, 16);
        let gone = gone.index(candidates.len());
        if let Some(best) = selection.best.filter(|best| *best != gone) {
            let mut fewer = candidates.clone();
            fewer.remove(gone);
            let again = &fewer[select(&fewer, 16).best.unwrap()];
            // One that hid another of its neighbour by MED may have gone: then a better one may come out.
            let hid = same_neighbour(&candidates[gone], again);
            prop_assert!(tie_break(again) == tie_break(&candidates[best]) || hid);
        }
    }
}

#[test]
fn the_order_begins_with_the_best_and_leaves_out_what_cannot_be_reached() {
    let low_pref = with(1, |attributes| attributes.local_pref = Some(50));
    let unreachable = Candidate {
        cost: None,
        ..path(2)
    };
    let candidates = [low_pref, unreachable, path(4), internal(path(3)), path(5)];
    assert_eq!(order(&candidates), [2, 4, 3, 0]);
    // MED decides which is the best, and makes no difference behind it.
    let med = |number, med| with(number, |attributes| attributes.med = Some(med));
    let candidates = [med(1, 20), med(2, 10), med(3, 30)];
    assert_eq!(order(&candidates), [1, 0, 2]);
    assert_eq!(order(&candidates[..1]), [0]);
    assert!(order::<Arc<Attributes>>(&[]).is_empty());
}
