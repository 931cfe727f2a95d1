//! Gauges that are asked for at the moment of a scrape.
//!
//! What is under way and what state endpoints are in is known to the data plane; keeping a second copy up to date here
//! would cost every request something and could differ. The binary registers a function that reads them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

/// One endpoint's gauges.
#[derive(Clone, Debug)]
pub struct EndpointGauges {
    /// The pool, `namespace/name`.
    pub pool: Arc<str>,
    /// `host:port`.
    pub endpoint: Arc<str>,
    /// Requests of ours under way.
    pub in_flight: u64,
    /// Whether it is passed over.
    pub ejected: bool,
    /// How many models it lists; `None` while it has not answered `/v1/models`.
    pub models: Option<u64>,
}

/// Everything that is asked for at a scrape.
#[derive(Clone, Debug, Default)]
pub struct LiveGauges {
    /// Client connections that are open; `None` where that is not counted.
    pub connections: Option<u64>,
    /// Per endpoint of each pool; what two pools of one name say of one endpoint is put together.
    pub endpoints: Vec<EndpointGauges>,
}

type ReadEndpoint = fn(&EndpointGauges) -> Option<u64>;
type Read = dyn Fn() -> LiveGauges + Send + Sync;

/// Holds the function that reads the gauges; without one there are none.
#[derive(Default)]
pub struct LiveSource {
    read: ArcSwapOption<Box<Read>>,
}

impl LiveSource {
    /// Sets the function. It is called once a scrape, on the thread that scrapes, and must not block.
    pub fn set(&self, read: impl Fn() -> LiveGauges + Send + Sync + 'static) {
        self.read.store(Some(Arc::new(Box::new(read))));
    }
}

impl fmt::Debug for LiveSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LiveSource").field("set", &self.read.load().is_some()).finish()
    }
}

impl Collector for LiveSource {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(read) = self.read.load_full() else { return Ok(()) };
        let gauges = read();
        if let Some(connections) = gauges.connections {
            encoder
                .encode_descriptor("client_connections", "Client connections that are open", None, MetricType::Gauge)?
                .encode_gauge(&signed(connections))?;
        }
        let endpoints = put_together(gauges.endpoints);
        let endpoint_gauges: [(&str, &str, ReadEndpoint); 3] = [
            ("endpoint_requests_in_flight", "Requests of ours under way at an endpoint", |one| Some(one.in_flight)),
            ("endpoint_ejected", "1 while an endpoint is passed over after failures", |one| {
                Some(u64::from(one.ejected))
            }),
            ("endpoint_models", "Models that an endpoint lists; absent while it has not answered", |one| one.models),
        ];
        for (name, help, value) in endpoint_gauges {
            endpoint_family(&mut encoder, name, help, &endpoints, value)?;
        }
        Ok(())
    }
}

/// A Service and an InferencePool may share a name and a server; Prometheus takes each series once.
fn put_together(endpoints: Vec<EndpointGauges>) -> Vec<EndpointGauges> {
    let mut by_name: BTreeMap<(Arc<str>, Arc<str>), EndpointGauges> = BTreeMap::new();
    for one in endpoints {
        match by_name.entry((one.pool.clone(), one.endpoint.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(one);
            }
            Entry::Occupied(mut entry) => {
                let all = entry.get_mut();
                all.in_flight = all.in_flight.saturating_add(one.in_flight);
                all.ejected |= one.ejected;
                all.models = all.models.max(one.models);
            }
        }
    }
    by_name.into_values().collect()
}

fn endpoint_family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    endpoints: &[EndpointGauges],
    value: ReadEndpoint,
) -> Result<(), fmt::Error> {
    let mut values = endpoints.iter().filter_map(|one| value(one).map(|value| (one, value))).peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (one, value) in values {
        let labels = [("pool", &*one.pool), ("endpoint", &*one.endpoint)];
        family.encode_family(&labels)?.encode_gauge(&signed(value))?;
    }
    Ok(())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
