//! One connection: its first byte, its handshake, its admission, its requests, its end.
//!
//! ```text
//! accepted --first byte--> [TLS handshake] --admitted--> serving --leaving, forbidden, idle--> closing --> closed
//!     \__________________________\______________________/ turned away: closed without a byte of HTTP
//! ```

use crate::{
    activity::Activity,
    authorize::Record,
    client_cert::ClientCert,
    edge::{Door, Edge},
    entrance::{Entered, Standing, enter},
    handler::Handler,
    inbound::Inbound,
    limits::Limits,
    normalise::Normalise,
    overload::{Limiter, RateLimiter},
    protocol::{self, Conversation},
    stream::Stream,
    trusted_hops::TrustedHops,
    turned_away::{Log, TurnedAway},
};
use mesh_core::{config::istio::MtlsMode, overload::Overload, time::Time};
use mesh_runtime::{
    Workload,
    callers::Caller,
    identity::Side,
    room::Room,
    telemetry::{Gate, GateReading},
};
use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch, time::timeout};

/// What the connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) workload: Workload,
    pub(crate) limits: Limits,
    pub(crate) manners: Manners,
    pub(crate) rate_limiter: RateLimiter,
    /// Who runs and who waits.
    pub(crate) limiter: Arc<Limiter>,
    /// The workload port, by which policy speaks of it.
    pub(crate) port: u16,
    pub(crate) log: Log,
    /// Where the decisions of policy go.
    pub(crate) record: Arc<Record>,
    pub(crate) silent: Arc<Room>,
    pub(crate) handshakes: Arc<Room>,
    leaving: AtomicBool,
}

/// How a server meets those who come.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) normalise: Normalise,
    pub(crate) trusted_hops: TrustedHops,
    /// What it is the edge of, if it lets the world in.
    pub(crate) edge: Option<Edge>,
}

/// What connections are told. Each change is seen by every one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notice {
    /// How often the configuration changed.
    pub(crate) configurations: u64,
    /// How often the identity, and with it perhaps a bundle, changed.
    pub(crate) identities: u64,
    /// The server closes: finish what is in flight.
    pub(crate) closing: bool,
}

impl Shared {
    pub(crate) fn new(
        workload: Workload,
        limits: Limits,
        manners: Manners,
        overload: &Overload,
        port: u16,
    ) -> Arc<Self> {
        let clock = workload.clock();
        let shared = Arc::new(Self {
            log: Log::new(clock),
            record: Arc::new(Record::new(Arc::clone(workload.telemetry()), clock)),
            rate_limiter: RateLimiter::new(&overload.rate, clock),
            limiter: Limiter::new(overload.requests_max, overload.queue, clock),
            // A silent connection has earned nothing: it makes room whatever its age.
            silent: Room::new(limits.silent_max, Duration::ZERO),
            handshakes: Room::new(limits.handshakes_max, limits.handshake_patience),
            leaving: AtomicBool::new(false),
            workload,
            limits,
            manners,
            port,
        });
        shared.on_configuration();
        let gate: Weak<dyn Gate> = Arc::downgrade(&(Arc::clone(&shared) as Arc<dyn Gate>));
        shared.workload.telemetry().on_gate(gate);
        shared
    }

    /// Another configuration is in force. What connections need of it they look up; this is what the server keeps.
    pub(crate) fn on_configuration(&self) {
        let configuration = self.workload.config().current();
        self.limiter.on_pool(configuration.inbound().pools.at(self.port));
    }

    /// The server is about to leave: HTTP/1.1 answers say `connection: close` from now on.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// A connection is closed without an answer: counts and logs it.
    pub(crate) fn turn_away(&self, why: &TurnedAway, peer: SocketAddr) {
        self.workload.telemetry().on_handshake_refused(Side::Client, why.reason());
        if let Some(evidence) = why.evidence() {
            self.workload.callers().on_refused(&evidence, peer.ip(), self.port);
        }
        self.log.on(why, peer);
    }

    /// Returns the mutual TLS mode in force. It is for peers of the mesh, of whom an edge knows none.
    pub(crate) fn mode(&self) -> MtlsMode {
        if self.manners.edge.is_some() {
            return MtlsMode::Permissive;
        }
        self.workload.config().current().inbound().mode(self.port)
    }
}

impl Gate for Shared {
    fn reading(&self) -> GateReading {
        let mut reading = GateReading { port: self.port, ..self.limiter.reading() };
        reading.refused.push(("rate", self.rate_limiter.refused()));
        reading
    }
}

/// Serves one accepted connection to its end.
pub(crate) async fn run<H: Handler>(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    handler: H,
    mut notices: watch::Receiver<Notice>,
) {
    let destination = stream.local_addr().ok();
    // From before the handshake: what changes during it is seen afterwards.
    let seen = *notices.borrow_and_update();
    let entered = tokio::select! {
        biased;
        entered = enter(&shared, stream) => entered,
        () = told_to_close(&mut notices) => return,
    };
    match entered {
        Ok(entered) => {
            let caller = entered.standing.caller(&shared, address);
            let (sni, certificate) = (entered.sni.clone(), entered.certificate.clone());
            let door = entered.door.clone();
            let ends = Ends { address, destination, sni, caller, certificate, door };
            entered.serve(shared, ends, handler, Notices { seen, notices }).await;
        }
        Err(why) => shared.turn_away(&why, address),
    }
}

