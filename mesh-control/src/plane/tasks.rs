//! What an endpoint does by itself: publish, let things end, watch the files, write to the disk.

use super::Plane;
use crate::{config_files::ConfigFiles, disk::wrote, locked};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

impl Plane {
    /// Starts everything that the endpoint does by itself; it ends with the set.
    pub(crate) fn spawn_tasks(self: &Arc<Self>, files: ConfigFiles) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(self).publish_on_demand());
        tasks.spawn(Arc::clone(self).let_things_end());
        tasks.spawn(Arc::clone(self).watch(files));
        tasks.spawn(Arc::clone(self).rotate());
        tasks.spawn(Arc::clone(self).write_on_demand());
        tasks
    }

    async fn publish_on_demand(self: Arc<Self>) {
        let mut made = self.made.subscribe();
        while made.changed().await.is_ok() {
            self.publish();
            sleep(PUBLISH_GAP).await;
        }
    }

    async fn let_things_end(self: Arc<Self>) {
        let mut ticks = interval(SWEEP_GAP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.sweep(now, now.duration_since(last));
            last = now;
        }
    }

    fn sweep(&self, now: Instant, since_last: Duration) {
        let ended = {
            let mut registry = locked(&self.registry);
            if since_last > STALL_MIN {
                tracing::warn!("this process did not run for {since_last:?}; leases are prolonged by that");
                registry.on_stall(since_last);
            }
            registry.sweep(now)
        };
        for (key, instance) in &ended.leases {
            tracing::warn!(
                "the lease of {instance} of {}/{} ended without a goodbye",
                key.namespace,
                key.service
            );
        }
        if ended.warming || !ended.leases.is_empty() {
            self.disk.on_leases();
            self.want_publication();
        }
        locked(&self.roster).sweep(now);
    }

    /// Reads the files whenever they change, and keeps the last good version of every object.
    async fn watch(self: Arc<Self>, mut files: ConfigFiles) {
        loop {
            sleep(POLL_GAP).await;
            let plane = Arc::clone(&self);
            let look = spawn_blocking(move || {
                if files.poll() {
                    let in_force = files.in_force();
                    locked(&plane.registry).on_config(in_force);
                    plane.want_publication();
                    wrote(files.save(plane.disk.data()), &plane.metrics);
                }
                files
            });
            match look.await {
                Ok(back) => files = back,
                Err(error) => return tracing::error!("the files are no longer watched: {error}"),
            }
        }
    }

    /// Takes up a rotation of the root that was asked for, and ends it in its time.
    async fn rotate(self: Arc<Self>) {
        let mut last = None;
        loop {
            sleep(ROTATION_GAP).await;
            let plane = Arc::clone(&self);
            let advance = move || plane.authorities.advance(plane.disk.data(), SystemTime::now());
            let trouble = match spawn_blocking(advance).await {
                Ok(advanced) => advanced.err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(trouble) = trouble.as_ref().filter(|_| trouble != last) {
                tracing::error!("the root is not rotated: {trouble}");
            }
            last = trouble;
        }
    }

    async fn write_on_demand(self: Arc<Self>) {
        loop {
            self.disk.wanted().await;
            let plane = Arc::clone(&self);
            // Its failures are its own to say.
            let _ = spawn_blocking(move || plane.flush()).await;
            sleep(DISK_GAP).await;
        }
    }
}

/// Short beside the second in which an edit must be everywhere, long beside the burst of a fleet's start.
const PUBLISH_GAP: Duration = Duration::from_millis(25);
const SWEEP_GAP: Duration = Duration::from_millis(250);
/// Longer than a loaded machine delays a task, shorter than the shortest lease that means it.
const STALL_MIN: Duration = Duration::from_secs(2);
const POLL_GAP: Duration = Duration::from_millis(250);
const ROTATION_GAP: Duration = Duration::from_secs(1);
const DISK_GAP: Duration = Duration::from_millis(100);
