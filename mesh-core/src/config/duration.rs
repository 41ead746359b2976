//! Durations as Kubernetes, Go and protobuf write them: `1h`, `1m30s`, `250ms`, `0.5s`.