/// Waits until the server closes, and then as long as somebody who has just connected may take to say why.
async fn told_to_close(notices: &mut watch::Receiver<Notice>) {
    // An error is a server that is gone: that is closing, too.
    let _ = notices.wait_for(|notice| notice.closing).await;
    tokio::time::sleep(LAST_WORD).await;
}

/// How long a connection on which nothing has been asked yet may stay when the server closes: its caller opened it
/// because it was about to ask.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Who and what a connection connects.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// The peer's address.
    pub(crate) address: SocketAddr,
    /// Ours, if the system tells it.
    pub(crate) destination: Option<SocketAddr>,
    /// The server name that the peer asked for.
    pub(crate) sni: Option<Arc<str>>,
    /// Where what it asks for is recorded.
    pub(crate) caller: Arc<Caller>,
    /// What requests say of the peer's certificate.
    pub(crate) certificate: Option<ClientCert>,
    /// How it came in, at an edge.
    pub(crate) door: Option<Door>,
}

impl Entered {
    async fn serve<H: Handler>(self, shared: Arc<Shared>, ends: Ends, handler: H, notices: Notices) {
        let Self { transport, http2, standing, admitted, .. } = self;
        let address = ends.address;
        let metrics = shared.workload.telemetry().server(admitted.peer());
        let activity = Activity::new(shared.workload.clock(), metrics);
        let stream = Stream::new(transport, http2, Arc::clone(&activity), &shared.limits);
        let inbound = Inbound::new(handler, &admitted, ends, Arc::clone(&shared), Arc::clone(&activity));
        let expires = standing.expires(&shared);
        let serving = Serving { shared, address, standing, expires, activity, notices };
        if http2 {
            let conversation = protocol::http2(stream, inbound, &serving.shared.limits);
            serving.drive(conversation).await;
        } else {
            let conversation = protocol::http1(stream, inbound, &serving.shared.limits);
            serving.drive(conversation).await;
        }
    }
}

/// A connection that is being served.
struct Serving {
    shared: Arc<Shared>,
    address: SocketAddr,
    standing: Standing,
    /// When the peer's certificate has ended.
    expires: Option<Time>,
    activity: Arc<Activity>,
    notices: Notices,
}

/// What a connection has been told, and will be.
struct Notices {
    /// What it has acted upon.
    seen: Notice,
    notices: watch::Receiver<Notice>,
}

/// Why a connection is closed that its caller would have kept.
enum Closing {
    /// The server leaves.
    Leaving,
    /// What it was admitted on holds no longer.
    Forbidden(TurnedAway),
    /// Nobody has asked anything for long.
    Idle,
}

impl Serving {
    async fn drive(mut self, conversation: impl Conversation) {
        let mut conversation = pin!(conversation);
        let closing = tokio::select! {
            biased;
            // First what the client has sent: a request that has arrived is not one for a closed connection.
            _ = conversation.as_mut() => return,
            closing = self.closing() => closing,
        };
        match &closing {
            Closing::Forbidden(why) => {
                self.activity.forbid();
                self.shared.turn_away(why, self.address);
            }
            Closing::Leaving if self.ends_before_its_first_word(conversation.as_mut()).await => return,
            Closing::Leaving | Closing::Idle => {}
        }
        conversation.as_mut().close();
        // What outlasts the limit is dropped with the connection.
        let _ = timeout(self.shared.limits.drain, conversation).await;
    }

    /// Waits for a reason to close.
    async fn closing(&mut self) -> Closing {
        loop {
            let notice = *self.notices.notices.borrow_and_update();
            if notice.closing {
                return Closing::Leaving;
            }
            if let Err(why) = self.check(notice) {
                return Closing::Forbidden(why);
            }
            self.notices.seen = notice;
            let idle_end = self.activity.idle_since() + self.shared.limits.idle;
            let clock = self.shared.workload.clock();
            if idle_end <= clock.now() {
                return Closing::Idle;
            }
            let look_again = self.expires.map_or(idle_end, |expires| expires.min(idle_end));
            tokio::select! {
                changed = self.notices.notices.changed() => if changed.is_err() { return Closing::Leaving },
                () = tokio::time::sleep_until(clock.instant(look_again)) => {}
            }
        }
    }

    /// Checks what may have changed since the last notice.
    fn check(&mut self, notice: Notice) -> Result<(), TurnedAway> {
        self.standing.judge(&self.shared)?;
        let has_ended = self.expires.is_some_and(|expires| expires <= self.shared.workload.clock().now());
        if has_ended || self.notices.seen.identities != notice.identities {
            self.standing.verify_again(&self.shared)?;
        }
        if has_ended {
            // Still valid: the wall clock was set back meanwhile.
            self.expires = self.standing.expires(&self.shared);
        }
        Ok(())
    }

    /// Serves a connection that has only just been opened until its first request has begun. Returns whether it ended
    /// instead: then there is nothing left to close.
    async fn ends_before_its_first_word(&self, mut conversation: Pin<&mut impl Conversation>) -> bool {
        let first_word = std::future::poll_fn(|cx| match conversation.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if self.activity.started() > 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        timeout(LAST_WORD, first_word).await.unwrap_or(false)
    }
}
