use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::ModelCard;

fn pool(count: usize) -> PoolState {
    PoolState::new((0..count).map(|port| Arc::new(EndpointState::new(format!("10.0.0.1:{port}").into()))).collect())
}

fn list(endpoint: &EndpointState, names: &[&str]) {
    let card = |name: &&str| ModelCard { id: (*name).into(), parent: None, card: serde_json::Value::Null };
    endpoint.set_models(names.iter().map(card).collect());
}

fn request<'a>(model: Option<&'a str>, tried: &'a [usize], random: u64) -> PickRequest<'a> {
    PickRequest { model, tried, random }
}

#[test]
fn an_empty_pool_has_nothing_to_pick() {
    assert!(LeastRequests.pick(&pool(0), &request(None, &[], 7)).is_none());
}

#[test]
fn a_reservation_counts_until_it_is_dropped() {
    let pool = pool(2);
    let first = LeastRequests.pick(&pool, &request(None, &[], 1)).unwrap();
    let second = LeastRequests.pick(&pool, &request(None, &[], 1)).unwrap();
    assert_ne!(first.index, second.index);
    assert_eq!(pool.endpoints.iter().map(|endpoint| endpoint.in_flight()).collect::<Vec<_>>(), [1, 1]);
    let freed = second.index;
    drop(second);
    assert_eq!(LeastRequests.pick(&pool, &request(None, &[], 1)).unwrap().index, freed);
}

#[test]
fn listed_comes_before_unknown_before_not_listed() {
    let pool = pool(3);
    list(&pool.endpoints[0], &["base"]);
    list(&pool.endpoints[2], &["base", "adapter"]);
    let held: Vec<_> = (0..5).map(|_| LeastRequests.pick(&pool, &request(Some("adapter"), &[], 3)).unwrap()).collect();
    assert!(held.iter().all(|held| held.index == 2));
    assert_eq!(LeastRequests.pick(&pool, &request(Some("adapter"), &[2], 3)).unwrap().index, 1);
    assert_eq!(LeastRequests.pick(&pool, &request(Some("adapter"), &[1, 2], 3)).unwrap().index, 0);
    pool.endpoints[2].set_ejected(true);
    assert_eq!(LeastRequests.pick(&pool, &request(Some("adapter"), &[], 3)).unwrap().index, 1);
}

#[test]
fn ejection_and_earlier_attempts_give_way_when_nothing_else_is_left() {
    let pool = pool(2);
    pool.endpoints[0].set_ejected(true);
    assert_eq!(LeastRequests.pick(&pool, &request(None, &[], 5)).unwrap().index, 1);
    assert_eq!(LeastRequests.pick(&pool, &request(None, &[1], 5)).unwrap().index, 0);
    assert_eq!(LeastRequests.pick(&pool, &request(None, &[0, 1], 5)).unwrap().index, 1);
}

#[test]
fn ties_are_spread_evenly() {
    let pool = pool(5);
    let mut seen = [0_u32; 5];
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..20_000 {
        random = random.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        seen[LeastRequests.pick(&pool, &request(None, &[], random)).unwrap().index] += 1;
    }
    // Expected 4,000 each, standard deviation 57: seven of them off happens once in 10^11 runs.
    assert!(seen.iter().all(|count| count.abs_diff(4_000) < 400), "{seen:?}");
}

#[test]
fn simultaneous_picks_never_see_the_same_load() {
    const THREADS: usize = 8;
    const EACH: usize = 500;
    let pool = Arc::new(pool(4));
    let widest = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (pool, widest) = (pool.clone(), widest.clone());
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for round in 0..EACH {
                    let random = (thread * EACH + round) as u64;
                    held.push(LeastRequests.pick(&pool, &request(None, &[], random)).unwrap());
                    let top = pool.endpoints.iter().map(|endpoint| endpoint.in_flight()).max().unwrap();
                    widest.fetch_max(top, Ordering::Relaxed);
                }
                held
            })
        })
        .collect();
    let held: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let loads: Vec<u32> = pool.endpoints.iter().map(|endpoint| endpoint.in_flight()).collect();
    assert_eq!(loads.iter().sum::<u32>() as usize, THREADS * EACH);
    // A reservation succeeds only on the load it was compared with, and with nothing given back the others can only
    // have grown meanwhile: so no endpoint is ever more than one ahead.
    let even = (THREADS * EACH / 4) as u32;
    assert!(loads.iter().all(|load| *load == even), "{loads:?}");
    assert_eq!(widest.load(Ordering::Relaxed), even);
    drop(held);
    assert!(pool.endpoints.iter().all(|endpoint| endpoint.in_flight() == 0));
    assert_eq!(pool.endpoints.iter().map(|endpoint| endpoint.picked()).sum::<u64>() as usize, THREADS * EACH);
}

proptest! {
    #[test]
    fn a_pick_is_among_the_best_that_are_left(
        loads in proptest::collection::vec((0_u32..4, any::<bool>(), 0_u8..3), 1..8),
        tried in proptest::collection::vec(0_usize..8, 0..8),
        random in any::<u64>(),
    ) {
        let pool = pool(loads.len());
        for (endpoint, (load, ejected, serves)) in pool.endpoints.iter().zip(&loads) {
            for seen in 0..*load {
                prop_assert!(endpoint.reserve_if(seen));
            }
            endpoint.set_ejected(*ejected);
            match serves {
                0 => list(endpoint, &["m", "other"]),
                1 => {}
                _ => list(endpoint, &["other"]),
            }
        }
        // The rule as it is written down, one step after the other.
        let all: Vec<usize> = (0..loads.len()).collect();
        let narrow = |from: Vec<usize>, keep: &dyn Fn(usize) -> bool| {
            let kept: Vec<usize> = from.iter().copied().filter(|index| keep(*index)).collect();
            if kept.is_empty() { from } else { kept }
        };
        let left = narrow(all, &|index| !tried.contains(&index));
        let left = narrow(left, &|index| !loads[index].1);
        let class = left.iter().map(|index| loads[*index].2).min().unwrap();
        let left = narrow(left, &|index| loads[index].2 == class);
        let fewest = left.iter().map(|index| loads[*index].0).min().unwrap();
        let left = narrow(left, &|index| loads[index].0 == fewest);
        let picked = LeastRequests.pick(&pool, &request(Some("m"), &tried, random)).unwrap();
        prop_assert!(left.contains(&picked.index));
        prop_assert_eq!(pool.endpoints[picked.index].in_flight(), fewest + 1);
    }
}
