//! A spawned task that ends with its owner.

/// A task that is aborted when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(tokio::task::JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Waits for its end; given up, it is aborted.
    pub(crate) async fn finish(mut self) {
        // Cancelled or panicked, it has ended.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
