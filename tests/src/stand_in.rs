//! What the stand-ins for image APIs share: connections, pictures, and the log of what they saw.

pub(crate) mod call_log;
pub(crate) mod connections;
pub(crate) mod pictures;
