//! Another way to the providers than the network: a simulation's.

use std::io;
use std::sync::OnceLock;

use http::Uri;
use tokio::io::DuplexStream;

use super::connection::ConnectError;

/// Opens a stream to an origin.
pub type Dial = fn(&Uri) -> io::Result<DuplexStream>;

static DIAL: OnceLock<Dial> = OnceLock::new();

/// Opens every connection this way, in the whole process and for good, and paints a picture that was painted before no second
/// time. A simulation does this before anything is opened; no function and no command ever does.
pub fn simulate(dial: Dial) {
    DIAL.get_or_init(|| dial);
}

/// Whether this process is a simulation.
pub(crate) fn is_simulation() -> bool {
    DIAL.get().is_some()
}

/// A simulation's stream to there; `None` when there is no simulation.
pub(super) fn simulated(origin: &Uri) -> Option<Result<DuplexStream, ConnectError>> {
    let dialled = DIAL.get()?(origin);
    Some(dialled.map_err(|error| ConnectError::Unreachable(Box::new(error))))
}
