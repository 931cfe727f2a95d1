//! Which requests are compared with which: requests of one stratum that arrived together, in blocks.
//!
//! A block is a fixed number of requests of one stratum, one after the other, all drawn with one share. It is closed by
//! arrivals and time alone, never by arms or latencies. So, given how many of its members went to the candidate, each
//! choice of that many was equally likely: whatever drifts, it drifts for both arms. Every request stands in one block
//! only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::numeric::{bits, pairs};
use crate::sample::{Arm, Arrival, LatencyMetric, Stratum};

/// Strata that may have an open block at one time.
const STRATA: usize = 1_024;
/// Members of blocks that are waited for at one time.
const MEMBERS: usize = 16_384;
/// The mean time per token of a request that has not ended after so long is left out, milliseconds.
const END_WITHIN_MS: u64 = 900_000;

/// What is known of one latency of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reading {
    /// Not yet.
    #[default]
    Awaited,
    /// Seconds.
    Value(#[serde(with = "bits")] f64),
    /// At least so many seconds: the client left, or it takes too long.
    AtLeast(#[serde(with = "bits")] f64),
    /// There is none: it failed, or had one token.
    Missing,
}

impl Reading {
    /// From seconds; what is not a number of seconds is missing.
    pub(crate) fn of(seconds: Option<f64>) -> Self {
        match seconds {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Self::Value(seconds),
            _ => Self::Missing,
        }
    }

    /// Log of the seconds, of at least so many where no more is known, but at least of `shortest`.
    pub(crate) fn log(self, shortest: f64) -> Option<f64> {
        match self {
            Self::Value(seconds) | Self::AtLeast(seconds) => Some(seconds.max(shortest).ln()),
            Self::Awaited | Self::Missing => None,
        }
    }

    fn settled(self) -> bool {
        self != Self::Awaited
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    request: u64,
    at_ms: u64,
    pub(crate) arm: Arm,
    pub(crate) ttft: Reading,
    pub(crate) tpot: Reading,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    #[serde(with = "bits")]
    share: f64,
    began_ms: u64,
    stratum: Stratum,
    closed: bool,
    ttft_scored: bool,
    tpot_scored: bool,
    members: Vec<Member>,
}

/// A block all of whose members have a reading of one latency.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) metric: LatencyMetric,
    pub(crate) stratum: Stratum,
    pub(crate) members: Vec<(Arm, Reading)>,
}

/// Blocks that are filling or waiting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Blocks {
    next: u64,
    #[serde(with = "pairs")]
    open: BTreeMap<Stratum, u64>,
    blocks: BTreeMap<u64, Block>,
    place: BTreeMap<u64, u64>,
}

/// The largest block.
const LARGEST: usize = 16;

/// How many requests make a block: about one of the rarer arm.
pub(crate) fn block_size(share: f64) -> usize {
    let rarer = share.min(1.0 - share);
    if rarer <= 0.0 { LARGEST } else { (1.6 / rarer).round().clamp(6.0, LARGEST as f64) as usize }
}

impl Blocks {
    /// Takes a request in, or leaves it out when there is no room. Says which latencies are whole of a block that it no
    /// longer fits.
    pub(crate) fn admit(&mut self, arrival: &Arrival, contemporary_ms: u64) -> Vec<Scored> {
        let mut scored = Vec::new();
        if self.place.len() >= MEMBERS || self.place.contains_key(&arrival.request) {
            return scored;
        }
        if let Some(id) = self.open.get(&arrival.stratum).copied() {
            let fits = self.blocks.get(&id).is_some_and(|block| {
                block.share.to_bits() == arrival.share.to_bits()
                    && arrival.at_ms.saturating_sub(block.began_ms) <= contemporary_ms
            });
            if !fits {
                self.close(id);
                scored = self.score(id);
            }
        }
        if !self.open.contains_key(&arrival.stratum) {
            if self.open.len() >= STRATA {
                return scored;
            }
            let id = self.next;
            self.next += 1;
            let block = Block {
                share: arrival.share,
                began_ms: arrival.at_ms,
                stratum: arrival.stratum,
                closed: false,
                ttft_scored: false,
                tpot_scored: false,
                members: Vec::new(),
            };
            self.blocks.insert(id, block);
            self.open.insert(arrival.stratum, id);
        }
        let Some(id) = self.open.get(&arrival.stratum).copied() else { return scored };
        let Some(block) = self.blocks.get_mut(&id) else { return scored };
        block.members.push(Member {
            request: arrival.request,
            at_ms: arrival.at_ms,
            arm: arrival.arm,
            ttft: Reading::Awaited,
            tpot: Reading::Awaited,
        });
        self.place.insert(arrival.request, id);
        if block.members.len() >= block_size(block.share) {
            self.close(id);
        }
        scored
    }

