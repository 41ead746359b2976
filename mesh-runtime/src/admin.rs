//! The admin listener: `/metrics`, `/config`, `/clusters`, `/identity`, `/healthz`, `/readyz`. Loopback by default.
