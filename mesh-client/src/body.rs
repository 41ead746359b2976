//! The bodies: what goes out is one type for every pool, what comes back ends what the call held when it ends.

mod held;
mod request;
mod response;
mod tee;
mod upload;

pub use held::Held;
pub use request::RequestBody;
pub use response::{CallInfo, ResponseBody};
pub(crate) use tee::tee;
pub(crate) use upload::{Finish, Upload};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