    /// A reading of a member. Says which latencies of its block are now whole; `None`: the request stands in no block.
    pub(crate) fn read(&mut self, request: u64, ttft: Reading, tpot: Reading) -> Option<Vec<Scored>> {
        let id = *self.place.get(&request)?;
        let block = self.blocks.get_mut(&id)?;
        let member = block.members.iter_mut().find(|member| member.request == request)?;
        if ttft.settled() && !member.ttft.settled() {
            member.ttft = ttft;
        }
        if tpot.settled() {
            member.tpot = tpot;
        }
        if member.ttft.settled() && member.tpot.settled() {
            self.place.remove(&request);
        }
        Some(self.score(id))
    }

    /// Closes what is no longer filling and stops waiting for what takes too long.
    pub(crate) fn advance(&mut self, now_ms: u64, contemporary_ms: u64, unresolved_after_ms: u64) -> Vec<Scored> {
        let mut touched = Vec::new();
        for (id, block) in &mut self.blocks {
            let mut changed = false;
            if !block.closed && now_ms.saturating_sub(block.began_ms) > contemporary_ms {
                block.closed = true;
                self.open.remove(&block.stratum);
                changed = true;
            }
            for member in &mut block.members {
                let waited = now_ms.saturating_sub(member.at_ms);
                if !member.ttft.settled() && waited >= unresolved_after_ms {
                    member.ttft = Reading::AtLeast(unresolved_after_ms as f64 / 1e3);
                    changed = true;
                }
                if !member.tpot.settled() && waited >= END_WITHIN_MS {
                    member.tpot = Reading::Missing;
                    self.place.remove(&member.request);
                    changed = true;
                }
            }
            if changed {
                touched.push(*id);
            }
        }
        touched.into_iter().flat_map(|id| self.score(id)).collect()
    }

    /// Closes every block: the weight changes.
    pub(crate) fn close_all(&mut self) -> Vec<Scored> {
        let open: Vec<u64> = std::mem::take(&mut self.open).into_values().collect();
        for id in &open {
            self.close(*id);
        }
        open.into_iter().flat_map(|id| self.score(id)).collect()
    }

    /// Drops every request under way, with its block.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
        self.blocks.clear();
        self.place.clear();
    }

    fn close(&mut self, id: u64) {
        if let Some(block) = self.blocks.get_mut(&id) {
            block.closed = true;
            if self.open.get(&block.stratum) == Some(&id) {
                self.open.remove(&block.stratum);
            }
        }
    }

    fn score(&mut self, id: u64) -> Vec<Scored> {
        let mut scored = Vec::new();
        let Some(block) = self.blocks.get_mut(&id).filter(|block| block.closed) else { return scored };
        let both =
            block.members.iter().any(|m| m.arm == Arm::Candidate) && block.members.iter().any(|m| m.arm == Arm::Stable);
        if !block.ttft_scored && block.members.iter().all(|member| member.ttft.settled()) {
            block.ttft_scored = true;
            if both {
                let members = block.members.iter().map(|m| (m.arm, m.ttft)).collect();
                scored.push(Scored { metric: LatencyMetric::Ttft, stratum: block.stratum, members });
            }
        }
        if !block.tpot_scored && block.members.iter().all(|member| member.tpot.settled()) {
            block.tpot_scored = true;
            if both {
                let members = block.members.iter().map(|m| (m.arm, m.tpot)).collect();
                scored.push(Scored { metric: LatencyMetric::Tpot, stratum: block.stratum, members });
            }
        }
        if block.ttft_scored && block.tpot_scored {
            self.blocks.remove(&id);
        }
        scored
    }
}
