//! What is wrong with the configuration, where, what was kept instead, and what to write.

mod render;

use super::resource::{Mark, ResourceKey};
use serde::Serialize;
use std::{fmt, sync::Arc};

/// How bad a finding is. Orders from harmless to harmful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// The configuration works, but probably not as meant.
    Warning,
    /// The object is not in force as written.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A stable name for a kind of finding: Istio's `IST....` where Istio has one, else `MESH....`.
///
/// Each code is declared once, as a constant, so that two findings cannot share one by accident.
// spec: istio pkg/config/analysis/msg/messages.yaml
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Code(&'static str);

impl Code {
    /// A field or value that Istio has deprecated.
    pub const DEPRECATED: Self = Self("IST0002");
    /// A host, subset or other object that is referred to and does not exist.
    pub const REFERENCE_NOT_FOUND: Self = Self("IST0101");
    /// What Istio's validating webhook would refuse.
    pub const SCHEMA: Self = Self("IST0106");
    /// Two virtual services claim one host.
    pub const CONFLICTING_HOSTS: Self = Self("IST0109");
    /// Two Sidecars select the same workloads.
    pub const CONFLICTING_SIDECARS: Self = Self("IST0110");
    /// Two Sidecars of one namespace select all of its workloads.
    pub const SIDECARS_WITHOUT_SELECTOR: Self = Self("IST0111");
    /// The service has several ports and the destination names none.
    pub const PORT_REQUIRED: Self = Self("IST0112");
    /// A regular expression that does not compile or exceeds its bound.
    pub const INVALID_REGEXP: Self = Self("IST0122");
    /// A DestinationRule and the server's policy disagree about mutual TLS.
    pub const MTLS_CONFLICT: Self = Self("IST0113");
    /// A selector that no workload carries.
    pub const NO_MATCHING_WORKLOAD: Self = Self("IST0127");
    /// A DestinationRule that does TLS without saying which authority to trust.
    pub const NO_SERVER_VERIFICATION: Self = Self("IST0128");
    /// Likewise, for one port.
    pub const NO_SERVER_VERIFICATION_OF_PORT: Self = Self("IST0129");
    /// A rule that no request can reach.
    pub const UNREACHABLE_RULE: Self = Self("IST0130");
    /// A match that an earlier one covers.
    pub const INEFFECTIVE_MATCH: Self = Self("IST0131");
    /// A VirtualService bound to a gateway whose servers do not have its host.
    pub const HOST_NOT_IN_GATEWAY: Self = Self("IST0132");
    /// What Istio accepts with a warning.
    pub const SCHEMA_WARNING: Self = Self("IST0133");
    /// A ServiceEntry that needs addresses for its protocol.
    pub const ADDRESSES_REQUIRED: Self = Self("IST0134");
    /// Two gateways claim one port and host.
    pub const CONFLICTING_GATEWAYS: Self = Self("IST0145");
    /// A route by the claims of a token that nobody checks.
    pub const CLAIMS_WITHOUT_AUTHENTICATION: Self = Self("IST0149");
    /// A policy that takes no effect.
    pub const INEFFECTIVE_POLICY: Self = Self("IST0167");
    /// The document is not readable as YAML or JSON.
    pub const UNREADABLE: Self = Self("MESH0001");
    /// A kind that has no meaning inside a process.
    pub const FOREIGN_KIND: Self = Self("MESH0002");
    /// A field that is known and has no effect inside a process.
    pub const NO_EFFECT: Self = Self("MESH0003");
    /// An API version under which the kind never existed.
    pub const ODD_API_VERSION: Self = Self("MESH0004");
    /// Two documents define the same object.
    pub const DUPLICATE_OBJECT: Self = Self("MESH0005");
    /// A subset that no endpoint belongs to.
    pub const EMPTY_SUBSET: Self = Self("MESH0006");
    /// A security setting whose reach the user may not expect.
    pub const SECURITY_NOTE: Self = Self("MESH0007");
    /// A budget of the loader was exceeded.
    pub const TOO_LARGE: Self = Self("MESH0008");
    /// Outlier detection that can never eject an endpoint.
    pub const NEVER_EJECTS: Self = Self("MESH0009");
    /// A push that lacks what it should not lack: every object, every workload, or the endpoints of a service.
    pub const EMPTY_PUSH: Self = Self("MESH0010");

    /// A timeout that leaves no room for the tries it bounds.
    pub const TIMEOUT_BELOW_TRIES: Self = Self("MESH0011");
    /// A per-try timeout that the retry conditions do not retry.
    pub const TRY_TIMEOUT_NOT_RETRIED: Self = Self("MESH0012");
    /// A `tls` block that switches automatic mutual TLS off.
    pub const AUTO_MTLS_OFF: Self = Self("MESH0013");
    /// A regular expression that costs more than what it does is worth.
    pub const REGEX_COST: Self = Self("MESH0014");
    /// Weights that do not add up to what their author seems to mean.
    pub const ODD_WEIGHTS: Self = Self("MESH0015");
    /// A route to a namespace or kind of object that this workload cannot see.
    pub const NOT_VISIBLE: Self = Self("MESH0016");

    /// Returns the code as text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A place in a file. Lines and columns count from 1; column in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The file as it was named to the loader, or the URL of a control endpoint.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Location {
    /// Returns the place `mark` of `file`.
    pub fn new(file: &Arc<str>, mark: Mark) -> Self {
        Self { file: Arc::clone(file), line: mark.line, column: mark.column }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One finding about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of finding it is.
    pub code: Code,
    /// How bad it is.
    pub level: Level,
    /// What is wrong, with the offending value in it.
    pub message: String,
    /// What to write instead, if there is one thing to write.
    pub help: Option<String>,
    /// The object it is about, as far as it could be told.
    pub resource: Option<ResourceKey>,
    /// Where it is.
    pub location: Option<Location>,
    /// The field, as `spec.http[0].route[1].weight`; empty if the whole object is meant.
    pub path: String,
    /// What is in force instead, e.g. `the version read before stays in force`.
    pub kept: Option<String>,
}

impl Diagnostic {
    /// Returns a finding without a place; chain the other parts on.
    pub fn new(code: Code, level: Level, message: impl Into<String>) -> Self {
        Self {
            code,
            level,
            message: message.into(),
            help: None,
            resource: None,
            location: None,
            path: String::new(),
            kept: None,
        }
    }

    /// Returns an error.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Level::Error, message)
    }

    /// Returns a warning.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Level::Warning, message)
    }

    /// Returns whether it is an error.
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the object.
    #[must_use]
    pub fn about(mut self, resource: &ResourceKey) -> Self {
        self.resource = Some(resource.clone());
        self
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Adds the field path.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Adds what is in force instead.
    #[must_use]
    pub fn kept(mut self, kept: impl Into<String>) -> Self {
        self.kept = Some(kept.into());
        self
    }
}

/// One line, as it stands in a log: `file:line:column: error[IST0106] Kind ns/name spec.x: message; help; kept`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        write!(f, "{}[{}]", self.level, self.code)?;
        if let Some(resource) = &self.resource {
            write!(f, " {resource}")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        if let Some(kept) = &self.kept {
            write!(f, "; {kept}")?;
        }
        Ok(())
    }
}
