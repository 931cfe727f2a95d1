//! Thousands of documents. Nothing is timed here, but a compile that looks at all objects for each reference takes
//! minutes over these, not a second.

use super::*;

#[test]
fn thousands_of_routes_and_servers_share_one_service() {
    let count = 2_000_usize;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc"},
        "spec": {"ports": [{"port": 80}], "selector": {"pool": "svc"}}});
    let mut values = vec![gateway(), service];
    for number in 0..count {
        let mut one = route(json!([{"backendRefs": [{"name": "svc", "port": 80}]}]));
        one["metadata"]["name"] = json!(format!("route-{number}"));
        values.push(one);
        values.push(server(&format!("s{number}"), "svc", &format!("10.0.{}.{}", number / 250, number % 250)));
    }
    let compiled = compiled(values);
    assert_eq!((rules(&compiled).len(), compiled.snapshot.pools.len()), (count, 1));
    assert_eq!(compiled.snapshot.pools[0].endpoints.len(), count);
}

#[test]
fn thousands_of_pools_have_their_own_servers() {
    let count = 2_000_usize;
    let mut values = vec![gateway()];
    for number in 0..count {
        let pool = format!("p{number}");
        let mut one = route(json!([{"backendRefs": [backend(&pool, 1)]}]));
        one["metadata"]["name"] = json!(format!("route-{number}"));
        values.extend([one, alpha_pool(&pool), server(&format!("s{number}"), &pool, &format!("host-{number}"))]);
    }
    let compiled = compiled(values);
    assert_eq!(compiled.snapshot.pools.len(), count);
    for pool in &compiled.snapshot.pools {
        let number = pool.key.name.trim_start_matches('p');
        let addresses: Vec<&str> = pool.endpoints.iter().map(|endpoint| &*endpoint.address).collect();
        assert_eq!(addresses, [format!("host-{number}:8000")]);
    }
}
