//! The conversation with the control endpoint: first certificate, long poll, lease, renewal, each with its own back-off.
