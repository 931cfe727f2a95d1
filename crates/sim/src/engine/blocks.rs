//! The KV cache: blocks of tokens, counted references, and the prefix cache over them.
//!
//! A full block is known by the hash of its tokens and of every block before it, so that a hit is always a contiguous
//! prefix. A block that nobody refers to keeps its content until its room is needed; a request's blocks are given back
//! last one first, so that leaves are evicted before what they stand on.

use std::collections::{BTreeMap, HashMap};

/// A block's number.
pub(crate) type BlockId = usize;

#[derive(Clone, Debug, Default)]
struct Block {
    references: u32,
    /// Under which hash the prefix cache knows it.
    hash: Option<u64>,
    /// Its place in the eviction order while nobody refers to it.
    stamp: u64,
}

/// All blocks of a server.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// Blocks without content worth keeping.
    empty: Vec<BlockId>,
    /// Blocks that nobody refers to, with content, by age.
    evictable: BTreeMap<u64, BlockId>,
    cached: HashMap<u64, BlockId>,
    next_stamp: u64,
}

impl Blocks {
    /// `count` blocks. As in vLLM one of them is never used.
    pub(crate) fn new(count: usize) -> Self {
        let usable = count.saturating_sub(1).max(1);
        Self {
            blocks: vec![Block::default(); usable],
            empty: (0..usable).rev().collect(),
            evictable: BTreeMap::new(),
            cached: HashMap::new(),
            next_stamp: 0,
        }
    }

    /// How many can be had, counting those whose content would be evicted.
    pub(crate) fn free(&self) -> usize {
        self.empty.len().saturating_add(self.evictable.len())
    }

    /// Share of blocks that requests hold, 0 to 1.
    pub(crate) fn usage(&self) -> f64 {
        let total = self.blocks.len();
        total.saturating_sub(self.free()) as f64 / total.max(1) as f64
    }

    /// How many of these hashes are cached, counted from the first and ending at the first that is not.
    pub(crate) fn hits(&self, hashes: &[u64]) -> usize {
        hashes.iter().take_while(|hash| self.cached.contains_key(hash)).count()
    }

    /// How many of the first `hits` hashes' blocks are held by nobody (taking them uses up free blocks).
    pub(crate) fn idle_among(&self, hashes: &[u64]) -> usize {
        let idle = |hash: &u64| {
            self.cached.get(hash).and_then(|id| self.blocks.get(*id)).is_some_and(|block| block.references == 0)
        };
        hashes.iter().filter(|hash| idle(hash)).count()
    }

    /// Refers to the block known by `hash`.
    pub(crate) fn share(&mut self, hash: u64) -> Option<BlockId> {
        let id = *self.cached.get(&hash)?;
        let block = self.blocks.get_mut(id)?;
        if block.references == 0 {
            self.evictable.remove(&block.stamp);
        }
        block.references = block.references.saturating_add(1);
        Some(id)
    }

    /// An empty block, if need be one whose content is forgotten for it.
    pub(crate) fn take(&mut self) -> Option<BlockId> {
        let id = match self.empty.pop() {
            Some(id) => id,
            None => self.evictable.pop_first()?.1,
        };
        let block = self.blocks.get_mut(id)?;
        if let Some(hash) = block.hash.take() {
            self.cached.remove(&hash);
        }
        block.references = 1;
        Some(id)
    }

    /// Says what a full block holds. Where another holds the same, that one stays the known one.
    pub(crate) fn fill(&mut self, id: BlockId, hash: u64) {
        if let Some(block) = self.blocks.get_mut(id)
            && block.hash.is_none()
            && !self.cached.contains_key(&hash)
        {
            block.hash = Some(hash);
            self.cached.insert(hash, id);
        }
    }

    /// Gives a request's blocks back.
    pub(crate) fn release(&mut self, ids: &[BlockId]) {
        for id in ids.iter().rev() {
            let Some(block) = self.blocks.get_mut(*id) else { continue };
            block.references = block.references.saturating_sub(1);
            if block.references > 0 {
                continue;
            }
            if block.hash.is_some() {
                block.stamp = self.next_stamp;
                self.evictable.insert(self.next_stamp, *id);
                self.next_stamp = self.next_stamp.saturating_add(1);
            } else {
                self.empty.push(*id);
            }
        }
    }

    /// Forgets every content that nobody refers to.
    pub(crate) fn forget(&mut self) {
        while let Some((_, id)) = self.evictable.pop_first() {
            if let Some(hash) = self.blocks.get_mut(id).and_then(|block| block.hash.take()) {
                self.cached.remove(&hash);
            }
            self.empty.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Blocks;

    #[test]
    fn leaves_are_evicted_before_what_they_stand_on() {
        let mut blocks = Blocks::new(4);
        let chain: Vec<_> = [10, 11, 12]
            .into_iter()
            .map(|hash| {
                let id = blocks.take().unwrap();
                blocks.fill(id, hash);
                id
            })
            .collect();
        blocks.release(&chain);
        assert_eq!((blocks.free(), blocks.hits(&[10, 11, 12])), (3, 3));
        blocks.take().unwrap();
        assert_eq!(blocks.hits(&[10, 11, 12]), 2);
        blocks.forget();
        assert_eq!((blocks.free(), blocks.hits(&[10])), (2, 0));
    }

    #[test]
    fn a_shared_block_is_free_when_the_last_gives_it_back() {
        let mut blocks = Blocks::new(3);
        let first = blocks.take().unwrap();
        blocks.fill(first, 1);
        assert_eq!(blocks.share(1), Some(first));
        blocks.release(&[first]);
        assert_eq!(blocks.free(), 1);
        assert!((blocks.usage() - 0.5).abs() < 1e-9);
        blocks.release(&[first]);
        assert_eq!((blocks.free(), blocks.idle_among(&[1])), (2, 1));
    }
}
