//! The clusters of a snapshot by number; the next snapshot shares every part in which nothing changed.

use super::Cluster;
use crate::route::ClusterId;
use std::sync::Arc;

/// Clusters by number.
#[derive(Clone, Debug, Default)]
pub(super) struct ClusterTable {
    /// All but the last have [`CHUNK`] clusters.
    chunks: Vec<Arc<Vec<Arc<Cluster>>>>,
}

impl ClusterTable {
    /// Returns cluster number `id`.
    pub(super) fn get(&self, id: ClusterId) -> &Arc<Cluster> {
        let index = id.0 as usize;
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    /// Returns every cluster in the order of numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Returns how many numbers are given out.
    pub(super) fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, |last| last.len())
    }

    /// Gives `cluster` the next number.
    pub(super) fn push(&mut self, cluster: Arc<Cluster>) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(cluster),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(cluster);
                self.chunks.push(Arc::new(chunk));
            }
        }
    }

    /// Puts `cluster` in the place of number `id`.
    pub(super) fn replace(&mut self, id: ClusterId, cluster: Arc<Cluster>) {
        let index = id.0 as usize;
        Arc::make_mut(&mut self.chunks[index / CHUNK])[index % CHUNK] = cluster;
    }
}

/// What one change copies, and how much the list of chunks is shorter than that of clusters: the root of ten thousand.
const CHUNK: usize = 128;
