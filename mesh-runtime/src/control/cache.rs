//! The last good state on disk: files of mode 0600 in one locked directory per namespace, service, account and version.
