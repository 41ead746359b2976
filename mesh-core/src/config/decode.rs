//! Reads nodes into types, collecting every finding on the way instead of stopping at the first.
