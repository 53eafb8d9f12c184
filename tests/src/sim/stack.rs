//! What the template describes, read once for all runs.

use std::sync::OnceLock;

use darkroom_template::Stack;

use crate::stores::stack;

static STACK: OnceLock<Stack> = OnceLock::new();

/// The stack of every simulation.
///
/// # Errors
/// When the template is broken.
pub(crate) fn simulated() -> anyhow::Result<&'static Stack> {
    if let Some(stack) = STACK.get() {
        return Ok(stack);
    }
    let read = stack("simulated", "http://sqs.simulated")?;
    Ok(STACK.get_or_init(|| read))
}
