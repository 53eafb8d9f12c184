//! What a simulation does in a provider's place. No function and no command ever has it done.

use std::io;
use std::sync::OnceLock;

use http::Uri;
use tokio::io::DuplexStream;

use crate::local::{Painted, Picture};

/// Opens a stream to an origin, in the network's place.
pub type Dial = fn(&Uri) -> io::Result<DuplexStream>;

/// Paints a picture, in the place of a thread of its own.
pub type Paint = fn(Picture) -> Painted;

static SIMULATION: OnceLock<(Dial, Paint)> = OnceLock::new();

/// Opens every connection and paints every picture this way, in the whole process and for good. A simulation does this before
/// anything is opened.
pub fn simulate(dial: Dial, paint: Paint) {
    SIMULATION.get_or_init(|| (dial, paint));
}

/// A simulation's way to an origin; `None` when there is no simulation.
pub(crate) fn simulated_dial() -> Option<Dial> {
    SIMULATION.get().map(|(dial, _)| *dial)
}

/// A simulation's way to paint; `None` when there is no simulation.
pub(crate) fn simulated_paint() -> Option<Paint> {
    SIMULATION.get().map(|(_, paint)| *paint)
}
