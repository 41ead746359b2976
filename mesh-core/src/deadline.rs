//! By when an answer must be complete, and how it travels: `grpc-timeout` and `x-envoy-expected-rq-timeout-ms`.
